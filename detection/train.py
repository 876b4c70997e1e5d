r"""Train a detector: Detectron2's command line, its options and its ``KEY VALUE`` overrides.

On a CPU, from a Dataturks export and its images to an AP figure::

    python -m detection.train --config-file mobilenet_fpn --num-gpus 0 \
        --dataturks data/face_detection.json data/images OUTPUT_DIR runs/light

With a GPU, the mission's own model, the same but ``--config-file x101_fpn --num-gpus 1``. Ctrl-C
saves and stops, ``--resume`` goes on. OUTPUT_DIR becomes a run folder that every other command
takes as a detector.
"""

from __future__ import annotations

import argparse
import math
import resource
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import default_argument_parser
from detectron2.evaluation import print_csv_format
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger

from detection.data.catalog import describe, register, short_name
from detection.modeling import checkpoints
from detection.modeling.backbone import CENTERFACE, IMAGENET
from detection.modeling.config import apply_overrides, build_network, check_values, load_config
from detection.modeling.freezing import parameters_by_part
from detection.training.evaluator import average_precision, error_rates, ranked, select_threshold
from detection.training.launch import device_name, run_launched
from detection.training.trainer import FaceTrainer, Interrupted, evaluate_model, predict
from faces.command import UserError, handling_stops, note, run
from faces.files import write_json, write_text
from faces.provenance import command_line, git_commit

COMMAND = "detection.train"
COCO = "a COCO json of faces and its images,"

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    args = build_parser().parse_args(argv)
    args.command = command_line(COMMAND, argv)
    stopped = "nothing is saved since the last checkpoint"
    return run(COMMAND, lambda: run_launched(args, train), stopped)


def build_parser() -> argparse.ArgumentParser:
    """Return Detectron2's parser with the options that name data."""
    parser: argparse.ArgumentParser = default_argument_parser(
        epilog="KEY VALUE pairs after the options override the configuration, as in Detectron2."
    )
    parser.prog, parser.description = f"python -m {COMMAND}", __doc__
    for name, use in (
        (
            "--dataturks",
            "a Dataturks json and the folder of its images: train on its training split, select "
            "on its validation split, report its test split; named again, it is seen more often",
        ),
        ("--train-coco", f"{COCO} to train on; named again, it is seen more often"),
        ("--val-coco", f"{COCO} to select the best weights and the score threshold on"),
        ("--report-coco", f"{COCO} to be measured once, at the end"),
    ):
        parser.add_argument(
            name, nargs=2, action="append", default=[], metavar=("JSON", "IMAGES"), help=use
        )
    return parser


def named_data(args: argparse.Namespace) -> dict[str, tuple[str, ...]]:
    """Return key of ``DATASETS`` → the data sets that the options name for it.

    One that is named several times is trained on as many times as often, and measured once.
    """
    options = {"TRAIN": args.train_coco, "TEST": args.val_coco, "REPORT": args.report_coco}
    named = {
        key: [f"coco:{file}:{images}" for file, images in pairs] for key, pairs in options.items()
    }
    for file, images in args.dataturks:
        for key, split in (("TRAIN", "train"), ("TEST", "val"), ("REPORT", "test")):
            named[key].append(f"dataturks:{file}:{images}:{split}")
    return {
        key: tuple(names if key == "TRAIN" else dict.fromkeys(names))
        for key, names in named.items()
    }


def configure(args: argparse.Namespace, data: Mapping[str, tuple[str, ...]]) -> Any:
    """Build the configuration from the options and register the data.

    ``data`` are key of ``DATASETS`` → names of data sets; empty ones leave what the overrides say,
    if anything.
    """
    if not args.config_file:
        raise UserError(
            "--config-file is missing: a file, or mobilenet_fpn (for CPUs), or x101_fpn (for GPUs)"
        )
    cfg = load_config(args.config_file)
    for key in ("TRAIN", "TEST", "REPORT"):
        cfg.DATASETS[key] = data.get(key, ())
    opts = list(args.opts or [])
    apply_overrides(cfg, opts[1:] if opts[:1] == ["--"] else opts)
    check_values(cfg, f"{args.config_file} and the KEY VALUE pairs")
    cfg.MODEL.DEVICE = device_name(args, cfg.MODEL.DEVICE)
    register([*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST, *cfg.DATASETS.REPORT])
    return cfg


