"""What a classical classifier sees of a face: 48×48 grey pixels → one row of numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from classification.data.fer2013 import SIZE
from classification.inference.classifier import (
    BATCH,
    NetworkClassifier,
    TrainedNetwork,
    check_tensors,
    empty_network,
    load_network,
)
from classification.modeling.support_set import SupportHead
from faces.command import UserError

Rows = NDArray[np.float32]
"""One row per face, shape (N, D), float32."""

COMPONENTS = 128
"""Principal components that ``pca`` and ``hog_pca`` keep."""

CELL = 8
"""Side in pixels of the cells whose histograms make up HOG and LBP."""


class Features(ABC):
    """Grey faces → rows of a ``kind``, one of ``FEATURES``, kept in a number format, ``stored``."""

    kind: str
    stored: str

    @abstractmethod
    def rows(self, images: NDArray[np.uint8]) -> Rows:
        """Return one row per grey image (N, 48, 48) uint8; N may be 0."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what was learnt, for a file."""
        return {}

    def about(self) -> dict[str, Any]:
        """Return what else a file must hold, as plain values."""
        return {}


def pixel_rows(images: NDArray[np.uint8]) -> Rows:
    """Return the pixels themselves, 0..255, shape (N, 2304)."""
    return images.reshape(len(images), SIZE * SIZE).astype(np.float32)


def hog_rows(images: NDArray[np.uint8]) -> Rows:
    """Return histograms of oriented gradients (Dalal & Triggs, 2005), shape (N, 900).

    OpenCV's: 8×8-pixel cells, 9 unsigned directions, blocks of 2×2 cells that overlap by half,
    each normalised by L2-Hys.
    """
    block = 2 * CELL
    describe = cv2.HOGDescriptor(
        (SIZE, SIZE), (block, block), (CELL, CELL), (CELL, CELL), 9
    ).compute
    rows = [np.asarray(describe(image), np.float32).ravel() for image in images]
    return np.stack(rows) if rows else np.zeros((0, 900), np.float32)


def lbp_rows(images: NDArray[np.uint8]) -> Rows:
    """Return local binary patterns in a grid (Ahonen et al., 2006), shape (N, 36·59 = 2124).

    Each pixel's code compares its eight neighbours with it (edge pixels repeated outwards); the
    58 codes with at most two changes around the circle have a bin each, the others share one. A
    row holds the histograms of the 6×6 cells, as square roots of frequencies (Hellinger).
    """
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)), mode="edge")
    codes = np.zeros(images.shape, np.uint8)
    for bit, (dy, dx) in enumerate(_CIRCLE):
        neighbour = padded[:, 1 + dy : 1 + dy + SIZE, 1 + dx : 1 + dx + SIZE]
        codes |= (neighbour >= images).astype(np.uint8) << np.uint8(bit)
    side = SIZE // CELL
    cells = _UNIFORM_BIN[codes].reshape(len(images), side, CELL, side, CELL)
    cells = cells.transpose(0, 1, 3, 2, 4).reshape(-1, CELL * CELL)
    offsets = np.arange(len(cells))[:, None] * _BINS
    counts = np.bincount((cells + offsets).ravel(), minlength=len(cells) * _BINS)
    shares = counts.reshape(len(images), side * side * _BINS) / (CELL * CELL)
    return np.sqrt(shares, dtype=np.float32)


_CIRCLE = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))


def _uniform_bins() -> NDArray[np.int64]:
    codes = np.arange(256)
    turned = (codes >> 1) | ((codes & 1) << 7)
    changes = np.array([int(c).bit_count() for c in codes ^ turned])
    bins = np.full(256, 58, np.int64)
    bins[changes <= 2] = np.arange(58)
    return bins


_UNIFORM_BIN = _uniform_bins()
_BINS = 59

PLAIN = {
    "pixels": (pixel_rows, "uint8"),
    "hog": (hog_rows, "float16"),
    "lbp": (lbp_rows, "float16"),
}
"""Features that learn nothing: name → function, number format to keep them in."""


