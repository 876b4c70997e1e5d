"""Make docs/results.md and the README's tables from results/*.json: ``python -m eval.tables``.

Each of those files was written by an evaluation command's ``--out``; no figure is typed by hand.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tabulate import tabulate

from eval.command import EvaluationError, run
from eval.report import Run, cell

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
            "macro_f1": "number",
            "balanced_accuracy": "percent",
            "ms_per_face": "number",
            "precision": "text",
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
            "ap50": "percent",
            "ap75": "percent",
            "false_per_image": "number",
            "duplicates_per_image": "number",
            "ms_per_image": "number",
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
            "false_per_image": "number",
        },
    ),
}
"""The key that marks a kind of run → its section's title, and columns as in ``eval.report``."""


HEADLINES = {
    "confusion": ("split", "views", "n", "accuracy", "95 % interval", "macro_f1"),
    "ap": ("record", "images", "faces", "ap", "ap50", "false_per_image"),
    "joint_accuracy": ("record", "faces", "coverage", "accuracy_on_matched", "joint_accuracy"),
}
"""The columns of each section that the README shows."""

START, END = "<!-- results: python -m eval.tables -->", "<!-- end of results -->"


def read_runs(folder: Path) -> list[Run]:
    """Read every run of a folder's json files, in the order of their names.

    Each run gets the key ``record``, its file's name without ending.

    Raises:
        EvaluationError: there are none, or a file holds no run of an evaluation command.
    """
    runs: list[Run] = []
    for path in sorted(folder.glob("*.json")):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            found = document.get("runs", [document])
            runs += [{"record": path.stem, **one} for one in found]
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise EvaluationError(f"{path}: no record of an evaluation: {error}") from error
    for one in runs:
        if not any(mark in one for mark in SECTIONS) or "command" not in one:
            raise EvaluationError(
                f"{folder / one['record']}.json: no record of an evaluation command; measure anew"
            )
    if not runs:
        raise EvaluationError(f"{folder}: holds no json; write some with --out {folder}/NAME.json")
    return runs


def render(runs: Sequence[Run]) -> str:
    """Return the whole document in Markdown."""
    parts = [
        "# Results",
        "Made by `python -m eval.tables` from `results/*.json`; do not edit. Milliseconds are wall "
        "time on the machine of the record (its json names processor, threads, commit) and vary "
        "with its load; everything else is reproducible.",
    ]
    for mark, (title, columns) in SECTIONS.items():
        chosen = [one for one in runs if mark in one]
        if chosen:
            parts += [f"## {title}", _markdown(chosen, columns)]
    lines = dict.fromkeys(f"- `{one['record']}`: `{one['command']}`" for one in runs)
    parts += ["## Commands", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def update_readme(text: str, runs: Sequence[Run]) -> str:
    """Return the README with the part between its two marks made anew.

    Raises:
        EvaluationError: a mark is missing.
    """
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise EvaluationError(f"README.md: lacks the marks {START} and {END}; put them back")
    tables = []
    for mark, keys in HEADLINES.items():
        title, columns = SECTIONS[mark]
        chosen = [one for one in runs if mark in one]
        if chosen:
            shown = _markdown(chosen, {key: columns[key] for key in keys})
            tables.append(f"{title}:\n\n{shown}")
    return before + START + "\n\n" + "\n\n".join(tables) + "\n\n" + END + after


def _markdown(runs: Sequence[Run], columns: Mapping[str, str]) -> str:
    rows = []
    for one in runs:
        if "accuracy_ci" in one:
            low, high = one["accuracy_ci"]
            one = {**one, "95 % interval": f"{100 * low:.2f} – {100 * high:.2f} %"}
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
        for path, text in ((args.out, render(runs)), (args.readme, readme)):
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path}")
        return 0

    return run(COMMAND, action)


if __name__ == "__main__":
    sys.exit(main())
