"""Train X101-FPN from random weights for some minutes on a GPU, and measure it: one command.

A short training first tells the seconds of an iteration, and with them how many fit into
``--minutes``. Then follow the training in bf16 (AMP) on WIDER FACE's training events, Face Mask and
Dataturks, and the evaluations beside the other detectors, on the same GPU: held-out events,
portraits, scenes. Records: x101_training, x101_wider, x101_portraits and x101_scenes. KEY VALUE
pairs at the end override the configuration, to try the command in small.
"""

from __future__ import annotations

import argparse
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

from eval.data import options
from eval.systems import python
from faces.command import existing, note
from faces.provenance import read_card

COMMAND = "benchmarks.x101_gpu"

TRIAL = 30
"""Iterations of the short training."""

OTHERS = ("default", "mobilenet_fpn_accurate")

SETTING = [
    *("MODEL.WEIGHTS", "", "MODEL.BACKBONE.FREEZE_AT", "0", "SOLVER.AMP.ENABLED", "True"),
    *("SOLVER.IMS_PER_BATCH", "16", "SOLVER.BASE_LR", "0.01", "SOLVER.LR_SCHEDULER_NAME"),
    *("WarmupCosineLR", "SOLVER.WARMUP_ITERS", "100", "TEST.EVAL_PERIOD", "0"),
    *("INPUT.FACE_CROP.ENABLED", "True", "INPUT.FACE_CROP.SIZE", "416"),
    *("INPUT.FACE_CROP.FACE_SIZES", "(9.0,300.0)", "INPUT.MIN_FACE", "6"),
    *("INPUT.MIN_SIZE_TEST", "800", "INPUT.MAX_SIZE_TEST", "1344", "TEST.MIN_FACE", "16"),
    *("DATALOADER.NUM_WORKERS", "8"),
]


def train_words(arguments: Namespace, run: Path, iterations: int) -> list[str]:
    """Return the command line of a training."""
    data: Path = arguments.data
    wider, mask = data / "wider_val_small", data / "facemask853"
    words = ["-m", "detection.train", "--config-file", "x101_fpn"]
    words += ["--num-gpus", str(arguments.num_gpus)]
    words += ["--train-coco", str(wider / "train.json"), str(wider / "images")]
    words += ["--train-coco", str(mask / "annotations.json"), str(mask / "images")]
    words += ["--val-coco", str(wider / "val.json"), str(wider / "images")]
    dataturks = data / "dataturks"
    words += ["--dataturks", str(dataturks / "face_detection.json"), str(dataturks / "images")]
    words += ["OUTPUT_DIR", str(run), *SETTING, *arguments.opts]
    return [*words, "SOLVER.MAX_ITER", str(iterations), "SOLVER.CHECKPOINT_PERIOD", "100000"]


def evaluations(arguments: Namespace, run: Path) -> Iterator[list[str]]:
    """Yield the command lines that measure the run."""
    out: Path = arguments.records
    words = ["-m", "eval.detector_training", "--run", str(run)]
    yield [*words, "--out", str(out / "x101_training.json")]
    data: Path = arguments.data
    wider, joint = data / "wider_val_small", data / "joint_dev"
    sets = {
        "wider": (wider / "held_out.json", wider / "images", "16"),
        "portraits": (joint / "portraits/annotations.json", joint / "portraits/images", "0"),
        "scenes": (joint / "scenes/annotations.json", joint / "scenes/images", "0"),
    }
    for name, (coco, images, least) in sets.items():
        words = ["-m", "eval.detection", "--coco", str(coco), "--images", str(images)]
        words += ["--min-size", least, "--detector", str(run), *OTHERS]
        yield [*words, "--out", str(out / f"x101_{name}.json")]


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the run folder goes")
    parser.add_argument(
        "--records", type=Path, default=Path("results"), help="where the records go"
    )
    parser.add_argument("--minutes", type=float, default=12.0, help="of training (default 12)")
    parser.add_argument("--num-gpus", type=int, default=1, help="0 tries it on the CPU")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs, see above")


def _run(arguments: Namespace) -> None:
    existing(arguments.data, "--data")
    trial, run = arguments.runs / "x101_trial", arguments.runs / "x101_gpu"
    python(*train_words(arguments, trial, TRIAL))
    seconds = 3600 * read_card(trial / "card.json")["hours"] / TRIAL
    iterations = max(1, int(60 * arguments.minutes / seconds))
    note(COMMAND, f"{seconds:.2f} s per iteration: {iterations} iterations")
    python(*train_words(arguments, run, iterations))
    for words in evaluations(arguments, run):
        python(*words)


main = options.Command(COMMAND, __doc__, _add_options, _run)

if __name__ == "__main__":
    raise SystemExit(main())
