"""A trained network behind the EmotionClassifier protocol, and the file that holds all of it."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from tqdm import tqdm

from classification.inference.calibration import Scaling, check_number, softmax
from classification.inference.compiled import CompiledNetwork
from classification.modeling.face_resnet import MODELS
from classification.modeling.normalization import Normalization
from classification.modeling.support_set import matching_network
from faces.command import UserError
from faces.emotions import EMOTIONS
from faces.files import replacing
from networks.precision import best_dtype

ARCHITECTURES = {**MODELS, "matching_network": matching_network}
"""Architecture name in a weights file → constructor."""

BATCH = 256
"""Faces per forward pass; more gain nothing and take memory."""

MAXIMA = {"size": 1024, "depth": 100, "depths": 100}
"""What a weights file may ask for at most: pixels of a side, layers."""


@dataclass(frozen=True)
class TrainedNetwork:
    """What, beside the weights, makes a network usable: architecture and preprocessing."""

    architecture: str  # a key of ``ARCHITECTURES``
    model: dict[str, Any]  # arguments of its constructor
    normalization: Normalization  # of its input
    size: int = 48  # height and width of its input in pixels
    classes: Sequence[str] = EMOTIONS  # the emotion of each output
    # of its probabilities, by ``classification.calibrate``
    calibration: Scaling = field(default_factory=Scaling)

    def uncalibrated(self) -> TrainedNetwork:
        """Return the same network as it was trained."""
        return replace(self, calibration=Scaling())

    def to_json(self) -> dict[str, Any]:
        """Return plain values, flat: ``mean``, ``std`` and the scaling beside the others."""
        found: dict[str, Any] = asdict(self)
        normalization, scaling = found.pop("normalization"), found.pop("calibration")
        model = {"architecture": found.pop("architecture"), "model": found.pop("model")}
        return {**model, **normalization, **found, **scaling}

    @classmethod
    def from_json(cls, found: Any) -> TrainedNetwork:
        """Return what ``to_json`` gave and JSON kept; a ``ValueError`` says why it cannot work."""
        keys = {"architecture", "model", "mean", "std", "size", "classes", *asdict(Scaling())}
        if not isinstance(found, dict) or not keys >= found.keys() >= {"architecture", "mean"}:
            raise ValueError("made by another version of this program")
        known = str(found["architecture"]) in ARCHITECTURES
        if not known or not isinstance(found.get("model"), dict):
            raise ValueError(f"unknown architecture {str(found['architecture'])[:40]}")
        if found.get("classes", EMOTIONS) not in (list(EMOTIONS), EMOTIONS):
            raise ValueError(f"its classes are not {', '.join(EMOTIONS)}")
        size = found.get("size", 48)
        if type(size) is not int:
            raise ValueError(f"size is {str(size)[:40]}, and must be a whole number")
        check_number("size", size, 1, MAXIMA["size"])
        check_number("mean", found["mean"], 0, 1)
        check_number("std", found.get("std"), 1e-6, 1)
        normalization = Normalization(found["mean"], found["std"])
        scaling = {key: found[key] for key in asdict(Scaling()) if key in found}
        calibration = Scaling.from_json(scaling)
        return cls(
            found["architecture"], found["model"], normalization, size, EMOTIONS, calibration
        )


def save_network(path: Path, state: Mapping[str, Tensor], network: TrainedNetwork) -> None:
    """Write weights and description to one safetensors file, whole or not at all."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    with replacing(path) as part:
        part.write_bytes(save(tensors, {"network": json.dumps(network.to_json())}))


def load_network(path: Path) -> tuple[TrainedNetwork, dict[str, Tensor]]:
    """Read what ``save_network`` wrote.

    Raises:
        UserError: the file is missing, damaged, none of this program's, or describes a network that
            cannot work: of other shapes, with values that are not finite or out of range.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such weights file")
    try:
        with safe_open(path, framework="pt") as file:
            described = (file.metadata() or {}).get("network")
            state = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: damaged or no safetensors file ({error}); get it again") from (
            error
        )
    if described is None:
        raise UserError(f"{path}: not written by classification.train (no description inside)")
    try:
        network = TrainedNetwork.from_json(json.loads(described))
        check_tensors(state, empty_network(network).state_dict())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be used: {error}; train it again") from error
    return network, state


class _WithoutRandom(TorchFunctionMode):
    """Leaves out random initialisation, for which PyTorch would import its compiler (a second)."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in (Tensor.normal_, Tensor.uniform_):
            return args[0]
        return func(*args, **(kwargs or {}))


