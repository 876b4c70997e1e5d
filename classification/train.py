"""Train a network on FER2013.

The loop reads from top to bottom. A step's pictures, augmentation and randomness depend on the
recipe's seed and the step's number alone, so that a stopped run goes on as if it had never stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from classification.data.fer2013 import Fer2013, Fer2013Error, load_fer2013
from classification.data.ferplus import FerPlus, load_ferplus
from classification.inference.classifier import (
    NetworkClassifier,
    TrainedNetwork,
    WeightsError,
    load_network,
    save_network,
    to_tensor,
)
from classification.modeling.face_recognition_resnet import PublishedStart
from classification.modeling.face_resnet import build_network, parameter_count
from classification.training.batches import TrainBatches, soft_targets
from classification.training.card import plot_curves, write_card, write_json
from classification.training.loss import Teachers, class_weights, training_loss
from classification.training.recipe import Recipe, RecipeError, load_recipe
from faces.command import UserError
from faces.emotions import EMOTIONS
from faces.images import ImageError
from faces.provenance import command_line, git_commit
from networks.device import usable_device
from networks.precision import best_dtype

CHECKPOINT = "checkpoint.pt"
SECONDS_BETWEEN_CHECKPOINTS = 240.0


class TrainingError(UserError):
    """The training cannot start or go on; the message says why and what to do."""


class MovingAverage:
    """An exponential moving average of parameters and buffers; its first steps average less."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards ``model`` after the step of that number."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averaged, current = [], []
        for name, value in model.state_dict().items():
            if value.dtype.is_floating_point:
                averaged.append(self.state[name])
                current.append(value)
            else:
                self.state[name].copy_(value)
        torch._foreach_lerp_(averaged, current, 1 - decay)  # as torch.optim.swa_utils: few kernels


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Return a step's rate: linear warm-up, then a cosine to zero (Loshchilov & Hutter, 2017).

    With the schedule ``constant`` the rate stays what it is after the warm-up.
    """
    warmup = recipe.warmup * steps_per_epoch
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    if recipe.schedule == "constant":
        return recipe.learning_rate
    done = (step - warmup) / max(1.0, recipe.epochs * steps_per_epoch - warmup)
    return recipe.learning_rate * 0.5 * (1 + float(np.cos(np.pi * done)))


def out_of_patience(recipe: Recipe, history: Sequence[Mapping[str, float]]) -> bool:
    """Tell whether the recipe's patience is over, given the entry of each epoch so far."""
    if not recipe.patience or not history:
        return False
    best = max(history, key=lambda entry: entry["accuracy"])
    return len(history) - best["epoch"] >= recipe.patience


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the recipe's optimiser; weight decay is on matrices and kernels only."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
    if recipe.optimizer == "adam":
        return torch.optim.Adam(groups, lr=0.0, weight_decay=recipe.weight_decay)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=0.0, weight_decay=recipe.weight_decay)
    nesterov = recipe.momentum > 0
    return torch.optim.SGD(
        groups, 0.0, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=nesterov
    )


def take_over(model: nn.Module, recipe: Recipe, start: Path) -> None:
    """Give a model the weights of a trained one.

    Raises:
        TrainingError: that is another network, or the recipe has a start already.
        WeightsError: the weights file cannot be used.
    """
    if recipe.published_start:
        raise TrainingError("two starts; with --start, say published_start false")
    _, state = load_network(start)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise TrainingError(
            f"{start}: is no {recipe.architecture} of the recipe's form: {error}"
        ) from error


