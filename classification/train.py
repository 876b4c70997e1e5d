"""Train a network on FER2013.

The run folder gets the best network by PublicTest accuracy, its card, the record, the curves, and a
checkpoint: Ctrl-C saves, and ``--resume`` goes on to the same bits.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from classification.data.fer2013 import Fer2013, load_fer2013, note_differences
from classification.data.ferplus import FerPlus, load_ferplus
from classification.inference.classifier import NetworkClassifier, save_network
from classification.modeling.face_resnet import build_network
from classification.training import distributed
from classification.training.card import plot_curves, write_card, write_json
from classification.training.extra_faces import joined, load_extra_faces, without_votes
from classification.training.loss import training_loss
from classification.training.options import add_data_options
from classification.training.recipe import Recipe, load_recipe
from classification.training.schedule import learning_rate, mixup_share
from classification.training.state import CHECKPOINT, TrainingState
from faces.command import Command, UserError, handling_stops
from faces.emotions import EMOTIONS
from networks.precision import best_dtype

COMMAND = "classification.train"
SECONDS_BETWEEN_CHECKPOINTS = 240.0

BURST, BURST_AT_END = 50.0, 10.0
"""A training has diverged whose loss is so many times that of guessing: in any epoch; at the end.

The first epoch's loss is also that of the random start, and so is held against the first alone.
"""


@contextlib.contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM in a list, so that the loop can save and end between two steps."""
    received: list[int] = []
    with handling_stops(lambda number, _: received.append(number)):
        yield received


class ProgressReport:
    """Shows a training on standard error and in TensorBoard, in the first process."""

    def __init__(self, state: TrainingState) -> None:
        rank, first = distributed.rank_and_count()[0], state.progress.step
        quiet = True if rank else None  # None: quiet where standard error is no terminal
        total = state.total_steps
        self.bar = tqdm(total=total, initial=first, unit=" steps", desc="training", disable=quiet)
        self.board = None
        if rank == 0:
            self.board = SummaryWriter(str(state.out / "tensorboard"), purge_step=first)

    def epoch(self, entry: dict[str, float]) -> None:
        """Show the entry of an epoch."""
        if self.board is None:
            return
        for name, value in entry.items():
            self.board.add_scalar(name, value, entry["epoch"])
        self.bar.write(
            f"epoch {entry['epoch']}: training loss {entry['training_loss']:.3f}, PublicTest "
            f"loss {entry['loss']:.3f}, accuracy {entry['accuracy']:.4f}"
        )

    def close(self) -> None:
        """End the bar and TensorBoard's file."""
        self.bar.close()
        if self.board is not None:
            self.board.close()


def train(
    recipe: Recipe,
    data: Fer2013,
    out: Path,
    device: torch.device,
    *,
    votes: FerPlus | None = None,
    teachers: Sequence[Path] = (),
    start: Path | None = None,
    workers: int = 0,
) -> dict[str, Any]:
    """Train, or resume the run in ``out``, and leave the best network there; return the record.

    Args:
        data: with the splits Training, for the weights, and PublicTest, to select the epoch.
        out: the run folder; its checkpoint, if there is one, is resumed.
        votes: on the images of ``data``, where the recipe uses them; only Training's train.
        teachers: weights files of the networks to learn from, where the recipe does.
        start: weights file of a network like the recipe's, to start from.
        workers: processes that prepare batches; 0 prepares them in this one.

    Raises:
        UserError: the recipe needs votes, teachers or published weights that are not given, or the
            other way round; a teacher or the start does not fit; the checkpoint is damaged, or of
            another recipe or other data; or the training diverged.
        OSError: a file cannot be written.
        KeyboardInterrupt: a stop was asked for; the checkpoint is saved.
    """
    state = TrainingState(recipe, data, out, device, votes=votes, teachers=teachers, start=start)
    state.resume()
    report = ProgressReport(state)
    batches = iter(state.loader(workers))

    with contextlib.closing(report), stop_requests() as stops:
        while not state.finished():
            rate = train_one_epoch(state, batches, stops, report)
            entry = state.end_epoch(evaluate(state), rate)
            check_not_diverged(state, entry)
            report.epoch(entry)
            keep_the_best(state, entry)
            state.save()
            if not state.finished() and distributed.in_any_process(bool(stops), device):
                raise KeyboardInterrupt
    state.save()
    return state.record()