class PlainFeatures(Features):
    """One of ``PLAIN``."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._rows, self.stored = PLAIN[kind]

    def rows(self, images: NDArray[np.uint8]) -> Rows:
        """Return one row per grey image (N, 48, 48) uint8."""
        return self._rows(images)


@dataclass
class PcaFeatures(Features):
    """The first principal components of pixels or HOG, rounded to 8 bits: a row takes 128 bytes."""

    kind: str  # ``pca`` (of pixels) or ``hog_pca``
    mean: NDArray[np.float32]  # of the training rows, shape (D,)
    axes: NDArray[np.float32]  # shape (D, 128), divided by the step of the rounding
    stored: str = "int8"

    @classmethod
    def fit(cls, kind: str, images: NDArray[np.uint8], seed: int) -> PcaFeatures:
        """Learn the components of grey images (N, 48, 48) uint8."""
        from sklearn.decomposition import PCA  # slow to import, and not needed to use a model

        rows = PLAIN[_BASE[kind]][0](images)
        kept = min(COMPONENTS, *rows.shape)
        pca = PCA(kept, random_state=seed).fit(rows)
        axes = np.asarray(pca.components_.T, np.float32)
        mean = np.asarray(pca.mean_, np.float32)
        step = np.abs((rows - mean) @ axes).max() / 127
        return cls(kind, mean, np.ascontiguousarray(axes / step))

    def rows(self, images: NDArray[np.uint8]) -> Rows:
        """Return whole numbers -127..127, one row per grey image (N, 48, 48) uint8."""
        projected = (PLAIN[_BASE[self.kind]][0](images) - self.mean) @ self.axes
        return np.clip(np.rint(projected), -127, 127)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the mean and the axes."""
        return {"mean": self.mean, "axes": self.axes}


_BASE = {"pca": "pixels", "hog_pca": "hog"}


class EmbeddingFeatures(Features):
    """What a trained network hands to its last layer; the network is frozen."""

    kind = "embedding"
    stored = "float16"

    def __init__(self, network: TrainedNetwork, state: Mapping[str, Tensor]) -> None:
        self.network, self.state = network, state
        classifier = NetworkClassifier(network, state, torch.device("cpu"), "embedding")
        self._model = classifier.model
        last = [m for m in self._model.modules() if isinstance(m, nn.Linear | SupportHead)][-1]
        self._seen: list[Tensor] = []
        self.width = last.in_features
        last.register_forward_pre_hook(lambda _, inputs: self._seen.append(inputs[0].float()))

    def rows(self, images: NDArray[np.uint8]) -> Rows:
        """Return one row per grey image (N, 48, 48) uint8."""
        with torch.inference_mode():
            for start in range(0, len(images), BATCH):
                batch = images[start : start + BATCH]
                self._model(self.network.normalization(batch))
        rows = [seen.numpy() for seen in self._seen]
        self._seen.clear()
        return np.concatenate([np.zeros((0, self.width), np.float32), *rows])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the network's weights."""
        return {name: value.numpy() for name, value in self.state.items()}

    def about(self) -> dict[str, Any]:
        """Return the network's description."""
        return {"network": self.network.to_json()}


FEATURES = (*PLAIN, *_BASE, "embedding")
"""Everything that a baseline can be trained on."""


def fit_features(kind: str, images: NDArray[np.uint8], network: Path | None, seed: int) -> Features:
    """Learn features of a kind on Training, (N, 48, 48) uint8.

    ``network`` is the weights file of that whose embedding is taken; a ``UserError`` says that it
    is given but not needed, or the other way round, or cannot be used.
    """
    if (kind == EmbeddingFeatures.kind) != (network is not None):
        raise UserError(
            "--network WEIGHTS.safetensors goes with --features embedding, and only with it"
        )
    if network is not None:
        return EmbeddingFeatures(*load_network(network))
    if kind in PLAIN:
        return PlainFeatures(kind)
    return PcaFeatures.fit(kind, images, seed)


def load_features(kind: str, arrays: dict[str, NDArray[Any]], about: dict[str, Any]) -> Features:
    """Build features from what ``arrays`` and ``about`` gave, if they describe any."""
    if kind in PLAIN:
        return PlainFeatures(kind)
    if kind in _BASE:
        return PcaFeatures(kind, arrays["mean"], arrays["axes"])
    if kind == EmbeddingFeatures.kind:
        state = {name: torch.from_numpy(value) for name, value in arrays.items()}
        for name in state:
            if name.endswith("num_batches_tracked"):  # numpy's files have no scalars
                state[name] = state[name].reshape(())
        network = TrainedNetwork.from_json(about["network"])
        check_tensors(state, empty_network(network).state_dict())
        return EmbeddingFeatures(network, state)
    raise ValueError(f"unknown features {kind!r}")