def train(args: argparse.Namespace) -> int:
    """Train in this process as the options say; return the exit status."""
    cfg = configure(args, named_data(args))
    if args.eval_only:
        return evaluate_only(cfg, args.resume)
    if not len(cfg.DATASETS.TRAIN):
        raise UserError(
            "name what to train on: --dataturks JSON IMAGES, --train-coco JSON IMAGES, or both"
        )
    # what is wrong with the data shows now, not after an hour
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST, *cfg.DATASETS.REPORT):
        if not describe(name)["faces"]:
            raise UserError(f"{short_name(name)}: no face to find in it; name other data")
    prepare_folder(cfg, args.resume)
    trainer = FaceTrainer(cfg)
    trainer.resume_or_load(args.resume)
    if comm.is_main_process():
        write_text(Path(cfg.OUTPUT_DIR) / checkpoints.CONFIG_FILE, cfg.dump())
    # stopped by a signal, the training saves where it is
    try:
        with stopping_cleanly(trainer):
            trainer.train()
    except Interrupted as stop:
        if comm.is_main_process():
            note(
                COMMAND,
                f"stopped after {stop.iteration} of {trainer.max_iter} iterations, saved in "
                f"{cfg.OUTPUT_DIR}; go on with the same command and --resume",
            )
        return INTERRUPTED
    finish(trainer, args.command)
    return 0


def evaluate_only(cfg: Any, resume: bool) -> int:
    """Measure ``MODEL.WEIGHTS``, or with ``--resume`` the last checkpoint."""
    names = [*cfg.DATASETS.TEST, *cfg.DATASETS.REPORT]
    if not names:
        raise UserError("name what to measure on: --val-coco, --report-coco or --dataturks")
    if not resume and cfg.MODEL.WEIGHTS in (IMAGENET, CENTERFACE):
        raise UserError(
            f"MODEL.WEIGHTS {cfg.MODEL.WEIGHTS} has no trained detection head; add --resume "
            "for the run in OUTPUT_DIR, or name trained weights as MODEL.WEIGHTS"
        )
    model = build_network(cfg)
    checkpointer = checkpoints.FaceCheckpointer(model, cfg.OUTPUT_DIR)
    if resume and not checkpointer.has_checkpoint():
        raise UserError(f"{cfg.OUTPUT_DIR}: holds no checkpoint to measure; leave out --resume")
    checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    for name in names:
        images, figures = evaluate_model(cfg, model, name)
        if comm.is_main_process():
            row = {key: round(value, 2) for key, value in figures.items()}
            print(figures_line("measured", row | {"pictures": images, "data": short_name(name)}))
    return 0


def prepare_folder(cfg: Any, resume: bool) -> None:
    """Make the run folder, which may hold a run if ``resume``; start the log there, and seed."""
    folder = Path(cfg.OUTPUT_DIR)
    if (folder / checkpoints.LAST_FILE).exists() and not resume:
        raise UserError(
            f"{folder}: holds a run already; continue it with --resume, or name another OUTPUT_DIR"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("fvcore", "detectron2"):
        setup_logger(str(folder), distributed_rank=comm.get_rank(), name=name)
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + comm.get_rank())


