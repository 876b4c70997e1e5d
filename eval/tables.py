"""Make docs/results.md, docs/comparison.md and the README's table: ``python -m eval.tables``.

Every figure of ours is from results/, written by an evaluation command's ``--out``; none is typed
by hand.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from eval import (
    ablation,
    calibration,
    classification,
    crop_study,
    detection,
    detector_training,
    joint,
    multilabel,
    operating_point,
    robustness,
    unsure,
    video,
)
from eval.data import options
from eval.records import comparison, publish, sections
from eval.records.comparison import find_systems
from eval.records.front_table import contents, front_table
from eval.records.report import Row, cell, cells, markdown, read_record
from faces.command import UserError
from faces.files import write_text
from faces.views import VIEWS

COMMAND = "eval.tables"
ROOT = Path(__file__).resolve().parent.parent

SECTIONS = (
    classification.SECTION,
    detection.SECTION,
    sections.DETECTOR_SPEED,
    sections.DETECTOR_SIZES,
    sections.DETECTOR_CURVE,
    sections.DETECTOR_BATCHES,
    detector_training.SECTION,
    sections.DETECTOR_COST,
    sections.CLASSIFIER_SPEED,
    robustness.SECTION,
    sections.ROTATIONS,
    ablation.SECTION,
    operating_point.SECTION,
    joint.SECTION,
    multilabel.SECTION,
    calibration.SECTION,
    unsure.SECTION,
    crop_study.SECTION,
    video.SECTION,
    sections.VIDEO_SPEED,
    sections.SERVICE_LOAD,
    sections.ROBUSTNESS_CAMPAIGN,
    sections.FOLDER_SOAK,
    sections.SERVICE_SOAK,
    sections.LIVE,
)
"""The sections of docs/results.md, in their order."""

KINDS = frozenset(section.kind for section in SECTIONS)

SHOWN = {
    "dataturks": "Dataturks",
    "portraits_detection": "portraits",
    "portraits_joint": "portraits",
    "scenes_detection": "scenes",
    "scenes_joint": "scenes",
    "wider_held_out": "WIDER, held out",
    "crossval": "mobilenet_fpn, trained on Dataturks, cross-validated",
}
"""What the summary calls records and models whose names say too little."""

NOT_MEASURED: Row = {
    "record": "any",
    "detector": "x101_fpn: needs a GPU and COCO weights, not measured here",
}
"""Last row of the tables that compare detectors, until x101_fpn is measured."""

START, END = "<!-- results: python -m eval.tables -->", "<!-- end of results -->"


def read_rows(folder: Path) -> list[Row]:
    """Read every row of a folder's records and of those in its folder ``systems``, in their order.

    Each row gets the key ``record``, its file's path in the folder without ending.

    Raises:
        UserError: there are none, or a file is no record of an evaluation or benchmark.
    """
    rows: list[Row] = []
    for path in sorted(folder.glob("*.json")) + sorted(folder.glob("systems/*.json")):
        record = path.relative_to(folder).with_suffix("").as_posix()
        rows += [{"record": record, **row} for row in read_record(path, KINDS)]
    if not rows:
        raise UserError(f"{folder}: holds no json; write some with --out {folder}/NAME.json")
    return rows


def select(rows: Sequence[Row], kind: str) -> list[Row]:
    """Return the rows of a kind, without those of ``systems``: the comparison shows them."""
    return [row for row in rows if row["kind"] == kind and "/" not in row["record"]]


def render(rows: Sequence[Row]) -> str:
    """Return the whole document in Markdown."""
    parts = [
        "# Results",
        "Made by `python -m eval.tables` from the records in `results/`; do not edit. Milliseconds "
        "are wall time on the machine of the record (its json names processor, threads, commit) "
        "and vary with its load; everything else is reproducible.",
    ]
    parts += summary(rows) + comparison.sections(rows)
    for section in SECTIONS:
        shown = select(rows, section.kind)
        if section in (detection.SECTION, joint.SECTION):
            shown = _with_unmeasured(shown)
        if shown:
            parts += [f"## {section.title}", section.markdown(shown)]
    lines = dict.fromkeys(f"- `{row['record']}`: `{row['command']}`" for row in rows)
    parts += ["## Commands", "\n".join(lines)]
    parts.insert(2, contents("\n\n".join(parts)))
    return "\n\n".join(parts) + "\n"


def _with_unmeasured(rows: list[Row]) -> list[Row]:
    if not rows or any("x101" in str(row.get("detector")) for row in rows):
        return rows
    return [*rows, NOT_MEASURED]


def update_readme(text: str, rows: Sequence[Row]) -> str:
    """Return the README with a new part between its two marks; UserError if one is missing."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise UserError(f"README.md: lacks the marks {START} and {END}; put them back")
    return "\n\n".join(filter(None, (before + START, front_table(rows), END + after)))


