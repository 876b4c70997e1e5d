"""Train and measure the systems of the comparison: ``python -m eval.systems --data fer2013.zip``.

Each system of eval/systems.toml that can be trained is trained, into RUNS/NAME, unless that is done
already, and measured, into OUT/NAME.json, unless the record there is of the same weights. Shipped
baselines are measured as they are. Names choose some. Ctrl-C stops; the same command goes on.

--check trains each named system again, in RUNS/repeated/NAME, and compares the accuracy with the
record's: the exit status is 1 if one differs by more than the tolerance that systems.toml states.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from classification.resplit import COMMAND as RESPLIT
from classification.training.recipe import load_recipe
from eval import classification
from eval.data import options
from eval.records.comparison import System, read_systems
from faces.command import Terminated, UserError, existing, note
from faces.files import file_sha256
from faces.provenance import read_card
from twostage import model_zoo

COMMAND = "eval.systems"


def choose(systems: Sequence[System], names: Sequence[str]) -> list[System]:
    """Return the systems that can be trained, or those of them that are named."""
    known = {system.classifier: system for system in systems if system.train}
    for name in names:
        if name not in known:
            raise UserError(f"{name}: no system that is trained; known: {', '.join(known)}")
    return [known[name] for name in names or known]


def training_words(system: System, data: Path, run_folder: Path) -> list[str]:
    """Return the arguments of Python that train a system, going on with what is there."""
    module, *words = shlex.split(system.train or "")
    resume = ["--resume"] if module == "classification.train" else []
    return ["-m", module, "--data", str(data), "--out", str(run_folder), *resume, *words]


def is_trained(system: System, run_folder: Path) -> bool:
    """Tell whether a run is finished, by the present recipe or through the present network."""
    card = run_folder / "card.json"
    if not card.is_file():
        return False
    words = shlex.split(system.train or "")
    training = read_card(card).get("training", {})
    if "--recipe" in words:
        at = words.index("--recipe") + 1
        recipe = load_recipe(Path(words[at]), words[at + 1 :])
        return recipe.is_recorded_as(training.get("recipe", {}))
    if "--network" not in words:
        return True
    network = Path(words[words.index("--network") + 1])
    return bool(training.get("network_sha256") == file_sha256(network))


def is_measured(record: Path, name_or_run: str) -> bool:
    """Tell whether a record is there and of the classifier's present weights."""
    if not record.is_file():
        return False
    try:
        known = json.loads(record.read_text(encoding="utf-8"))["weights_sha256"]
    except (ValueError, KeyError, TypeError):
        return False
    return bool(known == model_zoo.classifier_facts(name_or_run)["weights_sha256"])


def data_of(system: System, data: Path, runs: Path) -> Path:
    """Return FER2013 as a system has it; where that is a random split, made in ``runs`` once."""
    if not system.resplit:
        return data
    split = runs / "fer2013_resplit.zip"
    if not split.exists():
        python("-m", RESPLIT, "--data", str(data), "--out", str(split))
    return split


def measure(system: System, data: Path, name_or_run: str, record: Path) -> None:
    """Write a system's record; UserError if that fails, with the cause on standard error."""
    words = ["--data", str(data), "--split", system.split, "--classifier", name_or_run]
    if classification.main([*words, "--views", system.views, "--out", str(record)]):
        raise UserError(f"{system.classifier}: could not be measured")


def train_and_measure(system: System, data: Path, runs: Path, out: Path) -> None:
    """Do what of a system is not done yet; one that is shipped is measured as shipped."""
    data = data_of(system, data, runs)
    name_or_run = system.classifier
    if name_or_run not in model_zoo.shipped_models("classifier"):
        folder = runs / system.classifier
        if not is_trained(system, folder):
            python(*training_words(system, data, folder))
        name_or_run = str(folder)
    record = out / f"{system.classifier}.json"
    if not is_measured(record, name_or_run):
        measure(system, data, name_or_run, record)


def repeat(system: System, data: Path, runs: Path, out: Path) -> tuple[float, float]:
    """Train and measure a system again, in a folder of ``runs`` that is gone afterwards.

    Returns:
        The accuracies of its record in ``out`` and of the repetition.
    """
    record = out / f"{system.classifier}.json"
    if not record.is_file():
        raise UserError(f"{record}: no record to compare with; leave --check out first")
    folder = runs / "repeated" / system.classifier
    data = data_of(system, data, folder)
    run_folder, again = folder / system.classifier, folder / record.name  # named as the first
    if not is_trained(system, run_folder):
        python(*training_words(system, data, run_folder))
    measure(system, data, str(run_folder), again)
    first, second = (
        json.loads(path.read_text(encoding="utf-8"))["accuracy"] for path in (record, again)
    )
    shutil.rmtree(folder)
    return float(first), float(second)


def check(system: System, data: Path, runs: Path, out: Path) -> bool:
    """Tell, also on standard output, whether a system's repetition gives the recorded accuracy."""
    recorded, repeated = repeat(system, data, runs, out)
    points = 100 * abs(recorded - repeated)
    right = points <= system.tolerance + 1e-9
    print(
        f"{system.classifier}: recorded {100 * recorded:.2f} %, repeated {100 * repeated:.2f} %: "
        f"{'within' if right else 'NOT within'} {system.tolerance} points"
    )
    return right


def python(*words: str) -> None:
    """Run Python here; Ctrl-C, which it gets too, and SIGTERM leave it the time to save.

    Raises:
        UserError: it failed.
        KeyboardInterrupt: it was interrupted.
    """
    process = subprocess.Popen([sys.executable, *words])
    try:
        status = process.wait()
    except KeyboardInterrupt as stop:
        if isinstance(stop, Terminated):
            process.terminate()
        process.wait()
        raise
    if status == 130:
        raise KeyboardInterrupt
    if status:
        raise UserError(f"failed with status {status}: python {shlex.join(words)}")


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="systems (default: all)")
    parser.add_argument("--data", type=Path, required=True, help="FER2013: csv, folder, or zip")
    parser.add_argument("--runs", type=Path, default=Path("runs/systems"), help="run folders")
    parser.add_argument(
        "--out", dest="records", type=Path, default=Path("results/systems"), help="records"
    )
    parser.add_argument("--check", action="store_true", help="repeat and compare with the records")


def _run(arguments: Namespace) -> int:
    data = existing(arguments.data, "--data")
    right = True
    for system in choose(read_systems(), arguments.names):
        note(COMMAND, system.title)
        if arguments.check:
            right &= check(system, data, arguments.runs, arguments.records)
        else:
            train_and_measure(system, data, arguments.runs, arguments.records)
    return 0 if right else 1


main = options.Command(COMMAND, __doc__, _add_options, _run)

if __name__ == "__main__":
    raise SystemExit(main())
