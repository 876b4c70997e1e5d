"""A trained network behind the EmotionClassifier protocol, and the file that holds all of it."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from tqdm import tqdm

from classification.inference.calibration import Scaling, softmax
from classification.inference.compiled import CompiledNetwork
from classification.modeling.face_resnet import MODELS
from classification.modeling.support_set import matching_network
from faces.command import UserError
from faces.emotions import EMOTIONS
from networks.precision import best_dtype

ARCHITECTURES = {**MODELS, "matching_network": matching_network}
"""Architecture name in a weights file → constructor."""

BATCH = 256
"""Faces per forward pass; more gain nothing and take memory."""


class WeightsError(UserError):
    """A weights file cannot be used; the message names the file, the cause and the way out."""


@dataclass(frozen=True)
class TrainedNetwork:
    """What, beside the weights, makes a network usable: architecture and preprocessing.

    Attributes:
        architecture: a key of ``ARCHITECTURES``.
        model: arguments of its constructor.
        mean: of the training pixels, in 0..1.
        std: of the training pixels, in 0..1.
        size: height and width of its input in pixels.
        classes: the emotion of each output, ``EMOTIONS``.
        temperature: that makes the probabilities mean what they say;
        smoothing: the label smoothing undone before;
        slope: of the temperature over the entropy; and
        mixing, biases: of the emotions: all as ``probabilities.rescale`` takes them and
            ``classification.calibrate`` fits them.
    """

    architecture: str
    model: dict[str, Any]
    mean: float
    std: float
    size: int = 48
    classes: Sequence[str] = EMOTIONS
    temperature: float = 1.0
    smoothing: float = 0.0
    slope: float = 0.0
    mixing: Sequence[Sequence[float]] = ()
    biases: Sequence[float] = ()

    @property
    def calibration(self) -> Scaling:
        """What calibrates it, ready to use."""
        return Scaling.from_json({key: getattr(self, key) for key in asdict(Scaling())})

    def uncalibrated(self) -> TrainedNetwork:
        """Return the same network as it was trained."""
        return replace(self, **asdict(Scaling()))


def save_network(path: Path, state: Mapping[str, Tensor], network: TrainedNetwork) -> None:
    """Write weights and description to one safetensors file, replacing an old one when whole."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    Path(f"{path}.tmp").write_bytes(save(tensors, {"network": json.dumps(asdict(network))}))
    os.replace(f"{path}.tmp", path)


def load_network(path: Path) -> tuple[TrainedNetwork, dict[str, Tensor]]:
    """Read what ``save_network`` wrote.

    Raises:
        WeightsError: the file is missing, damaged, or none of this program's.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    try:
        with safe_open(path, framework="pt") as file:
            described = (file.metadata() or {}).get("network")
            state = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path}: damaged or no safetensors file ({error}); fetch it anew"
        ) from error
    if described is None:
        raise WeightsError(f"{path}: not written by classification.train (no description inside)")
    try:
        network = TrainedNetwork(**json.loads(described))
        network = replace(network, **asdict(network.calibration))  # with tuples for JSON's lists
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{path}: made by another version of this program ({error})") from error
    if tuple(network.classes) != EMOTIONS or network.architecture not in ARCHITECTURES:
        raise WeightsError(f"{path}: made by another version of this program; train it anew")
    return network, state


class NetworkClassifier:
    """A trained network as an ``EmotionClassifier``.

    Args:
        network: architecture and preprocessing.
        state: the weights.
        device: where to run.
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
        """Load a weights file.

        Raises:
            WeightsError: the file cannot be used.
        """
        network, state = load_network(path)
        try:
            return cls(network, state, device, name)
        except (RuntimeError, TypeError) as error:
            raise WeightsError(
                f"{path}: the weights do not fit their description: {error}"
            ) from error

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
        """Return probabilities (N, 7) float32 of grey pictures (N, size, size) uint8."""
        rows = [np.empty((0, len(EMOTIONS)), np.float32)]
        starts = range(0, len(images), BATCH)
        for start in tqdm(starts, "faces", unit=" batches") if progress else starts:
            x = to_tensor(images[start : start + BATCH], self.network.mean, self.network.std)
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


def to_tensor(
    images: NDArray[np.uint8] | Sequence[NDArray[np.uint8]], mean: float, std: float
) -> Tensor:
    """Turn grey pictures of one size into a network's input.

    Args:
        images: shape (N, H, W), uint8.
        mean: of the training pixels, in 0..1.
        std: of the training pixels, in 0..1.

    Returns:
        Shape (N, 1, H, W), float32, normalised.
    """
    batch = np.array(images, np.float32)[:, None]
    batch /= np.float32(255)
    batch -= np.float32(mean)
    batch /= np.float32(std)
    return torch.from_numpy(batch)
