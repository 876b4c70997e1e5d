"""Measure anew what depends on changed weights: ``python -m eval.refresh --data data``.

In order: every record of results/ that does not name the present weights by their hash, by the
command that it holds, unless that reads a run folder that is not here; the systems of the
comparison whose run folders are here; docs/results.md, the README's tables and docs/figures. --data
stands for the folder ``data`` of these commands.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.command import EvaluationError, existing, note, run
from eval.comparison import read_systems
from eval.report import Run
from eval.systems import python, train_and_measure
from eval.tables import ROOT, read_runs
from twostage.models import shipped_models

COMMAND = "eval.refresh"
DATA, RUNS = "data", "runs"


def present_hashes() -> dict[str, str]:
    """Return the sha256 of each shipped model that has a card, as the card says."""
    stages = ("detector", "classifier")
    models = [model for stage in stages for model in shipped_models(stage).values()]
    return {model.name: model.card()["sha256"] for model in models if model.weights.is_file()}


def is_current(record: Run, present: dict[str, str]) -> bool:
    """Tell whether a record names the weights it measured, and these are the shipped ones."""
    measured: dict[str, Any] = record.get("weights_sha256") or {}
    return bool(measured) and all(present.get(name) == sha for name, sha in measured.items())


def stale_commands(records: Sequence[Run], present: dict[str, str]) -> list[list[str]]:
    """Return the commands of the records that are not current, as words, each once, in order."""
    stale = [one["command"] for one in records if not is_current(one, present)]
    return [shlex.split(command) for command in dict.fromkeys(stale)]


def moved(words: Sequence[str], data: Path) -> list[str]:
    """Return a record's command for data that lie elsewhere: ``data/x`` becomes ``DATA/x``.

    Raises:
        EvaluationError: the command is none that can be run again.
    """
    if list(words[:2]) != ["python", "-m"] or "--out" not in words:
        raise EvaluationError(f"{shlex.join(words)}: no command of a record; measure it anew")
    prefix = f"{DATA}/"
    return [
        str(data / word.removeprefix(prefix)) if word.startswith(prefix) else word
        for word in words[1:]
    ]


def absent_runs(words: Sequence[str]) -> list[str]:
    """Return the run folders that a command reads and that are not here."""
    paths = [word.rpartition("=")[2] for word in words]
    return [path for path in paths if path.startswith(f"{RUNS}/") and not Path(path).exists()]


def refresh(data: Path, runs: Path, results: Path) -> None:
    """Do all that is out of date.

    Raises:
        EvaluationError: a command failed; it is in the message.
    """
    records = [one for one in read_runs(results) if "/" not in one["record"]]
    for words in stale_commands(records, present_hashes()):
        absent = absent_runs(words)
        if absent:
            note(COMMAND, f"left out, as {', '.join(absent)} is not here: {shlex.join(words)}")
            continue
        note(COMMAND, shlex.join(words))
        python(*moved(words, data))
    for system in read_systems():
        if system.train and (runs / system.classifier / "card.json").is_file():
            train_and_measure(system, data / "fer2013.zip", runs, results / "systems")
    python("-m", "eval.tables")
    python("-m", "eval.figures", "--photo", "samples/group.jpg")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {COMMAND}",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument("--runs", type=Path, default=Path("runs/systems"), help="run folders")
    args = parser.parse_args(argv)

    def action() -> int:
        existing(args.data, "--data")
        refresh(args.data, args.runs, ROOT / "results")
        return 0

    return run(COMMAND, action)


if __name__ == "__main__":
    sys.exit(main())