def train_one_epoch(
    state: TrainingState, batches: Iterator[Any], stops: Sequence[int], report: ProgressReport
) -> float:
    """Train to the end of the epoch, from its middle where the run was stopped there.

    Batches are those that are left; ``stops`` is not empty once the user asks to stop: then the
    checkpoint is saved, and ``KeyboardInterrupt`` raised. Returns the last step's learning rate.
    """
    while True:
        rate = train_one_step(state, *next(batches))
        report.bar.update()
        if state.at_epoch_end():
            return rate
        stopping = distributed.in_any_process(bool(stops), state.device)
        if stopping or time.perf_counter() - state.saved_at > SECONDS_BETWEEN_CHECKPOINTS:
            state.save()
        if stopping:
            raise KeyboardInterrupt


def train_one_step(state: TrainingState, images: Any, targets: Any) -> float:
    """Change the network by one batch and return the learning rate.

    Images are (B, 48, 48) uint8, targets (B, 7) float32, their rows summing to 1. A loss that is
    not finite is a ``UserError``.
    """
    # all that is random in this step follows from its number
    recipe, now = state.recipe, state.progress
    torch.manual_seed(recipe.seed * 1_000_003 + now.step)
    rate = learning_rate(recipe, now.step, state.batches.steps_per_epoch)
    kept = mixup_share(recipe, now.step, state.batches.steps_per_epoch)

    # the loss of the batch
    device, dtype = state.device, best_dtype(state.device)
    state.parallel.train()
    x = state.network.normalization(np.asarray(images))
    x = x.to(device, memory_format=torch.channels_last, non_blocking=True)
    y = torch.as_tensor(targets).to(device, non_blocking=True)
    weights, teachers = state.class_weights, state.taught_by
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        loss = training_loss(state.parallel, x, y, recipe, kept, weights, teachers)
    if not torch.isfinite(loss):
        raise diverged(state, f"the loss became {loss.item()} in step {now.step}", rate)

    # one step against its gradient
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    state.optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(state.model.parameters(), recipe.clip_norm)
    state.optimizer.step()
    state.average.update(state.model, now.step)
    now.step += 1
    now.loss_sum += float(loss.detach())
    now.loss_steps += 1
    return rate


def evaluate(state: TrainingState) -> dict[str, float]:
    """Return loss and accuracy of the averaged network on PublicTest."""
    classifier = NetworkClassifier(state.network, state.average.state, state.device, "training")
    probabilities = classifier.probabilities_of_grey(state.validation.images)
    labels = state.validation.labels
    of_label = probabilities[np.arange(len(labels)), labels]
    return distributed.from_first_process(
        {
            "loss": float(-np.log(np.clip(of_label, 1e-12, None)).mean()),
            "accuracy": float((probabilities.argmax(1) == labels).mean()),
        }
    )


def keep_the_best(state: TrainingState, entry: dict[str, float]) -> None:
    """Write the averaged network if no epoch before had a better accuracy on PublicTest."""
    if entry["accuracy"] > state.progress.best:
        state.progress.best = entry["accuracy"]
        if distributed.rank_and_count()[0] == 0:
            save_network(state.out / "model.safetensors", state.average.state, state.network)


