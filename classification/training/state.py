"""The state of a training: all that it has learnt so far, and what it learns from.

What a step does depends on the recipe's seed and the step's number alone, so a run that was stopped
and resumed ends in the same bits as one that was not.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from classification.data.fer2013 import Fer2013
from classification.data.ferplus import FerPlus
from classification.inference.classifier import TrainedNetwork, check_tensors, load_network
from classification.modeling.face_recognition_resnet import PublishedStart
from classification.modeling.face_resnet import build_network, parameter_count
from classification.modeling.normalization import Normalization
from classification.training.batches import TrainBatches, soft_targets
from classification.training.distributed import rank_and_count
from classification.training.ema import MovingAverage
from classification.training.loss import Teachers, class_weights
from classification.training.recipe import Recipe
from classification.training.schedule import can_be_prolonged, make_optimizer, out_of_patience
from faces.command import UserError
from faces.files import file_sha256, regular_file, replacing
from faces.provenance import git_commit
from networks.precision import best_dtype

CHECKPOINT = "checkpoint.pt"


@dataclass
class Progress:
    """How far a training is."""

    step: int = 0  # number of steps done
    seconds: float = 0.0  # that they took
    history: list[dict[str, float]] = field(default_factory=list)  # an entry per epoch
    best: float = -1.0  # PublicTest accuracy; -1 before the end of the first epoch
    loss_sum: float = 0.0  # of the present epoch's steps
    loss_steps: int = 0  # their number
    commit: str | None = None  # of the program that started the run


class TrainingState:
    """A training between two steps, at first before its first; see ``classification.train``."""

    def __init__(
        self,
        recipe: Recipe,
        data: Fer2013,
        out: Path,
        device: torch.device,
        *,
        votes: FerPlus | None = None,
        teachers: Sequence[Path] = (),
        start: Path | None = None,
    ) -> None:
        self.recipe, self.data, self.out, self.device = recipe, data, out, device
        self.teachers, self.start = teachers, start

        # the data, labelled and normalised as the network is taught
        rank, count = rank_and_count()
        training, validation = data.split("Training"), data.split("PublicTest")
        if recipe.disgust_as_angry:
            training, validation = training.disgust_as_angry(), validation.disgust_as_angry()
        self.validation = validation
        normalization = Normalization.of(training.images)
        if not normalization.std:
            raise UserError("all pixels of Training are alike; check the data")
        self.network = TrainedNetwork(recipe.architecture, recipe.model, normalization)

        # what each step sees, and what it is asked for
        check_sources(recipe, votes, teachers)
        own_votes = votes and votes.of(data.splits == "Training")
        targets = soft_targets(training, own_votes, recipe.votes)
        self.batches = TrainBatches(training, targets, recipe, rank, count)
        weights = class_weights(training, recipe.balance).to(device) if recipe.balance else None
        self.class_weights = weights  # in the loss, (7,) float32; None where all weigh alike
        heat = recipe.distill_temperature
        self.taught_by = Teachers(teachers, normalization, heat, device) if teachers else None

        # the network before the first step; gradients are averaged over all processes
        published = recipe.published_start and not (out / CHECKPOINT).exists()
        model = new_network(recipe, start, training.images if published else None, normalization)
        self.model = model.to(device).to(memory_format=torch.channels_last)
        self.parallel = DistributedDataParallel(self.model) if count > 1 else self.model
        self.optimizer = make_optimizer(self.model, recipe)
        self.average = MovingAverage(self.model, recipe.ema_decay)  # is evaluated and kept

        # what must be the same for a run to be resumed, and how far it is
        self.identity: dict[str, Any] = {
            "recipe": json.loads(json.dumps(recipe.to_dict())),
            "data": data.fingerprint,
            "targets": hashlib.sha256(targets.tobytes()).hexdigest(),
            "teachers": [file_sha256(path) for path in teachers],
            "start": None if start is None else file_sha256(start),
            "world_size": count,
        }
        self.progress = Progress(commit=git_commit())
        self.since = time.perf_counter()  # of the start, less the seconds of former processes
        self.saved_at = self.since  # of the last checkpoint

    @property
    def total_steps(self) -> int:
        """Steps after which the training ends, unless its patience ends before."""
        return self.recipe.epochs * self.batches.steps_per_epoch

    def finished(self) -> bool:
        """Tell whether no step is left."""
        out_of_time = self.progress.step >= self.total_steps
        return out_of_time or out_of_patience(self.recipe, self.progress.history)

    def at_epoch_end(self) -> bool:
        """Tell whether the last step was the last one of an epoch."""
        return self.progress.step % self.batches.steps_per_epoch == 0

    def loader(self, workers: int) -> DataLoader[Any]:
        """Return the batches that are left, prepared by so many processes (0: by this one)."""
        return DataLoader(
            self.batches,
            batch_size=None,
            sampler=range(self.progress.step, self.total_steps),
            num_workers=workers,
            pin_memory=self.device.type == "cuda",
        )

    def end_epoch(self, metrics: Mapping[str, float], rate: float) -> dict[str, float]:
        """Add an epoch, with loss and accuracy on PublicTest, to the history; return its entry."""
        now = self.progress
        entry = {
            "epoch": now.step // self.batches.steps_per_epoch,
            "learning_rate": rate,
            "training_loss": now.loss_sum / now.loss_steps,
            **metrics,
        }
        now.loss_sum, now.loss_steps = 0.0, 0
        now.history.append(entry)
        return entry

    def save(self) -> None:
        """Write the checkpoint, in the first process, whole or not at all."""
        if rank_and_count()[0] == 0:
            self.progress.seconds = time.perf_counter() - self.since
            content = io.BytesIO()  # torch.save's own writer does not say that a disk is full
            state = {
                "identity": json.dumps(self.identity),
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": self.average.state,
                "progress": json.dumps(asdict(self.progress)),
            }
            torch.save(state, content)
            with replacing(self.out / CHECKPOINT) as part:
                part.write_bytes(content.getbuffer())
        self.saved_at = time.perf_counter()

    def resume(self) -> None:
        """Go on from the checkpoint in the run folder, if there is one.

        A ``UserError`` says that it is damaged, or was made with another recipe or other data.
        """
        path = self.out / CHECKPOINT
        if not path.exists():
            return
        try:
            with warnings.catch_warnings(action="ignore"):  # about what the file should not be
                saved = torch.load(regular_file(path), map_location=self.device, weights_only=True)
            then = json.loads(saved["identity"])
            progress = Progress(**json.loads(saved["progress"]))
            recipe = {**Recipe().to_dict(), **then["recipe"]}  # with the keys that came later
            then = {"start": None, **then, "recipe": recipe}
        except OSError:
            raise
        except Exception as error:  # a damaged file can raise nearly anything
            raise _damaged(path, error) from error
        self._check_identity(then)
        try:
            _check_progress(progress)
            for key in ("model", "average"):
                check_tensors(saved[key], self.model.state_dict())
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
        except Exception as error:
            raise _damaged(path, error) from error
        self.average.state = saved["average"]
        self.progress = progress
        self.since = time.perf_counter() - progress.seconds

    def _check_identity(self, then: Mapping[str, Any]) -> None:
        changed = differences(then, self.identity)
        epochs = then["recipe"]["epochs"], self.recipe.epochs
        if len(changed) == 1 and epochs[0] < epochs[1] and can_be_prolonged(self.recipe):
            return
        if changed:
            way_out = "give the same, or another --out"
            if len(changed) == 1 and epochs[0] < epochs[1]:
                way_out = (
                    "its schedule is made for that number; train on with --start "
                    f"{self.out} and another --out"
                )
            raise UserError(f"{self.out}: cannot be resumed: {'; '.join(changed)}: {way_out}")

    def record(self) -> dict[str, Any]:
        """Return what a finished training's record says."""
        teachers = zip(self.teachers, self.identity["teachers"], strict=True)
        best = max(self.progress.history, key=lambda entry: entry["accuracy"])
        return {
            "recipe": self.recipe.to_dict(),
            "parameters": parameter_count(self.model),
            "training_pictures": len(self.batches.data.labels),
            "data_fingerprint": self.identity["data"],
            "data_differences": self.data.differences_from_official(),
            "targets": self.identity["targets"],
            "teachers": [{"name": path.parent.name, "sha256": sha} for path, sha in teachers],
            "start": self.start
            and {"name": self.start.parent.name, "sha256": self.identity["start"]},
            "device": str(self.device),
            "threads": torch.get_num_threads(),
            "processes": self.identity["world_size"],
            "precision": str(best_dtype(self.device)).removeprefix("torch."),
            "hours": self.progress.seconds / 3600,
            "commit": self.progress.commit,
            "best_epoch": best["epoch"],
            "best_accuracy": best["accuracy"],
            "history": self.progress.history,
        }


