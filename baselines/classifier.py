"""A baseline behind the EmotionClassifier protocol, and the file that holds all of it."""

from __future__ import annotations

import json
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
from classification.inference.calibration import Scaling, check_number
from classification.inference.classifier import to_grey
from faces.command import UserError
from faces.emotions import EMOTIONS
from faces.files import replacing

BATCH = 256
"""Faces whose rows are in memory at a time."""

_MARK = "baseline"


@dataclass
class BaselineClassifier:
    """Features and a model as an ``EmotionClassifier``."""

    name: str  # in reports
    features: Features  # what the model sees
    model: Knn | Perceptron  # which emotion that shows
    calibration: Scaling = field(default_factory=Scaling)  # of its probabilities
    dtype: str = "float32"  # the number format it computes in

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
        """Return probabilities (N, 7) float32 of grey images (N, 48, 48) uint8."""
        found = [np.zeros((0, len(EMOTIONS)), np.float32)]
        for start in range(0, len(images), BATCH):
            rows = self.features.rows(images[start : start + BATCH])
            plain = self.model.probabilities(rows)
            found.append(self.calibration(plain).astype(np.float32))
        return np.concatenate(found)


def save_baseline(path: Path, baseline: BaselineClassifier) -> None:
    """Write all but the name to one safetensors file, whole or not at all."""
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
    with replacing(path) as part:
        part.write_bytes(save(arrays, {_MARK: json.dumps(about)}))


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
        UserError: the file is damaged, none of this program's, or describes a classifier that
            cannot work: of other shapes, with values that are not finite or out of range.
    """
    try:
        with safe_open(path, framework="np") as file:
            about = json.loads((file.metadata() or {})[_MARK])
            arrays = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged or no baseline ({error}); train it again") from error
    try:
        found = _build(about, arrays, name)
        with np.errstate(all="ignore"):  # the answer is looked at
            answer = found.probabilities_of_grey(np.full((1, SIZE, SIZE), 128, np.uint8))
        if answer.shape != (1, len(EMOTIONS)) or not np.isfinite(answer).all():
            raise ValueError("its answer to a grey image is not seven finite numbers")
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
        cause = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path}: cannot be used ({cause}); train it again") from error
    return found


def _build(about: dict[str, Any], arrays: dict[str, NDArray[Any]], name: str) -> BaselineClassifier:
    # every number is finite, and of a kind that this program writes
    if list(about["classes"]) != list(EMOTIONS):
        raise ValueError(f"its classes are {str(about['classes'])[:40]}")
    for key, value in arrays.items():
        if value.dtype.kind not in "fiu" or not np.isfinite(value).all():
            raise ValueError(f"{key} has values that are no finite numbers")

    # the features, and the model that sees them
    learnt = {k.removeprefix("features."): v for k, v in arrays.items() if "features." in k}
    features = load_features(about["features"], learnt, about["features_about"])
    model: Knn | Perceptron
    if "knn" in about:
        model = Knn(arrays["rows"], arrays["labels"].astype(np.int64), **about["knn"])
    else:
        check_number("layers", about["layers"], 1, 100)
        layers = range(about["layers"])
        model = Perceptron(
            [arrays[f"weights.{i}"] for i in layers], [arrays[f"biases.{i}"] for i in layers]
        )
    return BaselineClassifier(name, features, model, Scaling.from_json(about["calibration"]))


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