@contextlib.contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM in a list, so that the loop can save and end between two steps."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, note) for number in numbers]
    try:
        yield received
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


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
    """Train, or go on with the run in ``out``, and leave the best network there.

    Args:
        recipe: what to train.
        data: with the splits Training, for the weights, and PublicTest, for choosing the epoch.
        out: the run folder; its checkpoint, if there is one, is gone on from.
        device: where to train.
        votes: on the pictures of ``data``, where the recipe uses them; only Training's train.
        teachers: weights files of the networks to learn from, where the recipe does.
        start: weights file of a network like the recipe's, to start from.
        workers: processes that prepare batches; 0 prepares them in this one.

    Returns:
        The run's record: recipe, data, history, best epoch.

    Raises:
        TrainingError: the recipe needs votes or teachers that are not given, or the other way
            round; the start does not fit; the checkpoint is of another recipe or data; or the loss
            is not finite.
        UserError: the recipe starts from published weights that are not here.
        WeightsError: a teacher or the start cannot be used.
        KeyboardInterrupt: a stop was asked for; the checkpoint is saved.
    """
    rank, world_size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    training, validation = data.split("Training"), data.split("PublicTest")
    if recipe.disgust_as_angry:
        training, validation = training.disgust_as_angry(), validation.disgust_as_angry()
    mean, std = float(training.images.mean() / 255), float(training.images.std() / 255)
    needs = (
        (recipe.votes > 0, votes is not None, "votes", "--votes FILE (fer2013new.csv of FER+)"),
        (recipe.distill > 0, bool(teachers), "distill", "--teacher RUN …"),
    )
    for needed, given, key, option in needs:
        if needed != given:
            raise TrainingError(
                f"the recipe's {key} is {getattr(recipe, key)}, so {option} must "
                f"{'' if needed else 'not '}be given"
            )
    training_votes = None if votes is None else FerPlus(votes.votes[data.splits == "Training"])
    targets = soft_targets(training, training_votes, recipe.votes)
    batches = TrainBatches(training, targets, recipe, rank, world_size)
    weights = class_weights(training, recipe.balance).to(device) if recipe.balance else None
    taught_by = (
        Teachers(teachers, mean, std, recipe.distill_temperature, device) if teachers else None
    )
    torch.manual_seed(recipe.seed)
    model = build_network(recipe.architecture, recipe.model)
    if recipe.published_start and not (out / CHECKPOINT).exists():
        if not isinstance(model, PublishedStart):
            raise TrainingError(f"published_start: {recipe.architecture} has no published weights")
        chosen = np.random.default_rng(recipe.seed).permutation(len(training.labels))[:256]
        model.load_published(to_tensor(training.images[chosen], mean, std), mean, std)
    if start is not None:
        take_over(model, recipe, start)
    model = model.to(device).to(memory_format=torch.channels_last)
    parallel = DistributedDataParallel(model) if world_size > 1 else model
    average = MovingAverage(model, recipe.ema_decay)
    optimizer = make_optimizer(model, recipe)
    dtype = best_dtype(device)
    identity: dict[str, Any] = {
        "recipe": recipe.to_dict(),
        "data": data.fingerprint,
        "targets": hashlib.sha256(targets.tobytes()).hexdigest(),
        "teachers": [hashlib.sha256(path.read_bytes()).hexdigest() for path in teachers],
        "start": None if start is None else hashlib.sha256(start.read_bytes()).hexdigest(),
        "world_size": world_size,
    }
    progress: dict[str, Any] = {
        "step": 0,
        "seconds": 0.0,
        "history": [],
        "best": -1.0,
        "loss_sum": 0.0,
        "loss_steps": 0,
        "commit": git_commit(),
    }
    if (out / CHECKPOINT).exists():
        saved = torch.load(out / CHECKPOINT, map_location=device, weights_only=True)
        known = {"start": None} | json.loads(saved["identity"])
        known["recipe"] = {**Recipe().to_dict(), **known["recipe"]}  # keys that came later
        if known != json.loads(json.dumps(identity)):
            raise TrainingError(
                f"{out}: its checkpoint was made with another recipe, other data or another number "
                "of processes; give the same ones, or another --out"
            )
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        average.state = saved["average"]
        progress = json.loads(saved["progress"])

    started = time.perf_counter() - progress["seconds"]
    saved_at = time.perf_counter()

    def save_checkpoint() -> None:
        if rank == 0:
            progress["seconds"] = time.perf_counter() - started
            state = {
                "identity": json.dumps(identity),
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "average": average.state,
                "progress": json.dumps(progress),
            }
            torch.save(state, out / f"{CHECKPOINT}.tmp")
            os.replace(out / f"{CHECKPOINT}.tmp", out / CHECKPOINT)

    first, total = progress["step"], recipe.epochs * batches.steps_per_epoch
    if out_of_patience(recipe, progress["history"]):
        total = first
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=range(first, total),
        num_workers=workers,
        pin_memory=device.type == "cuda",
    )
    board = SummaryWriter(str(out / "tensorboard"), purge_step=first) if rank == 0 else None
    quiet = True if rank else None  # None: quiet where standard error is no terminal
    bar = tqdm(total=total, initial=first, unit=" steps", desc="training", disable=quiet)
    with stop_requests() as stops:
        for step, (images, wanted) in enumerate(loader, start=first):
            torch.manual_seed(recipe.seed * 1_000_003 + step)
            parallel.train()
            rate = learning_rate(recipe, step, batches.steps_per_epoch)
            for group in optimizer.param_groups:
                group["lr"] = rate
            mixing = recipe.augment.mixup > 0 and step < recipe.augment.mixup_until * total
            alpha = recipe.augment.mixup
            lam = (
                float(np.random.default_rng((recipe.seed, step, 1)).beta(alpha, alpha))
                if mixing
                else 1.0
            )
            x = to_tensor(np.asarray(images), mean, std).to(
                device, memory_format=torch.channels_last, non_blocking=True
            )
            y = torch.as_tensor(wanted).to(device, non_blocking=True)
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                loss = training_loss(parallel, x, y, recipe, lam, weights, taught_by)
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"the loss became {loss.item()} in step {step}; the last checkpoint is from "
                    f"before. Lower the learning rate (now {rate:.3g}), e.g. learning_rate "
                    f"{recipe.learning_rate / 3:.2g}, and check the data for broken pictures"
                )
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
            optimizer.step()
            average.update(model, step)
            progress["step"] = step + 1
            progress["loss_sum"] += float(loss.detach())
            progress["loss_steps"] += 1
            bar.update()

            if (step + 1) % batches.steps_per_epoch == 0:
                epoch = (step + 1) // batches.steps_per_epoch
                entry = _evaluate(recipe, average.state, validation, mean, std, device)
                entry = from_first_process(entry)
                entry = {
                    "epoch": epoch,
                    "learning_rate": rate,
                    "training_loss": progress["loss_sum"] / progress["loss_steps"],
                    **entry,
                }
                progress.update(loss_sum=0.0, loss_steps=0)
                progress["history"].append(entry)
                if rank == 0 and board is not None:
                    for name, value in entry.items():
                        board.add_scalar(name, value, epoch)
                    if entry["accuracy"] > progress["best"]:
                        save_network(
                            out / "model.safetensors", average.state, _network(recipe, mean, std)
                        )
                    bar.write(
                        f"epoch {epoch}: training loss {entry['training_loss']:.3f}, PublicTest "
                        f"loss {entry['loss']:.3f}, accuracy {entry['accuracy']:.4f}"
                    )
                progress["best"] = max(progress["best"], entry["accuracy"])
                save_checkpoint()
                saved_at = time.perf_counter()
                if out_of_patience(recipe, progress["history"]):
                    break
            stopping = in_any_process(bool(stops), device)
            if stopping or time.perf_counter() - saved_at > SECONDS_BETWEEN_CHECKPOINTS:
                save_checkpoint()
                saved_at = time.perf_counter()
                if stopping:
                    raise KeyboardInterrupt
    bar.close()
    if board is not None:
        board.close()
    save_checkpoint()
    best = max(progress["history"], key=lambda entry: entry["accuracy"])
    return {
        "recipe": recipe.to_dict(),
        "parameters": parameter_count(model),
        "training_pictures": len(training.labels),
        "data_fingerprint": data.fingerprint,
        "data_differences": data.differences_from_official(),
        "targets": identity["targets"],
        "teachers": [
            {"name": path.parent.name, "sha256": digest}
            for path, digest in zip(teachers, identity["teachers"], strict=True)
        ],
        "start": None
        if start is None
        else {"name": start.parent.name, "sha256": identity["start"]},
        "device": str(device),
        "threads": torch.get_num_threads(),
        "processes": world_size,
        "precision": str(dtype).removeprefix("torch."),
        "hours": progress["seconds"] / 3600,
        "commit": progress["commit"],
        "best_epoch": best["epoch"],
        "best_accuracy": best["accuracy"],
        "history": progress["history"],
    }


