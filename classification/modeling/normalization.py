"""How grey levels become a network's input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Normalization:
    """Grey levels in 0..1 become (x - mean) / std."""

    mean: float  # of the training pixels, in 0..1
    std: float  # their standard deviation, above 0

    @classmethod
    def of(cls, images: NDArray[np.uint8]) -> Normalization:
        """Return the one that gives all pixels of ``images``, uint8, mean 0 and deviation 1."""
        return cls(float(images.mean() / 255), float(images.std() / 255))

    def __call__(self, images: NDArray[np.uint8] | Sequence[NDArray[np.uint8]]) -> Tensor:
        """Turn grey images of one size, (N, H, W) uint8, into float32 of shape (N, 1, H, W)."""
        batch = np.array(images, np.float32)[:, None]
        batch /= np.float32(255)
        batch -= np.float32(self.mean)
        batch /= np.float32(self.std)
        return torch.from_numpy(batch)

    def levels(self, x: Tensor) -> Tensor:
        """Return the grey levels in 0..1 of normalised images."""
        return x * self.std + self.mean

    def of_levels(self, levels: Tensor) -> Tensor:
        """Normalise grey levels in 0..1."""
        return (levels - self.mean) / self.std