def check_not_diverged(state: TrainingState, entry: dict[str, float]) -> None:
    """Check the mean loss of an epoch.

    A ``UserError`` says that it is ``BURST`` times that of guessing, or more; or ``BURST_AT_END``
    times in the last of several epochs.
    """
    recipe = state.recipe
    limit = BURST_AT_END if state.finished() and entry["epoch"] > 1 else BURST
    soft = recipe.distill * recipe.distill_temperature**2  # the teachers' part of the loss
    guessing = (1 - recipe.distill + soft) * math.log(len(EMOTIONS))
    if not entry["training_loss"] < limit * guessing:
        what = f"the training loss was {entry['training_loss']:.3g} in epoch {entry['epoch']}"
        raise diverged(state, f"{what}, and guessing has {guessing:.3g}", entry["learning_rate"])


def diverged(state: TrainingState, what: str, rate: float) -> UserError:
    """Return the error that ends a training which learns nothing any more."""
    path = state.out / CHECKPOINT
    saved = f"{path} is from before" if path.exists() else "nothing is saved"
    lower = state.recipe.learning_rate / 3
    return UserError(
        f"the training diverged: {what}; {saved}. Lower the learning rate (now {rate:.3g}), e.g. "
        f"learning_rate {lower:.2g}, and check the data for broken images"
    )


def _train_and_describe(args: argparse.Namespace) -> None:
    # what can be wrong is checked before the data are read
    if args.out.exists() and not args.out.is_dir():
        raise UserError(f"{args.out}: is a file; --out takes a folder")
    if (args.out / CHECKPOINT).exists() and not args.resume:
        raise UserError(f"{args.out} holds a run already; add --resume, or name another --out")
    recipe = load_recipe(args.recipe, args.overrides)
    try:
        build_network(recipe.architecture, recipe.model)
    except ValueError as error:
        raise UserError(f"{args.recipe}: {error}") from error
    device = distributed.own_device(args.device)

    with distributed.process_group(device):
        # the data
        first = distributed.rank_and_count()[0] == 0
        data = load_fer2013(args.data, progress=first)
        if first:
            note_differences(COMMAND, args.data, data)
        votes = load_ferplus(args.votes, data) if args.votes else None
        if args.extra:
            extra = load_extra_faces(args.extra)
            data = joined(data, extra)
            votes = votes and without_votes(votes, len(extra.labels))

        # the training
        args.out.mkdir(parents=True, exist_ok=True)
        record = train(
            recipe,
            data,
            args.out,
            device,
            votes=votes,
            teachers=[path / "model.safetensors" for path in args.teacher],
            start=args.start and args.start / "model.safetensors",
            workers=args.workers,
        )

        # what describes the run
        if first:
            record["command"] = args.made_by
            if args.extra:
                faces = {"faces": len(extra.labels), "fingerprint": extra.fingerprint}
                record["extra"] = {"folder": args.extra.name, **faces}
            record["versions"] = {"torch": torch.__version__, "python": sys.version.split()[0]}
            write_json(args.out / "record.json", record)
            plot_curves(record["history"], args.out / "curves.png")
            public = data.split("PublicTest")
            if recipe.disgust_as_angry:
                public = public.disgust_as_angry()
            write_card(args.out, record, public, device)
            best = f"best PublicTest accuracy {record['best_accuracy']:.4f}"
            print(f"{best}; the run is in {args.out}")


def _add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--recipe", type=Path, required=True, help="a file of classification/recipes")
    add_data_options(parser, out="the run folder to make")
    about = "train on these faces too: DIR/<emotion>/*.png"
    add("--extra", type=Path, metavar="DIR", help=about)
    add("--votes", type=Path, help="FER+'s csv, where the recipe has votes")
    add("--teacher", type=Path, nargs="+", default=[], help="run folders, where it has distill")
    add("--start", type=Path, metavar="RUN", help="start from this run's network")
    add("--resume", action="store_true", help="go on with the run in --out")
    add("--device", help="cpu, cuda, cuda:1; default: a GPU if there is one")
    add("--workers", type=int, default=0, help="processes that prepare batches")
    add("overrides", nargs="*", metavar="KEY VALUE", help="changes to the recipe")


main = Command(COMMAND, __doc__, _add_options, _train_and_describe, "go on with --resume")


if __name__ == "__main__":
    sys.exit(main())
