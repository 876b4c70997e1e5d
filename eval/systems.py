"""Train and measure the systems of the comparison: ``python -m eval.systems --data fer2013.zip``.

Each system of eval/systems.toml that can be trained is trained, into RUNS/NAME, unless that is done
already, and measured, into OUT/NAME.json, unless the record there is of the same weights. Names
choose some of them. Ctrl-C stops; the same command goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from classification.resplit import COMMAND as RESPLIT
from eval import classification
from eval.command import EvaluationError, classifier_facts, existing, note, run
from eval.comparison import System, read_systems

COMMAND = "eval.systems"


def choose(systems: Sequence[System], names: Sequence[str]) -> list[System]:
    """Return the systems that can be trained, or those of them that are named.

    Raises:
        EvaluationError: a name is none of them.
    """
    known = {system.classifier: system for system in systems if system.train}
    for name in names:
        if name not in known:
            raise EvaluationError(f"{name}: no system that is trained; known: {', '.join(known)}")
    return [known[name] for name in names or known]


def training_words(system: System, data: Path, run_folder: Path) -> list[str]:
    """Return the arguments of Python that train a system, going on with what is there."""
    module, *options = shlex.split(system.train or "")
    resume = ["--resume"] if module == "classification.train" else []
    return ["-m", module, "--data", str(data), "--out", str(run_folder), *resume, *options]


def is_trained(system: System, run_folder: Path) -> bool:
    """Tell whether a run is finished; one that looks through a network, through the present one."""
    card = run_folder / "card.json"
    if not card.is_file():
        return False
    words = shlex.split(system.train or "")
    if "--network" not in words:
        return True
    training = json.loads(card.read_text(encoding="utf-8"))["training"]
    with Path(words[words.index("--network") + 1]).open("rb") as file:
        return bool(training["network_sha256"] == hashlib.file_digest(file, "sha256").hexdigest())


def is_measured(record: Path, run_folder: Path) -> bool:
    """Tell whether a record is there and of the run's present weights."""
    if not record.is_file():
        return False
    try:
        known = json.loads(record.read_text(encoding="utf-8"))["weights_sha256"]
    except (ValueError, KeyError, TypeError):
        return False
    return bool(known == classifier_facts(str(run_folder))["weights_sha256"])


def train_and_measure(system: System, data: Path, runs: Path, out: Path) -> None:
    """Do what of a system is not done yet.

    Raises:
        EvaluationError: its training or measurement failed; the command that did is in the message.
    """
    folder, record = runs / system.classifier, out / f"{system.classifier}.json"
    if system.resplit:
        whole, data = data, runs / "fer2013_resplit.zip"
        if not data.exists():
            python("-m", RESPLIT, "--data", str(whole), "--out", str(data))
    if not is_trained(system, folder):
        python(*training_words(system, data, folder))
    if not is_measured(record, folder):
        words = ["--data", str(data), "--split", system.split, "--classifier", str(folder)]
        if classification.main([*words, "--views", system.views, "--out", str(record)]):
            raise EvaluationError(f"{system.classifier}: could not be measured")


def python(*words: str) -> None:
    """Run Python here.

    Raises:
        EvaluationError: it failed.
        KeyboardInterrupt: it was interrupted.
    """
    status = subprocess.run([sys.executable, *words], check=False).returncode
    if status == 130:
        raise KeyboardInterrupt
    if status:
        raise EvaluationError(f"failed with status {status}: python {shlex.join(words)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {COMMAND}",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="systems (default: all)")
    parser.add_argument("--data", type=Path, required=True, help="FER2013: csv, folder, or zip")
    parser.add_argument("--runs", type=Path, default=Path("runs/systems"), help="run folders")
    parser.add_argument("--out", type=Path, default=Path("results/systems"), help="records")
    args = parser.parse_args(argv)

    def action() -> int:
        existing(args.data, "--data")
        for system in choose(read_systems(), args.names):
            note(COMMAND, system.title)
            train_and_measure(system, args.data, args.runs, args.out)
        return 0

    return run(COMMAND, action)


if __name__ == "__main__":
    sys.exit(main())
