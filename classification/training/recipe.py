"""A training recipe: everything that decides which network a training makes, in one TOML file."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from classification.data.augment import Augmentation
from faces.command import UserError
from faces.files import read_toml


@dataclass(frozen=True)
class Recipe:
    """How to train one network.

    Attributes:
        architecture: a key of ``classification.modeling.face_resnet.MODELS``.
        model: arguments of the architecture's constructor.
        published_start: start from the weights that were published for the architecture.
        disgust_as_angry: train and select on six classes, as some publications do.
        epochs: passes over Training, at most.
        patience: passes without a better PublicTest accuracy after which training ends; 0: never.
        batch_size: images per step, over all processes.
        optimizer: ``sgd`` (with Nesterov's look-ahead), ``adam`` or ``adamw``.
        learning_rate: peak of the schedule.
        schedule: ``cosine`` to zero, or ``constant``, after a linear warm-up.
        warmup: epochs of warm-up.
        momentum: of SGD.
        weight_decay: on convolution and linear weights, not on biases and normalisation.
        label_smoothing: share of each target spread over all classes (Szegedy et al., 2016).
        votes: share of each target that comes from FER+'s votes, the rest from FER2013's label.
        balance: b weighs a class of n images by n to the power of -b: 0 all alike, 1 balanced.
        distill: share of the loss that asks for the teachers' probabilities (Hinton et al., 2015),
            on the same varied images (Beyer et al., "A good teacher is patient", 2022).
        distill_temperature: by which logits are divided there.
        ema_decay: of the weights' exponential moving average, which is what is evaluated and kept.
        clip_norm: largest norm of the gradient.
        seed: of the start and of everything random in the training.
        augment: how far the images are varied.
    """

    architecture: str = "face_resnet"
    model: dict[str, Any] = field(default_factory=dict)
    published_start: bool = False
    disgust_as_angry: bool = False
    epochs: int = 60
    patience: int = 0
    batch_size: int = 128
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    schedule: str = "cosine"
    warmup: float = 2.0
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    votes: float = 0.0
    balance: float = 0.0
    distill: float = 0.0
    distill_temperature: float = 2.0
    ema_decay: float = 0.999
    clip_norm: float = 5.0
    seed: int = 0
    augment: Augmentation = field(default_factory=Augmentation)

    def to_dict(self) -> dict[str, Any]:
        """Return plain nested values, as TOML or JSON would hold them."""
        return dataclasses.asdict(self)

    def is_recorded_as(self, record: Mapping[str, Any]) -> bool:
        """Tell whether a training's record has this recipe; keys that came later count as usual."""
        plain: dict[str, Any] = json.loads(json.dumps(self.to_dict()))
        return {**json.loads(json.dumps(Recipe().to_dict())), **record} == plain


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply overrides.

    Args:
        path: a TOML file with the fields of ``Recipe``.
        overrides: alternating keys and values, as Detectron2 takes them: ``epochs 3
            augment.flip 0``; a value is read as TOML, and as a string where it is none.

    Raises:
        UserError: the file or an override is wrong.
    """
    values = read_toml(path)
    if len(overrides) % 2:
        raise UserError(f"overrides come as KEY VALUE pairs, got {' '.join(overrides)!r}")
    for key, text in zip(overrides[::2], overrides[1::2], strict=True):
        table = values
        *parents, name = key.split(".")
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise UserError(f"override {key}: {parent} is no table of the recipe")
        try:
            table[name] = tomllib.loads(f"value = {text}")["value"]
        except (ValueError, RecursionError):
            table[name] = text
    return recipe_from_dict(values, str(path))


_WORDS = {"optimizer": ("sgd", "adam", "adamw"), "schedule": ("cosine", "constant")}

_RANGES: dict[str, tuple[float, float]] = {
    "epochs": (1, 100_000),
    "patience": (0, 100_000),
    "batch_size": (1, 1_000_000),
    "learning_rate": (1e-12, 1e3),
    "warmup": (0, 100_000),
    "momentum": (0, 0.9999),
    "weight_decay": (0, 1),
    "label_smoothing": (0, 0.999),
    "votes": (0, 1),
    "balance": (0, 2),
    "distill": (0, 1),
    "distill_temperature": (0.1, 100),
    "ema_decay": (0, 0.999999),
    "clip_norm": (1e-6, 1e30),
    "seed": (0, 2**32 - 1),
}
_AUGMENT_RANGES: dict[str, tuple[float, float]] = {
    "shift": (0, 0.5),
    "rotate": (0, 180),
    "scale": (0, 0.9),
    "flip": (0, 1),
    "brightness": (0, 1),
    "contrast": (0, 1),
    "blur": (0, 1),
    "erase": (0, 1),
    "mixup": (0, 100),
    "mixup_until": (0, 1),
}


def recipe_from_dict(values: dict[str, Any], source: str) -> Recipe:
    """Check nested values and build the recipe; ``source`` names them in errors."""
    values = dict(values)
    augment = values.pop("augment", {})
    if augment is False:
        augment = dict.fromkeys(_AUGMENT_RANGES, 0)
    if not isinstance(augment, dict):
        raise UserError(f"{source}: augment must be a table, or false")
    checked = _checked(values, Recipe, source)
    recipe = Recipe(**checked, augment=Augmentation(**_checked(augment, Augmentation, source)))
    for name, words in _WORDS.items():
        if (word := getattr(recipe, name)) not in words:
            raise UserError(f"{source}: {name} must be one of {', '.join(words)}, got {word!r}")
    for table, ranges in ((recipe, _RANGES), (recipe.augment, _AUGMENT_RANGES)):
        for name, (minimum, maximum) in ranges.items():
            value = getattr(table, name)
            if not minimum <= value <= maximum:
                allowed = f"{minimum}..{maximum}"
                raise UserError(f"{source}: {name} must be within {allowed}, got {value}")
    return recipe


def _checked(values: dict[str, Any], kind: type, source: str) -> dict[str, Any]:
    hints = get_type_hints(kind)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise UserError(
            f"{source}: unknown key(s) {', '.join(unknown)}; known are {', '.join(sorted(hints))}"
        )
    checked = {}
    for name, value in values.items():
        wanted = hints[name]
        if wanted is float and type(value) is int:
            value = float(value)
        base = dict if wanted == dict[str, Any] else wanted
        if type(value) is not base:
            raise UserError(
                f"{source}: {name} must be {base.__name__}, got {value!r} ({type(value).__name__})"
            )
        checked[name] = value
    return checked