def check_sources(recipe: Recipe, votes: FerPlus | None, teachers: Sequence[Path]) -> None:
    """Raise a ``UserError`` unless votes and teachers are given just where the recipe uses them."""
    needs = (
        (recipe.votes > 0, votes is not None, "votes", "--votes FILE (fer2013new.csv of FER+)"),
        (recipe.distill > 0, bool(teachers), "distill", "--teacher RUN …"),
    )
    for needed, given, key, option in needs:
        if needed != given:
            raise UserError(
                f"the recipe's {key} is {getattr(recipe, key)}, so {option} must "
                f"{'' if needed else 'not '}be given"
            )


def new_network(
    recipe: Recipe,
    start: Path | None,
    images: NDArray[np.uint8] | None,
    normalization: Normalization,
) -> nn.Module:
    """Return a network before its first step, as the recipe and its seed say.

    Args:
        start: weights file of a network of that form, to start from.
        images: of Training, (N, 48, 48) uint8, if it shall start from published weights.
        normalization: of these images.

    Raises:
        UserError: the start is of another form, or the published weights are not here.
    """
    torch.manual_seed(recipe.seed)
    model = build_network(recipe.architecture, recipe.model)
    if start is not None:
        if recipe.published_start:
            raise UserError("two starts; with --start, say published_start false")
        state = load_network(start)[1]
        try:
            check_tensors(state, model.state_dict())
        except ValueError as error:
            cause = f"is no {recipe.architecture} of the recipe's form: {error}"
            raise UserError(f"{start}: {cause}") from error
        model.load_state_dict(state)
    if images is not None:
        if not isinstance(model, PublishedStart):
            raise UserError(f"published_start: {recipe.architecture} has no published weights")
        selected = np.random.default_rng(recipe.seed).permutation(len(images))[:256]
        model.load_published(normalization(images[selected]), normalization)
    return model


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say what differs between the identities of two runs, one phrase each."""
    old, new = _flat(then["recipe"]), _flat(now["recipe"])
    usual = _flat(Recipe().to_dict())
    found = []
    for key in sorted(old.keys() | new.keys()):
        values = [values.get(key, usual.get(key)) for values in (old, new)]
        if values[0] != values[1]:
            found.append(f"{key} was {values[0]} and is {values[1]}")
    if then["data"] != now["data"]:
        found.append("the data have other images, labels or splits")
    elif then["targets"] != now["targets"] and not found:
        found.append("the votes are others")
    for key, what in (("teachers", "the teachers are others"), ("start", "--start is another run")):
        found += [what] if then[key] != now[key] else []
    if then["world_size"] != now["world_size"]:
        found.append(f"processes were {then['world_size']} and are {now['world_size']}")
    return found


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in table.items():
        found |= _flat(value, f"{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def _check_progress(progress: Progress) -> None:
    numbers = [progress.step, progress.seconds, progress.best, progress.loss_sum]
    numbers += [progress.loss_steps]
    for entry in progress.history:
        numbers += [entry[key] for key in ("epoch", "training_loss", "loss", "accuracy")]
    if progress.step < 0 or not np.isfinite(np.array(numbers, np.float64)).all():
        raise ValueError("its numbers are not finite")


def _damaged(path: Path, error: Exception) -> UserError:
    cause = f"{type(error).__name__}: {error}".splitlines()[0][:100]
    return UserError(f"{path}: damaged or no checkpoint ({cause}); remove it, and train again")
