"""Train a detector: Detectron2's command line, its options and its ``KEY VALUE`` overrides.

On a CPU, from a Dataturks export and its pictures to an AP figure::

    python -m detection.train --config-file mobilenet_fpn --num-gpus 0 \\
        --dataturks data/face_detection.json data/images OUTPUT_DIR runs/light

With a GPU, the mission's own model, the same but ``--config-file x101_fpn --num-gpus 1``. Ctrl-C saves and stops,
``--resume`` goes on. OUTPUT_DIR becomes a run folder that every other command takes as a detector.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from detectron2.data import DatasetCatalog
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger

from detection import checkpoints
from detection.commandline import build_parser, command_line, configure
from detection.datasets import DataSpec, fingerprint
from detection.errors import DetectionError, RunError
from detection.evaluator import choose_threshold
from detection.launch import run_launched
from detection.trainer import FaceTrainer, Interrupted, evaluate_model, predict

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m detection.train``; return the exit status."""
    args = build_parser("python -m detection.train", __doc__).parse_args(argv)
    args.command = command_line("detection.train", argv)
    try:
        return run_launched(args, train)
    except DetectionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped at once, nothing saved since the last checkpoint", file=sys.stderr)
        return INTERRUPTED


def train(args: argparse.Namespace) -> int:
    """Train in this process as the options say; return the exit status."""
    cfg = configure(args)
    if args.eval_only:
        from detection.evaluate import evaluate

        return evaluate(args)
    prepare_folder(cfg, args.resume)
    trainer = FaceTrainer(cfg)
    trainer.resume_or_load(args.resume)
    try:
        with stopping_cleanly(trainer):
            trainer.train()
    except Interrupted as stop:
        if comm.is_main_process():
            print(
                f"stopped after {stop.iteration} of {trainer.max_iter} iterations, saved in "
                f"{cfg.OUTPUT_DIR}; go on with the same command and --resume",
                file=sys.stderr,
            )
        return INTERRUPTED
    finish(trainer, args.command)
    return 0


def prepare_folder(cfg: Any, resume: bool) -> None:
    """Make the run folder, start the log there, seed, and write ``config.yaml``.

    Raises:
        RunError: the folder holds another run and ``--resume`` is not given, or cannot be written.
    """
    folder = Path(cfg.OUTPUT_DIR)
    if (folder / "last_checkpoint").exists() and not resume:
        raise RunError(
            f"{folder}: holds a run already; continue it with --resume, or name another OUTPUT_DIR"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if comm.is_main_process():
            checkpoints.write_text(folder / checkpoints.CONFIG_FILE, cfg.dump())
    except OSError as error:
        raise RunError(f"{folder}: cannot be written: {error.strerror or error}") from error
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

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def finish(trainer: FaceTrainer, command: str) -> None:
    """Choose the best weights and the score threshold, measure, and complete the run folder."""
    cfg, folder = trainer.cfg.clone(), Path(trainer.cfg.OUTPUT_DIR)
    if trainer.progress.best_iteration >= 0:
        comm.synchronize()
        checkpoints.load_weights(folder / checkpoints.BEST_FILE, trainer.model)
    metrics: dict[str, Any] = {"iterations": trainer.max_iter}
    if len(cfg.DATASETS.TEST):
        metrics["best_iteration"] = trainer.progress.best_iteration
        truth, results = predict(cfg, trainer.model, cfg.DATASETS.TEST[0])
        if comm.is_main_process():
            threshold, f1 = choose_threshold(truth, results)
            cfg.MODEL.SCORE_THRESHOLD = threshold
            metrics |= {"score_threshold": threshold, "validation_f1": f1}
    for kind, names in (("validation", cfg.DATASETS.TEST), ("report", cfg.DATASETS.REPORT)):
        metrics[kind] = {n: evaluate_model(cfg, trainer.model, n) for n in names}
    if comm.is_main_process():
        write_run(folder, cfg, trainer, metrics, command)
        print(summary(folder, metrics))


def write_run(
    folder: Path, cfg: Any, trainer: FaceTrainer, metrics: dict[str, Any], command: str
) -> None:
    """Write the four files that make a run folder."""
    checkpoints.save_weights(folder / checkpoints.MODEL_FILE, trainer.model)
    (folder / checkpoints.BEST_FILE).unlink(missing_ok=True)
    cfg.MODEL.WEIGHTS = ""
    checkpoints.write_text(folder / checkpoints.CONFIG_FILE, cfg.dump())
    checkpoints.write_text(
        folder / checkpoints.METRICS_FILE, json.dumps(metrics, indent=2, default=float) + "\n"
    )
    card = {
        "kind": "detector",
        "name": folder.resolve().name,
        "started_from": trainer.cfg.MODEL.WEIGHTS,
        "trained_on": [describe(name) for name in cfg.DATASETS.TRAIN],
        "chosen_on": [describe(name) for name in cfg.DATASETS.TEST],
        "command": command,
        "commit": commit(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "hours": round(trainer.progress.elapsed() / 3600, 3),
        "processes": comm.get_world_size(),
        "device": cfg.MODEL.DEVICE,
        "torch": torch.__version__,
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "score_threshold": cfg.MODEL.SCORE_THRESHOLD,
        "metrics": metrics,
    }
    text = json.dumps(card, indent=2, default=float)
    checkpoints.write_text(folder / checkpoints.CARD_FILE, text + "\n")


def describe(name: str) -> dict[str, Any]:
    """Return what a card says of a data set: file, split, counts and fingerprint."""
    records = DatasetCatalog.get(name)
    spec = DataSpec.parse(name)
    return {
        "set": "/".join(spec.file.parts[-2:]) if spec else name,
        "split": spec.split if spec else "",
        "pictures": len(records),
        "faces": sum(not a["iscrowd"] for r in records for a in r["annotations"]),
        "sha256": fingerprint([name]),
    }


def commit() -> str | None:
    """Return the commit of this package's clone, with ``+`` where it has changes; None outside git."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def summary(folder: Path, metrics: dict[str, Any]) -> str:
    """Return the last lines that the command prints."""
    lines = [f"\nrun folder: {folder}"]
    for kind in ("validation", "report"):
        for name, values in metrics[kind].items():
            lines.append(
                f"{kind:10s} AP {values['AP']:5.1f}  AP50 {values['AP50']:5.1f}  "
                f"AP75 {values['AP75']:5.1f}  {name}"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
