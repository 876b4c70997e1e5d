"""What faces look like, from their colours: enough to know them again within one video.

The networks that tell emotions cannot serve: they have learnt to overlook who somebody is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from faces.pipeline import Image
from faces.types import Box

SIDE = 24
"""A face is scaled to so many pixels each way before its colours are counted."""

LEVELS, TINTS = 8, 5
"""Into how many steps brightness, and each of two differences of colours, are divided."""

TINT = 64.0
"""Differences of colours beyond this, of 255, count as this."""

Looks = NDArray[np.uint8]
"""Descriptions, (N, 400): histograms of a face's upper and lower half, square roots of shares."""


def describe(image: Image, boxes: Sequence[Box]) -> Looks:
    """Describe the faces in N boxes of an image, (H, W, 3) uint8 RGB."""
    rows = [_histogram(_crop(image, box)) for box in boxes]
    return np.array(rows, np.uint8).reshape(len(boxes), 2 * LEVELS * TINTS**2)


def unit(looks: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return rows of length 1, whose products are 1 for equal looks and 0 for no common colour."""
    rows = looks.astype(np.float64)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-9))


def _crop(image: Image, box: Box) -> NDArray[np.float64]:
    """Return what a box shows inside the image, (SIDE, SIDE, 3)."""
    height, width = image.shape[:2]
    x1, y1 = min(max(int(box.x1), 0), width - 1), min(max(int(box.y1), 0), height - 1)
    x2, y2 = max(min(round(box.x2), width), x1 + 1), max(min(round(box.y2), height), y1 + 1)
    part = Pillow.fromarray(np.ascontiguousarray(image[y1:y2, x1:x2]))
    return np.asarray(part.resize((SIDE, SIDE), Pillow.Resampling.BOX), np.float64)


def _histogram(face: NDArray[np.float64]) -> NDArray[np.float64]:
    red, green, blue = face[..., 0], face[..., 1], face[..., 2]
    light = _step((red + green + blue) / 3 / 256, LEVELS)
    first = _step((red - green + TINT) / (2 * TINT), TINTS)
    second = _step((blue - (red + green) / 2 + TINT) / (2 * TINT), TINTS)
    kinds = (light * TINTS + first) * TINTS + second
    count = LEVELS * TINTS**2
    halves = [np.bincount(half.ravel(), minlength=count) for half in np.array_split(kinds, 2)]
    return np.asarray(np.sqrt(np.concatenate(halves) / kinds.size) * 255)


def _step(values: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    return np.clip(values * count, 0, count - 1).astype(np.intp)