@contextmanager
def stopping_cleanly(trainer: FaceTrainer) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the training after the running iteration; a second one at once."""

    def ask(number: int, _frame: object) -> None:
        if trainer.stop_requested:
            raise KeyboardInterrupt
        trainer.stop_requested = True
        name = signal.Signals(number).name
        print(f"\n{name}: saving after this iteration; once more stops at once", file=sys.stderr)

    with handling_stops(ask):
        yield


def finish(trainer: FaceTrainer, command: str) -> None:
    """Load the best weights, select the score threshold, measure, and complete the run folder."""
    # the weights with the best validation AP, where there is a validation set
    cfg, folder = trainer.cfg.clone(), Path(trainer.cfg.OUTPUT_DIR)
    if trainer.progress.best_iteration >= 0:
        best = folder / checkpoints.BEST_FILE
        finished_before = not best.is_file()  # then the best weights have their final name
        checkpoints.load_weights(
            folder / checkpoints.MODEL_FILE if finished_before else best, trainer.model
        )
    comm.synchronize()
    metrics: dict[str, Any] = {"iterations": trainer.max_iter}
    if len(cfg.DATASETS.TEST):
        truth, results = predict(cfg, trainer.model, cfg.DATASETS.TEST[0])
        threshold, f1 = select_threshold(ranked(truth, results))
        cfg.MODEL.SCORE_THRESHOLD = threshold
        metrics |= {
            "best_iteration": trainer.progress.best_iteration,
            "score_threshold": threshold,
            "validation_f1": f1,
        }
    # what the folder's card says of them
    for kind, names in (("validation", cfg.DATASETS.TEST), ("report", cfg.DATASETS.REPORT)):
        metrics[kind] = [measured(cfg, trainer.model, name) for name in names]
    if comm.is_main_process():
        write_run(folder, cfg, trainer, metrics, command)
        print(summary(folder, metrics))


def measured(cfg: Any, model: torch.nn.Module, name: str) -> dict[str, Any]:
    """Return a data set's name and figures: COCO's (0–100), and what the threshold shows.

    None stands for what cannot be measured.
    """
    truth, results = predict(cfg, model, name)
    about = {"data": short_name(name), "pictures": len(truth), "min_face": cfg.TEST.MIN_FACE}
    if not comm.is_main_process():
        return about
    figures = average_precision(truth, results)
    print_csv_format({"bbox": figures})
    shown = error_rates(ranked(truth, results), cfg.MODEL.SCORE_THRESHOLD)
    rounded = {k: round(v, 2) for k, v in figures.items()} | {
        k: round(v, 4) for k, v in shown.items()
    }
    return about | {key: None if math.isnan(value) else value for key, value in rounded.items()}


def write_run(
    folder: Path, cfg: Any, trainer: FaceTrainer, metrics: dict[str, Any], command: str
) -> None:
    """Write the four files that make a run folder."""
    checkpoints.save_weights(folder / checkpoints.MODEL_FILE, trainer.model)
    (folder / checkpoints.BEST_FILE).unlink(missing_ok=True)
    cfg.MODEL.WEIGHTS = ""
    write_text(folder / checkpoints.CONFIG_FILE, cfg.dump())
    write_json(folder / checkpoints.METRICS_FILE, metrics)
    card = {
        "kind": "detector",
        "name": folder.resolve().name,
        "started_from": origin(trainer.cfg.MODEL.WEIGHTS),
        "trained_on": [
            describe(name) | ({"times": times} if times > 1 else {})
            for name, times in Counter(cfg.DATASETS.TRAIN).items()
        ],
        "chosen_on": [describe(name) for name in cfg.DATASETS.TEST],
        "command": command,
        "commit": git_commit(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "hours": round(trainer.progress.elapsed() / 3600, 3),
        "processes": comm.get_world_size(),
        "device": cfg.MODEL.DEVICE,
        "torch": torch.__version__,
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "parameters_by_part": parameters_by_part(trainer.model),
        "peak_memory_gb": round(peak_memory_gb(), 2),
        "score_threshold": cfg.MODEL.SCORE_THRESHOLD,
        "metrics": metrics,
    }
    write_json(folder / checkpoints.CARD_FILE, card)


def peak_memory_gb() -> float:
    """Return the most memory this process has held: of its GPU where it uses one, else resident."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # Linux counts in KiB


def origin(weights: str) -> str | dict[str, Any]:
    """Return what a card says of the weights a training started from: their own card, if any."""
    if not weights or "://" in weights:
        return weights or "random weights"
    file = Path(weights)
    for card_file in (file.with_name(checkpoints.CARD_FILE), file.with_suffix(".json")):
        card = checkpoints.read_card(card_file)
        if card.get("kind") == "detector":
            keys = ("name", "started_from", "trained_on", "command", "commit", "finished", "hours")
            return {key: card.get(key) for key in keys}
    return file.name


def summary(folder: Path, metrics: dict[str, Any]) -> str:
    """Return the last lines that the command prints."""
    lines = [f"\nrun folder: {folder}"]
    for kind in ("validation", "report"):
        lines += [figures_line(kind, row) for row in metrics[kind]]
    return "\n".join(lines)


def figures_line(kind: str, row: dict[str, Any]) -> str:
    """Return what is printed of a data set's figures."""
    figures = "  ".join(f"{key} {row[key]}" for key in ("AP", "AP50", "AP75"))
    return f"{kind}: {figures}  on {row['pictures']} images of {row['data']}"


if __name__ == "__main__":
    sys.exit(main())
