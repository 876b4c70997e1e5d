"""Make docs/results.md, docs/comparison.md and the README's table: ``python -m eval.tables``.

Every figure of ours is from results/, written by an evaluation command's ``--out``; none is typed
by hand.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tabulate import tabulate

from eval import (
    ablation,
    calibration,
    crop_study,
    detector_training,
    multilabel,
    robustness,
    unsure,
)
from eval.records import comparison, publish
from eval.records.comparison import find_systems
from eval.records.front_table import contents, front_table
from eval.records.report import Run, cell
from faces.command import UserError, run
from faces.views import VIEWS

COMMAND = "eval.tables"
ROOT = Path(__file__).resolve().parent.parent

SECTIONS: dict[str, tuple[str, dict[str, str]]] = {
    "confusion": (
        "Emotions of face crops",
        {
            "record": "text",
            "classifier": "text",
            "split": "text",
            "views": "text",
            "n": "count",
            "accuracy": "percent",
            "95 % interval": "text",
            "without_twins": "percent",
            "ferplus_majority": "percent",
            "macro_f1": "number",
            "balanced_accuracy": "percent",
            "ms_per_face": "number",
            "number format": "text",
        },
    ),
    "ap": (
        "Faces in photos",
        {
            "record": "text",
            "detector": "text",
            "images": "count",
            "faces": "count",
            "min_size": "count",
            "ap": "percent",
            "ap_ci": "percent",
            "ap50": "percent",
            "ap50_ci": "percent",
            "ap50_difference": "percent",
            "ap50_difference_ci": "percent",
            "ap75": "percent",
            "ap_small": "percent",
            "ap_medium": "percent",
            "ap_large": "percent",
            "log_average_miss_rate": "percent",
            "coverage": "percent",
            "coverage_ci": "percent",
            "false_per_image": "number",
            "duplicates_per_image": "number",
            "ms_per_image": "number",
        },
    ),
    "ms_low": (
        "Detectors on one thread, one picture at a time",
        {
            "record": "text",
            "detector": "text",
            "ms_per_image": "number",
            "ms_low": "number",
            "ms_high": "number",
            "ap": "percent",
            "ap50": "percent",
        },
    ),
    "shortest_side": (
        "The light detector's accuracy beside its speed, on validation",
        {
            "record": "text",
            "detector": "text",
            "shortest_side": "count",
            "longest_side": "count",
            "proposals": "count",
            "validation_ap": "percent",
            "validation_ap50": "percent",
            "coverage": "percent",
            "cpu_ms_per_image": "number",
        },
    ),
    "pictures_per_batch": (
        "The light detector's networks with several pictures per call",
        {
            "record": "text",
            "detector": "text",
            "pictures_per_batch": "count",
            "ms_trunk": "number",
            "ms_box_head": "number",
            "ms_per_image": "number",
            "ms_least": "number",
            "ms_most": "number",
            "threads": "count",
        },
    ),
    "trained_detector": (
        "Trainings of detectors",
        {"record": "text"} | detector_training.COLUMNS,
    ),
    "training_gflops": (
        "What training X101-FPN costs, by the number of frozen stages",
        {
            "freeze_at": "count",
            "trained": "text",
            "trained_millions": "number",
            "training_gflops": "number",
            "memory_gb": "number",
            "expected_memory_gb": "number",
            "v100_hours": "number",
            "cpu_ms_per_image": "number",
        },
    ),
    "ms_by_batch": (
        "Classifiers' accuracy beside their speed",
        {
            "record": "text",
            "classifier": "text",
            "n": "count",
            "accuracy": "percent",
            "95 % interval": "text",
            "macro_f1": "number",
            "ms_at_1": "number",
            "ms_at_16": "number",
            "ms_at_64": "number",
            "ms_at_256": "number",
            "threads": "count",
        },
    ),
    "robustness": (
        "Accuracy when crops are not FER2013's",
        {"record": "text", "split": "text"} | robustness.COLUMNS,
    ),
    "ablation": (
        "What each ingredient of a training gives",
        {"variant": "text", "about": "text"}
        | {key: kind for key, kind in ablation.COLUMNS.items() if key != "variant"},
    ),
    "chosen_threshold": (
        "What detectors show, chosen on validation",
        {
            "record": "text",
            "detector": "text",
            "images": "count",
            "nms": "number",
            "voting": "number",
            "containment": "number",
            "chosen_threshold": "number",
            "f1": "percent",
            "coverage": "percent",
            "wrong_per_image": "number",
            "duplicates_per_image": "number",
            "validation_ap50": "percent",
        },
    ),
    "joint_accuracy": (
        "Both stages together",
        {
            "record": "text",
            "detector": "text",
            "classifier": "text",
            "faces": "count",
            "coverage": "percent",
            "accuracy_on_matched": "percent",
            "accuracy_on_true_boxes": "percent",
            "joint_accuracy": "percent",
            "joint_accuracy_ci": "percent",
            "without_doubtful": "percent",
            "joint_accuracy_difference": "percent",
            "joint_accuracy_difference_ci": "percent",
            "macro_joint_accuracy": "percent",
            "mean_ap50": "percent",
            "false_per_image": "number",
            "duplicates_per_image": "number",
        },
    ),
    "top_two_coverage": (
        "Several emotions at once, against FER+'s votes",
        {"record": "text", "split": "text"} | multilabel.COLUMNS,
    ),
    "ece": (
        "Calibration",
        {"record": "text"} | calibration.COLUMNS,
    ),
    "unsure_below": (
        "Unsure faces",
        {"record": "text", "split": "text"} | unsure.COLUMNS,
    ),
    "crop_shape": (
        "The crop",
        {"record": "text", "detector": "text"} | crop_study.COLUMNS,
    ),
}
"""The key that marks a kind of run → its section's title, and columns as in ``records.report``."""


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

