"""A baseline behind the EmotionClassifier protocol, and the file that holds all of it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from baselines.features import FEATURES, Features, load_features
from baselines.knn import Knn
from baselines.perceptron import Perceptron
from classification.data.fer2013 import SIZE
from classification.inference.calibration import Scaling
from classification.inference.classifier import to_grey
from faces.command import UserError
from faces.emotions import EMOTIONS

BATCH = 256
"""Faces whose rows are in memory at a time."""

_MARK = "baseline"


class BaselineError(UserError):
    """A baseline's file cannot be used; the message names the file, the cause and the way out."""


@dataclass
class BaselineClassifier:
    """Features and a model as an ``EmotionClassifier``.

    Attributes:
        name: how reports call it.
        features: what the model sees.
        model: which emotion that shows.
        calibration: what makes its probabilities mean what they say.
        dtype: the number format it computes in.
    """

    name: str
    features: Features
    model: Knn | Perceptron
    calibration: Scaling = field(default_factory=Scaling)
    dtype: str = "float32"

    def uncalibrated(self) -> BaselineClassifier | None:
        """Return the classifier as it was fitted; None if it still is."""
        return replace(self, calibration=Scaling()) if self.calibration != Scaling() else None

    def probabilities(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return probabilities (N, 7) float32 of N square crops, each (S, S, 3) uint8 RGB."""
        grey = np.empty((len(crops), SIZE, SIZE), np.uint8)
        for index, crop in enumerate(crops):
            grey[index] = to_grey(crop, SIZE)
        return self.probabilities_of_grey(grey)

    def probabilities_of_grey(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return probabilities (N, 7) float32 of grey pictures (N, 48, 48) uint8."""
        found = [np.zeros((0, len(EMOTIONS)), np.float32)]
        for start in range(0, len(images), BATCH):
            rows = self.features.rows(images[start : start + BATCH])
            plain = self.model.probabilities(rows)
            found.append(self.calibration(plain).astype(np.float32))
        return np.concatenate(found)


def save_baseline(path: Path, baseline: BaselineClassifier) -> None:
    """Write all but the name to one safetensors file, replacing an old one when whole."""
    features, model = baseline.features, baseline.model
    arrays: dict[str, NDArray[Any]] = {
        f"features.{name}": value for name, value in features.arrays().items()
    }
    about: dict[str, Any] = {
        "features": features.kind,
        "features_about": features.about(),
        "classes": EMOTIONS,
        "calibration": asdict(baseline.calibration),
    }
    if isinstance(model, Knn):
        arrays |= {"rows": model.rows, "labels": model.labels.astype(np.uint8)}
        about["knn"] = {"k": model.k, "metric": model.metric, "power": model.power}
    else:
        for index, (weight, bias) in enumerate(zip(model.weights, model.biases, strict=True)):
            arrays |= {f"weights.{index}": weight, f"biases.{index}": bias}
        about["layers"] = len(model.weights)
    arrays = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    Path(f"{path}.tmp").write_bytes(save(arrays, {_MARK: json.dumps(about)}))
    os.replace(f"{path}.tmp", path)


def is_baseline(path: Path) -> bool:
    """Tell whether a file is one that ``save_baseline`` wrote."""
    try:
        with safe_open(path, framework="np") as file:
            return _MARK in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def load_baseline(path: Path, name: str) -> BaselineClassifier:
    """Read what ``save_baseline`` wrote.

    Raises:
        BaselineError: the file is damaged or none of this program's.
    """
    try:
        with safe_open(path, framework="np") as file:
            about = json.loads((file.metadata() or {})[_MARK])
            arrays = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise BaselineError(f"{path}: damaged or no baseline ({error}); train it anew") from error
    learnt = {k.removeprefix("features."): v for k, v in arrays.items() if "features." in k}
    try:
        if tuple(about["classes"]) != EMOTIONS:
            raise ValueError(f"its classes are {about['classes']}")
        features = load_features(about["features"], learnt, about["features_about"])
        model: Knn | Perceptron
        if "knn" in about:
            model = Knn(arrays["rows"], arrays["labels"].astype(np.int64), **about["knn"])
        else:
            layers = range(about["layers"])
            model = Perceptron(
                [arrays[f"weights.{i}"] for i in layers], [arrays[f"biases.{i}"] for i in layers]
            )
        scaling = Scaling.from_json(about["calibration"])
        found = BaselineClassifier(name, features, model, scaling)
        found.probabilities_of_grey(np.zeros((1, SIZE, SIZE), np.uint8))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise BaselineError(
            f"{path}: made by another version of this program ({error}); train it anew"
        ) from error
    return found


def command_for(name: str) -> str | None:
    """Return the command that makes the baseline of that name (``knn_pixels``), or None."""
    from baselines.fitting import MODELS

    for model in MODELS:
        for features in FEATURES:
            if name == f"{model}_{features}":
                network = (
                    " --network weights/accurate.safetensors" if features == "embedding" else ""
                )
                return (
                    f"python -m baselines.train --model {model} --features {features}{network} "
                    f"--data fer2013.zip --out runs/{name}"
                )
    return None
