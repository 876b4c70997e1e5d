"""A training recipe: everything that decides which network a training makes, in one TOML file."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_origin, get_type_hints

from classification.data.augment import Augmentation
from faces.command import UserError
from faces.files import read_toml


@dataclass(frozen=True)
class Recipe:
    """How to train one network. Numbers say what they may be: smallest, largest."""

    architecture: str = "face_resnet"  # a key of classification.modeling.face_resnet.MODELS
    model: dict[str, Any] = field(default_factory=dict)  # arguments of its constructor
    published_start: bool = False  # start from the weights published for the architecture
    disgust_as_angry: bool = False  # train and select on six classes, as some publications do
    epochs: Annotated[int, 1, 100_000] = 60  # passes over Training, at most
    # passes without a better PublicTest accuracy after which training ends; 0: never
    patience: Annotated[int, 0, 100_000] = 0
    batch_size: Annotated[int, 1, 1_000_000] = 128  # images per step, over all processes
    optimizer: str = "sgd"  # sgd (with Nesterov's look-ahead), adam or adamw
    learning_rate: Annotated[float, 1e-12, 1e3] = 0.1  # peak of the schedule
    schedule: str = "cosine"  # cosine to zero, or constant, after a linear warm-up
    warmup: Annotated[float, 0, 100_000] = 2.0  # epochs of it
    momentum: Annotated[float, 0, 0.9999] = 0.9  # of SGD
    # on convolution and linear weights, not on biases and normalisation
    weight_decay: Annotated[float, 0, 1] = 5e-4
    # share of each target spread over all classes (Szegedy et al., 2016)
    label_smoothing: Annotated[float, 0, 0.999] = 0.1
    # share of each target that comes from FER+'s votes, the rest from FER2013's label
    votes: Annotated[float, 0, 1] = 0.0
    # b weighs a class of n images by n to the power of -b: 0 all alike, 1 balanced
    balance: Annotated[float, 0, 2] = 0.0
    # share of the loss that asks for the teachers' probabilities (Hinton et al., 2015), on the same
    # varied images (Beyer et al., "A good teacher is patient", 2022)
    distill: Annotated[float, 0, 1] = 0.0
    distill_temperature: Annotated[float, 0.1, 100] = 2.0  # by which logits are divided there
    # of the weights' exponential moving average, which is what is evaluated and kept
    ema_decay: Annotated[float, 0, 0.999999] = 0.999
    clip_norm: Annotated[float, 1e-6, 1e30] = 5.0  # largest norm of the gradient
    seed: Annotated[int, 0, 2**32 - 1] = 0  # of the start and of everything random
    augment: Augmentation = field(default_factory=Augmentation)  # how far the images are varied

    def to_dict(self) -> dict[str, Any]:
        """Return plain nested values, as TOML or JSON would hold them."""
        return dataclasses.asdict(self)

    def is_recorded_as(self, record: Mapping[str, Any]) -> bool:
        """Tell whether a training's record has this recipe; keys that came later count as usual."""
        plain: dict[str, Any] = json.loads(json.dumps(self.to_dict()))
        return {**json.loads(json.dumps(Recipe().to_dict())), **record} == plain


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe (a TOML file with the fields of ``Recipe``) and apply overrides.

    These are alternating keys and values, as Detectron2 takes them: ``epochs 3 augment.flip 0``; a
    value is read as TOML, and as a string where it is none. Mistakes in either are a ``UserError``.
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


def ranges(table: type) -> dict[str, tuple[float, float]]:
    """Return the numbers of a recipe's table: name → smallest and largest value."""
    hints = get_type_hints(table, include_extras=True)
    return {key: one.__metadata__ for key, one in hints.items() if get_origin(one) is Annotated}


def recipe_from_dict(values: dict[str, Any], source: str) -> Recipe:
    """Check nested values and build the recipe; ``source`` names them in errors."""
    values = dict(values)
    augment = values.pop("augment", {})
    if augment is False:
        augment = dict.fromkeys(ranges(Augmentation), 0)
    if not isinstance(augment, dict):
        raise UserError(f"{source}: augment must be a table, or false")
    checked = _checked(values, Recipe, source)
    recipe = Recipe(**checked, augment=Augmentation(**_checked(augment, Augmentation, source)))
    for name, words in _WORDS.items():
        if (word := getattr(recipe, name)) not in words:
            raise UserError(f"{source}: {name} must be one of {', '.join(words)}, got {word!r}")
    for table in (recipe, recipe.augment):
        for name, (minimum, maximum) in ranges(type(table)).items():
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