def empty_network(network: TrainedNetwork) -> nn.Module:
    """Build a network without memory for its weights; a ``ValueError`` if it cannot be built."""
    check_arguments(network.model)
    try:
        with torch.device("meta"), _WithoutRandom(), warnings.catch_warnings(action="ignore"):
            model: nn.Module = ARCHITECTURES[network.architecture](**network.model)
    except (TypeError, ValueError, RuntimeError, IndexError, ZeroDivisionError) as error:
        cause = str(error).splitlines()[0][:200]
        raise ValueError(f"no {network.architecture} can be built from it ({cause})") from error
    return model


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Raise a ``ValueError`` if a constructor's arguments ask for a network larger than any."""
    for name, value in arguments.items():
        values = value if isinstance(value, list | tuple) else [value]
        check_number(f"the length of {name}", len(values), 0, 100)
        for one in values:
            if not isinstance(one, str | bool):
                check_number(name, one, 0, MAXIMA.get(name, 1_000_000))


def check_tensors(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Check that the weights ``found`` can be those of a network that has such as ``wanted``.

    Raises:
        ValueError: names, shapes or number formats differ, a value is not finite, or a variance is
            below zero.
    """
    if found.keys() != wanted.keys():
        names = sorted(found.keys() ^ wanted.keys())
        raise ValueError(f"its weights lack, or have too many: {', '.join(names[:3])}")
    for name, value in found.items():
        if value.shape != wanted[name].shape:
            raise ValueError(
                f"{name} has the shape {tuple(value.shape)}, not {tuple(wanted[name].shape)}"
            )
        if value.is_floating_point() != wanted[name].is_floating_point() or value.is_complex():
            raise ValueError(f"{name} has the number format {value.dtype}")
        if not torch.isfinite(value.float()).all():
            raise ValueError(f"{name} has values that are not finite")
        if name.endswith("running_var") and bool((value < 0).any()):
            raise ValueError(f"{name} has variances below zero")


class NetworkClassifier:
    """A trained network as an ``EmotionClassifier``.

    Args:
        name: how reports call it.
        autocast_dtype: precision of the convolutions; None takes the processor's best.
    """

    def __init__(
        self,
        network: TrainedNetwork,
        state: Mapping[str, Tensor],
        device: torch.device,
        name: str,
        autocast_dtype: torch.dtype | None = None,
    ) -> None:
        self.name = name
        self.network = network
        self.scaling = network.calibration
        self.device = device
        self.dtype = autocast_dtype or best_dtype(device)
        model = ARCHITECTURES[network.architecture](**network.model)
        model.load_state_dict(
            {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
        )
        self.model = model.to(device).to(memory_format=torch.channels_last).eval()

    @classmethod
    def load(cls, path: Path, device: torch.device, name: str) -> NetworkClassifier:
        """Load a weights file; a ``UserError`` if it cannot be used."""
        classifier = cls(*load_network(path), device, name)
        side = classifier.network.size
        try:
            with torch.inference_mode():
                logits = classifier.model(torch.full((1, 1, side, side), 0.5, device=device))
            if not torch.isfinite(logits).all():
                raise ValueError("its answer to a grey image is not finite")
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{path}: cannot be used: {error}; train it again") from error
        return classifier

    def uncalibrated(self) -> NetworkClassifier | None:
        """Return the classifier as its training left it; None if it still is."""
        if self.scaling == Scaling():
            return None
        plain = copy.copy(self)
        plain.network, plain.scaling = self.network.uncalibrated(), Scaling()
        return plain

    def probabilities(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return probabilities (N, 7) float32 of N square crops, each (S, S, 3) uint8 RGB."""
        size = self.network.size
        grey = np.empty((len(crops), size, size), np.uint8)
        for index, crop in enumerate(crops):
            grey[index] = to_grey(crop, size)
        return self.probabilities_of_grey(grey)

    def probabilities_of_grey(
        self, images: NDArray[np.uint8], *, progress: bool = False
    ) -> NDArray[np.float32]:
        """Return probabilities (N, 7) float32 of grey images (N, size, size) uint8."""
        rows = [np.empty((0, len(EMOTIONS)), np.float32)]
        starts = range(0, len(images), BATCH)
        for start in tqdm(starts, "faces", unit=" batches") if progress else starts:
            x = self.network.normalization(images[start : start + BATCH])
            rows.append(self.scaling(softmax(self._logits(x))).astype(np.float32))
        return np.concatenate(rows)

    def _logits(self, x: Tensor) -> NDArray[np.float32]:
        if self.device.type == "cpu":
            return self._compiled(x.numpy())
        x = x.to(self.device, memory_format=torch.channels_last)
        precision = torch.autocast(self.device.type, self.dtype, self.dtype != torch.float32)
        with torch.inference_mode(), precision:
            return self.model(x).float().cpu().numpy()  # type: ignore[no-any-return]

    @cached_property
    def _compiled(self) -> CompiledNetwork:
        shape = (1, self.network.size, self.network.size)
        return CompiledNetwork(self.model, shape, bf16=self.dtype == torch.bfloat16)


def to_grey(crop: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Turn a square crop (S, S, 3) uint8 RGB into grey (size, size) uint8; shrinking averages."""
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    if grey.shape != (size, size):
        method = cv2.INTER_AREA if grey.shape[0] > size else cv2.INTER_CUBIC
        grey = cv2.resize(grey, (size, size), interpolation=method)
    return grey.astype(np.uint8, copy=False)
