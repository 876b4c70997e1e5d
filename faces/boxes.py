"""Overlaps of boxes, and the one rule that matches detections with ground-truth faces.

Boxes are rows (x1, y1, x2, y2) in pixels. Empty inputs are legal.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from faces.types import Box

MATCH_IOU = 0.5
"""A detection finds a face from this intersection over union on (PASCAL VOC's rule)."""

DUPLICATE_INSIDE = 0.7
"""A detection with this share of its area inside an already found face repeats that face."""


def intersections(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Return the areas, shape (N, M), that each of N boxes shares with each of M boxes."""
    first, second = _boxes(a), _boxes(b)
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    sides = np.clip(high - low, 0.0, None)
    return np.asarray(sides[..., 0] * sides[..., 1], np.float64)


def iou_matrix(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Return intersection over union, shape (N, M), of N boxes with M boxes."""
    inter = intersections(a, b)
    union = _areas(a)[:, None] + _areas(b)[None, :] - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


def inside_matrix(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Return which share of each of N boxes lies inside each of M boxes, shape (N, M)."""
    inter = intersections(a, b)
    areas = np.broadcast_to(_areas(a)[:, None], inter.shape)
    return np.divide(inter, areas, out=np.zeros_like(inter), where=areas > 0)


def turned_back(box: Box, turned: int, width: int, height: int) -> Box:
    """Return where a box of an image turned clockwise by 0, 90, 180 or 270° lies in it as it was.

    That one has ``width`` × ``height`` pixels.
    """
    x1, y1, x2, y2 = box.as_tuple()
    return {
        0: box,
        90: Box(y1, height - x2, y2, height - x1),
        180: Box(width - x2, height - y2, width - x1, height - y1),
        270: Box(width - y2, x1, width - y1, x2),
    }[turned]


class Verdict(IntEnum):
    """What a detection turned out to be."""

    MATCHED = 0
    DUPLICATE = 1
    IGNORED = 2
    FALSE_POSITIVE = 3


@dataclass(frozen=True)
class Matching:
    """The detections of one image held against its ground-truth faces."""

    face: NDArray[np.int64]  # index of the face that each detection found, -1 for none; shape (N,)
    verdict: NDArray[np.int64]  # a ``Verdict`` per detection, shape (N,)

    def count(self, verdict: Verdict) -> int:
        """Return how many detections got this verdict."""
        return int((self.verdict == verdict).sum())


def match(boxes: ArrayLike, scores: ArrayLike, faces: ArrayLike, ignored: ArrayLike) -> Matching:
    """Match detections to faces greedily, the highest score first (of equals, the first listed).

    Each detection takes the free face that it overlaps most, if their IoU is at least
    ``MATCH_IOU``. One that finds no free face is, in this order: *ignored*, if at least
    ``MATCH_IOU`` of its area lies inside one ignored face or region (COCO's rule for crowds); a
    *duplicate*, if it overlaps a face that a higher score has found (IoU at least ``MATCH_IOU``, or
    at least ``DUPLICATE_INSIDE`` of its area inside); else a *false positive*.

    ``boxes`` are N with N finite ``scores``; ``faces`` are M with M booleans, ``ignored``: this
    face need not be found, nor does finding it count.
    """
    found, truth = _boxes(boxes), _boxes(faces)
    ranks, skip = np.asarray(scores, np.float64).reshape(-1), np.asarray(ignored, bool).reshape(-1)
    if len(ranks) != len(found) or len(skip) != len(truth):
        raise ValueError("expected one score per detection and one flag per face")
    overlap, inside = iou_matrix(found, truth), inside_matrix(found, truth)
    face = np.full(len(found), -1, np.int64)
    verdict = np.full(len(found), Verdict.FALSE_POSITIVE, np.int64)
    free = ~skip
    taken = np.zeros(len(truth), bool)
    for index in np.argsort(-ranks, kind="stable"):
        candidates = np.where(free, overlap[index], -1.0)
        best = int(candidates.argmax()) if len(truth) else -1
        repeats = (overlap[index] >= MATCH_IOU) | (inside[index] >= DUPLICATE_INSIDE)
        if best >= 0 and candidates[best] >= MATCH_IOU:
            face[index], verdict[index] = best, Verdict.MATCHED
            free[best], taken[best] = False, True
        elif bool((skip & (inside[index] >= MATCH_IOU)).any()):
            verdict[index] = Verdict.IGNORED
        elif bool((taken & repeats).any()):
            verdict[index] = Verdict.DUPLICATE
    return Matching(face, verdict)


def _boxes(values: ArrayLike) -> NDArray[np.float64]:
    boxes = np.asarray(values, np.float64)
    if boxes.size == 0:
        return np.zeros((0, 4))
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes must have shape (N, 4), got {boxes.shape}")
    return boxes


def _areas(values: ArrayLike) -> NDArray[np.float64]:
    boxes = _boxes(values)
    sides = np.clip(boxes[:, 2:] - boxes[:, :2], 0.0, None)
    return np.asarray(sides[:, 0] * sides[:, 1], np.float64)
