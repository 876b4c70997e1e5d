"""Several boxes on one face, beside NMS: which ones to drop, what the rest does to the best."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import box_iou


def contained(boxes: NDArray[np.floating[Any]], share: float) -> NDArray[np.bool_]:
    """Tell which boxes, (N,), lie mostly inside a better one, and so show a part of the same face.

    NMS compares intersection with union and lets a small box inside a large one pass. Here each
    box, the best first, is dropped if at least ``share`` (above 1: never) of its area lies inside
    one that stays. Boxes are (N, 4) as (x1, y1, x2, y2) with positive area; N may be 0.
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


def vote(kept: Tensor, boxes: Tensor, scores: Tensor, overlap: float) -> Tensor:
    """Return what NMS has kept, each box moved to the mean of all boxes on the same face.

    Box voting: S. Gidaris and N. Komodakis, "Object Detection via a Multi-region & Semantic
    Segmentation-aware CNN Model", ICCV 2015. The boxes are weighted by their scores.

    Args:
        kept: (K, 4) float as (x1, y1, x2, y2); so is what is returned. A box of no area stays.
        boxes: (N, 4) all boxes, ``kept`` among them.
        scores: (N,) their scores, above 0.
        overlap: boxes from this IoU on with one that is kept are on its face; above 1 nothing
            moves.
    """
    if overlap > 1 or not len(kept):
        return kept
    weights = (box_iou(kept, boxes) >= overlap).to(kept.dtype) * scores.to(kept.dtype)
    total = weights.sum(1, keepdim=True)
    mean = weights @ boxes / total
    mean = mean.clamp(boxes.amin(0), boxes.amax(0))  # rounding must not leave the image
    return torch.where(total > 0, mean, kept)