def _network(recipe: Recipe, mean: float, std: float) -> TrainedNetwork:
    return TrainedNetwork(recipe.architecture, recipe.model, mean=mean, std=std, classes=EMOTIONS)


def _evaluate(
    recipe: Recipe,
    state: dict[str, Tensor],
    validation: Fer2013,
    mean: float,
    std: float,
    device: torch.device,
) -> dict[str, float]:
    classifier = NetworkClassifier(_network(recipe, mean, std), state, device, name="training")
    probabilities = classifier.probabilities_of_grey(validation.images)
    chosen = probabilities[np.arange(len(validation.labels)), validation.labels]
    return {
        "loss": float(-np.log(np.clip(chosen, 1e-12, None)).mean()),
        "accuracy": float((probabilities.argmax(1) == validation.labels).mean()),
    }


def from_first_process(entry: dict[str, float]) -> dict[str, float]:
    """Return the first process's entry: others' running statistics differ by their last batch."""
    if not dist.is_initialized():
        return entry
    shared = [entry]
    dist.broadcast_object_list(shared, src=0)
    return shared[0]


def in_any_process(flag: bool, device: torch.device) -> bool:
    """Tell whether a flag is set in one of the processes, so that all stop after the same step."""
    if not dist.is_initialized():
        return flag
    shared = torch.tensor(float(flag), device=device)
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    return bool(shared)


