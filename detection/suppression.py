"""Several boxes on one face: which ones to drop, beyond Detectron2's own NMS."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def contained(boxes: NDArray[np.floating[Any]], share: float) -> NDArray[np.bool_]:
    """Tell which boxes lie mostly inside a better one, and so show a part of the same face.

    NMS compares intersection with union and lets a small box inside a large one pass. Here each
    box, the best first, is dropped if at least ``share`` of its area lies inside one that stays.

    Args:
        boxes: (N, 4) as (x1, y1, x2, y2) with positive area, best first; N may be 0.
        share: above 1, none is dropped.

    Returns:
        (N,) which ones to drop.
    """
    dropped = np.zeros(len(boxes), bool)
    if share > 1 or len(boxes) < 2:
        return dropped
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    inside = (high - low).clip(0).prod(axis=2) / (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)[:, None]
    for index in range(1, len(boxes)):
        dropped[index] = bool((inside[index, :index][~dropped[:index]] >= share).any())
    return dropped