COMPARE_DETECTORS = ("ap", "joint_accuracy")
NOT_MEASURED: Run = {
    "record": "any",
    "detector": "x101_fpn: needs a GPU and COCO weights, not measured here",
}
"""The last row of the tables that compare detectors, until one of it is measured."""

START, END = "<!-- results: python -m eval.tables -->", "<!-- end of results -->"


def read_runs(folder: Path) -> list[Run]:
    """Read every run of a folder's json files and of its folder ``systems``, in their order.

    Each run gets the key ``record``, its file's path in the folder without ending.

    Raises:
        UserError: there are none, or a file holds no run of an evaluation command.
    """
    runs: list[Run] = []
    for path in sorted(folder.glob("*.json")) + sorted(folder.glob("systems/*.json")):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            found = document.get("runs", [document])
            record = path.relative_to(folder).with_suffix("").as_posix()
            runs += [{"record": record, **one} for one in found]
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise UserError(f"{path}: no record of an evaluation: {error}") from error
    for one in runs:
        if not any(mark in one for mark in SECTIONS) or "command" not in one:
            raise UserError(
                f"{folder / one['record']}.json: no record of an evaluation command; measure anew"
            )
    if not runs:
        raise UserError(f"{folder}: holds no json; write some with --out {folder}/NAME.json")
    return runs


def render(runs: Sequence[Run]) -> str:
    """Return the whole document in Markdown."""
    parts = [
        "# Results",
        "Made by `python -m eval.tables` from the records in `results/`; do not edit. Milliseconds "
        "are wall time on the machine of the record (its json names processor, threads, commit) "
        "and vary with its load; everything else is reproducible.",
    ]
    parts += summary(runs) + comparison.sections(runs)
    for mark, (title, columns) in SECTIONS.items():
        chosen = _of_section(runs, mark)
        if chosen:
            parts += [f"## {title}", _markdown(chosen, columns)]
    lines = dict.fromkeys(f"- `{one['record']}`: `{one['command']}`" for one in runs)
    parts += ["## Commands", "\n".join(lines)]
    parts.insert(2, contents("\n\n".join(parts)))
    return "\n\n".join(parts) + "\n"


def update_readme(text: str, runs: Sequence[Run]) -> str:
    """Return the README with the part between its two marks made anew.

    Raises:
        UserError: a mark is missing.
    """
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise UserError(f"README.md: lacks the marks {START} and {END}; put them back")
    return "\n\n".join(filter(None, (before + START, front_table(runs), END + after)))


def summary(runs: Sequence[Run]) -> list[str]:
    """Return the part of docs/results.md that compares models over the data sets; may be empty."""
    faces, joint = _of_section(runs, "ap"), [one for one in runs if "joint_accuracy" in one]
    tables = {
        "Which emotion a face crop shows (accuracy on FER2013's PrivateTest)": emotions(runs),
        "Where the faces of a photo are (AP50)": grid(faces, "detector", "record", "ap50"),
    }
    for record in dict.fromkeys(one["record"] for one in joint):
        chosen = [one for one in joint if one["record"] == record]
        title = f"Both together: faces found and named right, of all {_data_set(chosen[0])}"
        tables[title] = grid(chosen, "classifier", "detector", "joint_accuracy")
    parts = [f"### {title}\n\n{table}" for title, table in tables.items() if table]
    return ["## Models compared", *parts] if parts else []


