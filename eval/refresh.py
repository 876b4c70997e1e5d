"""Measure again what depends on changed weights: ``python -m eval.refresh --data data``.

In order:
    1. what the cards of shipped networks say of them (``eval.card``),
    2. the records of results/ with their figures in docs/, by the commands that they hold:
       operating points first, then those that keep packages' answers for others to read,
    3. the systems of the comparison that are shipped, look through a shipped network, or have
       their run folders here,
    4. docs/results.md, docs/comparison.md, the README's tables, docs/figures.
What names the present weights, and detectors' present configurations, by their hashes is left as it
is. --data stands for the folder ``data`` of the commands. A record's command that failed, as
without the packages of ``make peers``, or whose input from runs/ is not here, is named at the end,
and the exit status is 1.

Not redone: calibration, as it changes the weights (``python -m classification.calibrate NAME``,
before this); networks that started from the changed ones or were taught by them (the commands are
on their cards); the thresholds of faces/types.py, which the records of several emotions and of
unsure faces suggest; the README's two screenshots of the page (``tests/browser/screenshots.py``).
"""

from __future__ import annotations

import json
import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from baselines.classifier import is_baseline
from eval.data import options
from eval.records.comparison import System, read_systems
from eval.records.report import Row
from eval.records.staleness import present_hashes
from eval.systems import python, train_and_measure
from eval.tables import read_rows
from faces.command import UserError, existing, note
from faces.files import file_sha256
from twostage.model_zoo import shipped_models

COMMAND = "eval.refresh"
DATA, RUNS = "data", "runs"
OUTPUTS = ("--out", "--picture", "--figures", "--gallery", "--keep")
"""The options of records' commands that name what is written."""


def is_current(record: Row, present: dict[str, str]) -> bool:
    """Tell whether a record names its weights, and they are the shipped ones or a run folder's."""
    measured: dict[str, str] | None = record.get("weights_sha256")
    if measured is None:
        return False
    folders = {Path(name).name for name in _names(shlex.split(record["command"])) if "/" in name}
    configs = {f"{name}.yaml" for name in measured} & present.keys()
    return configs <= measured.keys() and all(
        present.get(name) == sha or (name not in present and name in folders)
        for name, sha in measured.items()
    )


def stale_commands(records: Sequence[Row], present: dict[str, str]) -> list[list[str]]:
    """Return the commands of the records that are not current, as words, each once, in order."""
    stale = [one["command"] for one in records if not is_current(one, present)]
    commands = [shlex.split(command) for command in dict.fromkeys(stale)]
    return sorted(commands, key=lambda words: ("--write" not in words, "--keep" not in words))


def moved(words: Sequence[str], data: Path) -> list[str]:
    """Return a record's command for data that lie elsewhere: ``data/x`` becomes ``DATA/x``."""
    if list(words[:2]) != ["python", "-m"] or "--out" not in words:
        raise UserError(f"{shlex.join(words)}: no command of a record; measure it again")
    prefix = f"{DATA}/"
    return [
        str(data / word.removeprefix(prefix)) if word.startswith(prefix) else word
        for word in words[1:]
    ]


def absent_runs(words: Sequence[str]) -> list[str]:
    """Return the run folders that a command reads and that are not here."""
    read = [
        word for before, word in zip(["", *words], words, strict=False) if before not in OUTPUTS
    ]
    paths = [name.rpartition("=")[2] for name in _names(read)]
    return [path for path in paths if path.startswith(f"{RUNS}/") and not Path(path).exists()]


def _names(words: Sequence[str]) -> list[str]:
    """Return the words of a command, an ensemble's members one by one."""
    return [name for word in words for name in word.split("+")]


def stale_cards() -> list[str]:
    """Return the shipped networks whose cards have no figures of their present weights."""
    return [
        model.name
        for model in shipped_models("classifier").values()
        if not is_baseline(model.weights)
        and model.card().get("measured", {}).get("weights_sha256") != file_sha256(model.weights)
    ]


def is_due(system: System, runs: Path, results: Path, present: dict[str, str]) -> bool:
    """Tell whether a system can be measured without a long training, or has to be."""
    if not system.train:
        return False
    record = results / f"{system.classifier}.json"
    stale = record.is_file() and not is_current(json.loads(record.read_text("utf-8")), present)
    return stale or (runs / system.classifier / "card.json").is_file()


def refresh(data: Path, runs: Path, results: Path) -> list[str]:
    """Do all that is out of date; returns which records' commands were not done, and why."""
    fer2013, ferplus = str(data / "fer2013.zip"), str(data / "ferplus.csv")
    for name in stale_cards():
        python("-m", "eval.card", name, "--data", fer2013, "--ferplus", ferplus)
    present = present_hashes()
    records = [one for one in read_rows(results) if "/" not in one["record"]]
    left = []
    for words in stale_commands(records, present):
        if absent := absent_runs(words):
            left.append(f"{', '.join(absent)} is not here: {shlex.join(words)}")
            continue
        note(COMMAND, shlex.join(words))
        try:
            python(*moved(words, data))
        except UserError as error:
            left.append(str(error))
    systems = results / "systems"
    for system in read_systems():
        if is_due(system, runs, systems, present):
            train_and_measure(system, Path(fer2013), runs, systems)
    python("-m", "eval.tables")
    python("-m", "eval.figures", "--photo", "samples/group.jpg")
    return left


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument("--runs", type=Path, default=Path("runs/systems"), help="run folders")


def _refresh(arguments: Namespace) -> int:
    existing(arguments.data, "--data")
    results = existing(Path("results"), "that you are in the repository's root")
    left = refresh(arguments.data, arguments.runs, results)
    for one in left:
        note(COMMAND, f"not redone: {one}")
    return 1 if left else 0


main = options.Command(COMMAND, __doc__, _add_options, _refresh)

if __name__ == "__main__":
    raise SystemExit(main())