def summary(rows: Sequence[Row]) -> list[str]:
    """Return the part of docs/results.md that compares models over the data sets; may be empty."""
    detections = _with_unmeasured(select(rows, detection.SECTION.kind))
    pairs = select(rows, joint.SECTION.kind)
    tables = {
        "Which emotion a face crop shows (accuracy on FER2013's PrivateTest)": emotions(rows),
        "Where the faces of a photo are (AP50)": grid(detections, "detector", "record", "ap50"),
    }
    for record in dict.fromkeys(row["record"] for row in pairs):
        of_record = [row for row in pairs if row["record"] == record]
        title = f"Both together: faces found and named right, of all {_data_set(of_record[0])}"
        tables[title] = grid(of_record, "classifier", "detector", "joint_accuracy")
    parts = [f"### {title}\n\n{table}" for title, table in tables.items() if table]
    return ["## Models compared", *parts] if parts else []


def emotions(rows: Sequence[Row]) -> str:
    """Lay out classifiers' figures on PrivateTest in Markdown, one classifier per line.

    Packages that only the benchmark measured stand below ours.
    """
    by_name: dict[str, dict[str, Row]] = {}
    for kind in (classification.SECTION.kind, sections.CLASSIFIER_SPEED.kind):
        for row in select(rows, kind):
            if row["split"] == "PrivateTest":
                by_name.setdefault(row["classifier"], {}).setdefault(row["views"], row)
    others = sections.columns(
        "percent: without_twins.accuracy ferplus_majority.accuracy", "number: macro_f1"
    )
    body = []
    for name, by_view in by_name.items():
        single, flip, ten = (by_view.get(views, {}) for views in VIEWS)
        shares = (_with_interval(row, "accuracy") for row in (single, flip, ten))
        body.append([name, *shares, *cells(single, others)])
    heads = ["classifier", "one view", "two (mirror)", "ten"]
    heads += ["without twins", "FER+ majority", "macro F1"]
    return markdown(heads, body, ["left"])


def grid(rows: Sequence[Row], line: str, column: str, figure: str) -> str:
    """Lay out one figure of several models on several data sets, or of their pairs, in Markdown.

    ``line`` and ``column`` are the keys whose values name the lines and the columns; a record is a
    data set. ``figure`` is the key of a fraction, whose interval is ``figure_ci``.
    """
    headings: dict[str, str] = {}
    lines: dict[str, dict[str, str]] = {}
    for row in rows:
        name = str(row.get(line))
        found = lines.setdefault(SHOWN.get(name, name), {})
        if figure in row:
            found[row[column]] = _with_interval(row, figure)
            headings[row[column]] = _data_set(row) if column == "record" else row[column]
    body = [[name, *(found.get(key, "–") for key in headings)] for name, found in lines.items()]
    return markdown([line, *headings.values()], body, ["left"])


def _data_set(row: Row) -> str:
    name = SHOWN.get(row["record"], row["record"].replace("_", " "))
    return f"{name} ({row['faces']} faces)" if "faces" in row else name


def _with_interval(row: Row, figure: str) -> str:
    if row.get(figure) is None:
        return "–"
    interval = cell(row[f"{figure}_ci"], "percent").removesuffix(" %")
    return f"{cell(row[figure], 'percent')} ({interval})"


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="folder of records")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results.md", help="to write")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md", help="to update")


def _write(arguments: Namespace) -> None:
    rows = read_rows(arguments.results)
    template = publish.TEMPLATE.read_text(encoding="utf-8")
    documents = {
        arguments.out: render(rows),
        arguments.out.with_name("comparison.md"): publish.fill(template, find_systems(rows)),
        arguments.readme: update_readme(arguments.readme.read_text(encoding="utf-8"), rows),
    }
    for path, text in documents.items():
        write_text(path, text)
        print(f"wrote {path}")


main = options.Command(COMMAND, __doc__, _add_options, _write)

if __name__ == "__main__":
    raise SystemExit(main())