def emotions(runs: Sequence[Run]) -> str:
    """Lay out classifiers' figures on PrivateTest in Markdown, a row each.

    Packages that only the benchmark measured stand below ours.
    """
    rows: dict[str, dict[str, Run]] = {}
    private = [one for one in runs if "confusion" in one and one["split"] == "PrivateTest"]
    for one in sorted(private, key=lambda one: "ms_by_batch" in one):
        if "/" not in one["record"]:
            rows.setdefault(one["classifier"], {}).setdefault(one["views"], one)
    body = []
    for name, by_view in rows.items():
        single, flip, ten = (by_view.get(views, {}) for views in VIEWS)
        twins, majority = (single.get(key) or {} for key in ("without_twins", "ferplus_majority"))
        body.append(
            [
                name,
                _with_interval(single, "accuracy"),
                _with_interval(flip, "accuracy"),
                _with_interval(ten, "accuracy"),
                cell(twins.get("accuracy"), "percent"),
                cell(majority.get("accuracy"), "percent"),
                cell(single.get("macro_f1"), "number"),
            ]
        )
    heads = ["classifier", "one view", "two (mirror)", "ten"]
    heads += ["without twins", "FER+ majority", "macro F1"]
    return _pipe(body, heads)


def grid(runs: Sequence[Run], row: str, column: str, figure: str) -> str:
    """Lay out one figure of several models on several data sets, or of their pairs, in Markdown.

    Args:
        runs: as ``read_runs`` gives them; the record is the data set.
        row: the key whose value names a row.
        column: the same of a column.
        figure: the key of a fraction, whose interval is ``figure_ci``.
    """
    columns = list(dict.fromkeys(one[column] for one in runs if figure in one))
    rows: dict[str, dict[str, str]] = {}
    heads = {}
    for one in runs:
        name = str(one.get(row))
        cells = rows.setdefault(SHOWN.get(name, name), {})
        if figure in one:
            cells[one[column]] = _with_interval(one, figure)
            heads[one[column]] = _data_set(one) if column == "record" else one[column]
    body = [[name, *(cells.get(key, "–") for key in columns)] for name, cells in rows.items()]
    return _pipe(body, [row, *(heads[key] for key in columns)])


def _pipe(body: Sequence[Sequence[str]], heads: Sequence[str]) -> str:
    """Return a table in Markdown whose first column is text; empty without a row."""
    if not body:
        return ""
    align = ["left"] + ["right"] * (len(heads) - 1)
    return str(tabulate(body, heads, "pipe", colalign=align, disable_numparse=True))


def _data_set(run: Run) -> str:
    name = SHOWN.get(run["record"], run["record"].replace("_", " "))
    return f"{name} ({run['faces']} faces)" if "faces" in run else name


def _with_interval(run: Run, figure: str) -> str:
    if run.get(figure) is None:
        return "–"
    interval = cell(run[f"{figure}_ci"], "percent").removesuffix(" %")
    return f"{cell(run[figure], 'percent')} ({interval})"


def _of_section(runs: Sequence[Run], mark: str) -> list[Run]:
    """Return a section's runs; those of ``systems`` have a part of the document of their own."""
    chosen = [one for one in runs if mark in one and "/" not in one["record"]]
    for speed in ("ms_low", "ms_by_batch"):  # what measured speed has a section of its own
        if mark != speed:
            chosen = [one for one in chosen if speed not in one]
    measured = {str(one.get("detector")) for one in chosen}
    if mark in COMPARE_DETECTORS and chosen and not any("x101" in name for name in measured):
        chosen.append(NOT_MEASURED)
    return chosen


def _markdown(runs: Sequence[Run], columns: Mapping[str, str]) -> str:
    rows = []
    for one in runs:
        if "accuracy_ci" in one:
            low, high = one["accuracy_ci"]
            one = {**one, "95 % interval": f"{100 * low:.2f} – {100 * high:.2f} %"}
        for key in ("without_twins", "ferplus_majority"):
            if isinstance(one.get(key), dict):
                one = {**one, key: one[key]["accuracy"]}
        one = {**one, "number format": one.get("precision")}
        if isinstance(one.get("without_doubtful"), dict):
            one = {**one, "without_doubtful": one["without_doubtful"]["joint_accuracy"]}
        rows.append([cell(one.get(key), kind) for key, kind in columns.items()])
    heads = [key.replace("_", " ") for key in columns]
    align = ["left" if kind == "text" else "right" for kind in columns.values()]
    return str(tabulate(rows, heads, "pipe", colalign=align, disable_numparse=True))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog=f"python -m {COMMAND}", description=__doc__)
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="folder of records")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results.md", help="to write")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md", help="to update")
    args = parser.parse_args(argv)

    def action() -> int:
        runs = read_runs(args.results)
        readme = update_readme(args.readme.read_text(encoding="utf-8"), runs)
        told = publish.fill(publish.TEMPLATE.read_text(encoding="utf-8"), find_systems(runs))
        for path, text in (
            (args.out, render(runs)),
            (args.out.with_name("comparison.md"), told),
            (args.readme, readme),
        ):
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path}")
        return 0

    return run(COMMAND, action)


if __name__ == "__main__":
    sys.exit(main())