def own_device(name: str | None) -> torch.device:
    """Return the device of that name, or the best there is; of several GPUs, this process's.

    Raises:
        DeviceError: this machine lacks the device.
    """
    name = usable_device(name)
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = usable_device(f"cuda:{os.environ['LOCAL_RANK']}")
    return torch.device(name)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m classification.train", description=__doc__)
    parser.add_argument(
        "--recipe", type=Path, required=True, help="a file of classification/recipes"
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="FER2013: csv, Kaggle folder, or zip"
    )
    parser.add_argument("--out", type=Path, required=True, help="the run folder to make")
    parser.add_argument("--votes", type=Path, help="FER+'s csv, where the recipe has votes")
    parser.add_argument(
        "--teacher", type=Path, nargs="+", default=[], help="run folders, where it has distill"
    )
    parser.add_argument("--start", type=Path, metavar="RUN", help="go out from this run's network")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--device", help="cpu, cuda, cuda:1; default: a GPU if there is one")
    parser.add_argument("--workers", type=int, default=0, help="processes that prepare batches")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="changes to the recipe")
    args = parser.parse_args(argv)
    try:
        if (args.out / CHECKPOINT).exists() and not args.resume:
            raise TrainingError(
                f"{args.out} holds a run already; add --resume, or name another --out"
            )
        if args.out.exists() and not args.out.is_dir():
            raise TrainingError(f"{args.out}: is a file; --out takes a folder")
        recipe = load_recipe(args.recipe, args.overrides)
        try:
            build_network(recipe.architecture, recipe.model)
        except ValueError as error:
            raise RecipeError(f"{args.recipe}: {error}") from error
        device = own_device(args.device)
        if "WORLD_SIZE" in os.environ:
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        main_process = not dist.is_initialized() or dist.get_rank() == 0
        data = load_fer2013(args.data, progress=main_process)
        for line in data.differences_from_official() if main_process else ():
            print(f"{args.data}: not the official FER2013: {line}", file=sys.stderr)
        votes = load_ferplus(args.votes, data) if args.votes else None
        teachers = [path / "model.safetensors" for path in args.teacher]
        args.out.mkdir(parents=True, exist_ok=True)
        record = train(
            recipe,
            data,
            args.out,
            device,
            votes=votes,
            teachers=teachers,
            start=args.start and args.start / "model.safetensors",
            workers=args.workers,
        )
        if main_process:
            record["command"] = command_line("classification.train", argv)
            record["versions"] = {"torch": torch.__version__, "python": sys.version.split()[0]}
            write_json(args.out / "record.json", record)
            plot_curves(record["history"], args.out / "curves.png")
            public = data.split("PublicTest")
            if recipe.disgust_as_angry:
                public = public.disgust_as_angry()
            write_card(args.out, record, public, device)
            print(
                f"best PublicTest accuracy {record['best_accuracy']:.4f}; the run is in {args.out}"
            )
    except (
        RecipeError,
        Fer2013Error,
        ImageError,
        UserError,
        TrainingError,
        WeightsError,
    ) as error:
        print(f"classification.train: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nstopped; go on with --resume --out {args.out}", file=sys.stderr)
        return 130
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
