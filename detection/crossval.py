r"""Cross-validate fine-tuning on Dataturks: every image judged by a model that never saw it.

One split of a hundred images proves little. This deals them into folds, fine-tunes one model per
fold on the others, from the same start, and pools what each finds in its own fold::

    python -m detection.crossval --start runs/light --dataturks face_detection.json images \
        --out runs/dataturks_folds

OUT/results.json (COCO results) and OUT/truth.json (COCO ground truth) go to ``eval.detection``. The
number of iterations (200; KEY VALUE pairs at the end change that) is fixed beforehand: nothing is
selected on a fold. The start must never have seen the set; its card is asked. The same command goes
on where it was stopped.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from detection.data.catalog import DataSpec, fingerprint, split_position, to_coco
from detection.inference.detectron import load_run
from detection.modeling import checkpoints
from detection.train import origin
from detection.training.evaluator import result
from faces.command import Command, UserError
from faces.files import read_json, write_json
from faces.images import read_image
from faces.provenance import git_commit

ABOUT_FILE = "crossval.json"

FINE_TUNING = ("SOLVER.MAX_ITER", "200", "SOLVER.BASE_LR", "0.0003", "TEST.EVAL_PERIOD", "0")
"""Overrides of the start's own configuration: short, gentle, and nothing selected on the way."""


def cross_validate(args: argparse.Namespace) -> int:
    """Train and judge every fold that is not there yet, pool them; return the exit status."""
    # the folds, and what must be the same where the command goes on
    json_file, images = args.dataturks
    weights, config = find_start(Path(args.start), Path(json_file).name)
    records = DataSpec("dataturks", Path(json_file), Path(images)).load()
    folds = deal(records, args.folds)
    out = Path(args.out)
    about = {
        "folds": [len(fold) for fold in folds],
        "data": fingerprint(records),
        "start": origin(str(weights)),
        "overrides": args.opts,
    }
    check_folder(out, about)
    write_json(out / ABOUT_FILE, about | {"command": args.made_by, "commit": git_commit()})

    # each fold is judged by a model that was trained on the others
    pooled: list[dict[str, Any]] = []
    for number, fold in enumerate(folds):
        folder = out / f"fold_{number}"
        file = folder / "results.json"
        if not file.is_file():
            others = [record for other in folds if other is not fold for record in other]
            write_json(folder / "train.json", to_coco(others), indent=None)
            print(f"fold {number + 1} of {len(folds)}: {len(others)} images to train on")
            data = ["--train-coco", str(folder / "train.json"), images]
            head = ["--config-file", str(config), "--num-gpus", str(args.num_gpus), *data]
            pairs = ["MODEL.WEIGHTS", str(weights), *FINE_TUNING, *args.opts]
            status = train_fold([*head, *pairs, "OUTPUT_DIR", str(folder / "run")])
            if status:
                return status
            found = list(predict(folder / "run", fold, "cuda" if args.num_gpus else "cpu"))
            write_json(file, found, indent=None)
        pooled += read_json(file)

    # what eval.detection measures
    write_json(out / "truth.json", to_coco(records), indent=None)
    write_json(out / "results.json", pooled, indent=None)
    print(
        f"{len(pooled)} detections in {len(records)} images. To measure:\n"
        f"python -m eval.detection --coco {out / 'truth.json'} "
        f"--results crossval={out / 'results.json'} "
        f"--results-threshold {load_run(out / 'fold_0' / 'run', 'cpu').score_threshold}"
    )
    return 0


def find_start(start: Path, set_name: str) -> tuple[Path, Path]:
    """Return the weights and the configuration that every fold starts from.

    The start is a run folder, or shipped weights. A ``UserError`` says that a file is missing, or
    that the card says that they were trained or chosen on the set whose json is ``set_name``.
    """
    if start.is_dir():
        names = (checkpoints.MODEL_FILE, checkpoints.CONFIG_FILE, checkpoints.CARD_FILE)
        weights, config, card_file = (start / name for name in names)
    else:
        weights, config, card_file = start, start.with_suffix(".yaml"), start.with_suffix(".json")
    for file in (weights, config):
        if not file.is_file():
            raise UserError(
                f"--start {start}: {file} is missing; give a finished run folder of "
                "detection.train, or shipped weights beside their yaml"
            )
    card = checkpoints.read_card(card_file)
    if not card:
        raise UserError(f"--start {start}: has no card, which would say what it was trained on")
    if set_name in set(sets_seen(card)):
        raise UserError(
            f"--start {start}: its card says that it has seen {set_name}, so its folds would prove "
            "nothing; start from weights trained without that set"
        )
    return weights, config


def sets_seen(card: dict[str, Any]) -> Iterator[str]:
    """Yield the json file names of all sets that a model, or one it started from, has seen."""
    for key in ("trained_on", "chosen_on"):
        for entry in card.get(key) or []:
            yield str(entry["set"]).split(",")[0].rsplit("/", 1)[-1]
    if isinstance(card.get("started_from"), dict):
        yield from sets_seen(card["started_from"])


def deal(records: Sequence[dict[str, Any]], folds: int) -> list[list[dict[str, Any]]]:
    """Deal records into folds of nearly equal size, by the SHA-256 of the images' names alone."""
    if not 2 <= folds <= len(records):
        raise UserError(f"--folds {folds}: must lie between 2 and the {len(records)} images")
    order = sorted(records, key=lambda record: split_position(Path(record["file_name"]).name))
    return [order[start::folds] for start in range(folds)]


def check_folder(out: Path, about: dict[str, Any]) -> None:
    """Raise a ``UserError`` if another cross-validation lies in ``out``."""
    file = out / ABOUT_FILE
    if file.is_file():
        before = read_json(file)
        differing = [key for key in about if before.get(key) != about[key]]
        if differing:
            raise UserError(
                f"{out}: holds a cross-validation with other {' and '.join(differing)}; name "
                "another --out"
            )


def train_fold(argv: list[str]) -> int:
    """Run or go on with ``detection.train`` in a process of its own; return its exit status."""
    folder = Path(argv[argv.index("OUTPUT_DIR") + 1])
    if (folder / checkpoints.MODEL_FILE).is_file():
        return 0
    resume = ["--resume"] if (folder / checkpoints.LAST_FILE).is_file() else []
    command = [sys.executable, "-m", "detection.train", *resume, *argv]
    return subprocess.run(command, check=False).returncode


def predict(folder: Path, fold: Sequence[dict[str, Any]], device: str) -> Iterator[dict[str, Any]]:
    """Yield what a run's detector finds in the images of a fold, whatever its score."""
    detector = load_run(folder, device)
    for record in tqdm(fold, desc="judging", unit="image", disable=None):
        for found in detector.detect([read_image(record["file_name"])], 0.0)[0]:
            yield result(record["image_id"], found.box.as_tuple(), found.score)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--start",
        required=True,
        metavar="RUN|FILE",
        help="what every fold starts from: a run folder, or weights/NAME.safetensors, either with "
        "its card and configuration",
    )
    parser.add_argument("--dataturks", nargs=2, required=True, metavar=("JSON", "IMAGES"))
    parser.add_argument("--folds", type=int, default=5, help="at least 2 (default: 5)")
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument("--num-gpus", type=int, default=0, help="as in detection.train")
    about = "KEY VALUE pairs that override the configuration"
    parser.add_argument("opts", nargs=argparse.REMAINDER, help=about)


main = Command(
    "detection.crossval", __doc__, _add_options, cross_validate, "the same command goes on"
)


if __name__ == "__main__":
    sys.exit(main())
