"""The arithmetic of the evaluation, in numpy alone: class metrics, intervals, overlaps, matching.

Boxes are rows (x1, y1, x2, y2) in pixels. Empty inputs are legal unless a docstring says otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

MATCH_IOU = 0.5
"""A detection finds a face from this intersection over union on (PASCAL VOC's rule)."""

DUPLICATE_INSIDE = 0.7
"""A detection with this share of its area inside an already found face repeats that face."""

Z_95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution: two-sided 95 %."""


def confusion_matrix(truth: ArrayLike, predicted: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Count the pairs (true class, predicted class).

    Args:
        truth: N class indices in 0..classes-1.
        predicted: N class indices in 0..classes-1.
        classes: number of classes.

    Returns:
        Shape (classes, classes), int64; rows are the truth, columns the prediction.

    Raises:
        ValueError: the lengths differ, or an index lies outside the range.
    """
    rows, columns = np.asarray(truth, np.int64), np.asarray(predicted, np.int64)
    if rows.shape != columns.shape or rows.ndim != 1:
        raise ValueError(
            f"expected two lists of one length, got shapes {rows.shape}, {columns.shape}"
        )
    both = np.concatenate([rows, columns])
    if both.size and (both.min() < 0 or both.max() >= classes):
        raise ValueError(f"class indices must lie in 0..{classes - 1}")
    counts = np.bincount(rows * classes + columns, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)


@dataclass(frozen=True, slots=True)
class ClassScores:
    """How well one class is recognised.

    Attributes:
        precision: right / predicted as this class; 0 where it is never predicted (scikit-learn's
            ``zero_division=0``); nan for a class absent from the truth.
        recall: right / truly this class; nan for a class absent from the truth.
        f1: their harmonic mean, 2·right / (predicted + true); nan for a class absent from truth.
        support: how many truly are of this class.
    """

    precision: float
    recall: float
    f1: float
    support: int


def class_scores(confusion: NDArray[np.int64]) -> list[ClassScores]:
    """Return the scores of each class, in the order of the confusion matrix (rows = truth)."""
    result = []
    for index in range(len(confusion)):
        right = int(confusion[index, index])
        true, predicted = int(confusion[index].sum()), int(confusion[:, index].sum())
        if not true:
            result.append(ClassScores(math.nan, math.nan, math.nan, 0))
            continue
        precision = right / predicted if predicted else 0.0
        result.append(ClassScores(precision, right / true, 2 * right / (true + predicted), true))
    return result


def accuracy(confusion: NDArray[np.int64]) -> float:
    """Return the share of right predictions; nan without any."""
    total = int(confusion.sum())
    return int(np.trace(confusion)) / total if total else math.nan


def macro_f1(confusion: NDArray[np.int64]) -> float:
    """Return the mean F1 over the classes present in the truth; nan without any."""
    present = [scores.f1 for scores in class_scores(confusion) if scores.support]
    return math.fsum(present) / len(present) if present else math.nan


def balanced_accuracy(confusion: NDArray[np.int64]) -> float:
    """Return the mean recall over the classes present in the truth; nan without any."""
    present = [scores.recall for scores in class_scores(confusion) if scores.support]
    return math.fsum(present) / len(present) if present else math.nan


def wilson_interval(right: int, total: int, z: float = Z_95) -> tuple[float, float]:
    """Return the score interval of a proportion (Wilson, 1927); (nan, nan) for ``total`` 0.

    Args:
        right: successes, 0..total.
        total: trials.
        z: normal quantile; the default gives 95 %.
    """
    if not 0 <= right <= total:
        raise ValueError(f"expected 0 <= right <= total, got {right} of {total}")
    if not total:
        return (math.nan, math.nan)
    share, spread = right / total, z * z / total
    centre = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / total + spread / (4 * total))
    low = 0.0 if right == 0 else centre - half
    high = 1.0 if right == total else centre + half
    return (low, high)


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


class Verdict(IntEnum):
    """What a detection turned out to be."""

    MATCHED = 0
    DUPLICATE = 1
    IGNORED = 2
    FALSE = 3


@dataclass(frozen=True)
class Matching:
    """The detections of one picture held against its true faces.

    Attributes:
        face: shape (N,), int64: index of the face that each detection found, -1 for none.
        verdict: shape (N,), int64: a ``Verdict`` per detection.
    """

    face: NDArray[np.int64]
    verdict: NDArray[np.int64]

    def count(self, verdict: Verdict) -> int:
        """Return how many detections got this verdict."""
        return int((self.verdict == verdict).sum())


def match(boxes: ArrayLike, scores: ArrayLike, faces: ArrayLike, ignored: ArrayLike) -> Matching:
    """Match detections to faces greedily, the highest score first (of equals, the first listed).

    Each detection takes the free face that it overlaps most, if their IoU is at least
    ``MATCH_IOU``. One that finds no free face is, in this order: *ignored*, if at least
    ``MATCH_IOU`` of its area lies inside one ignored face or region (COCO's rule for crowds); a
    *duplicate*, if it overlaps a face that a higher score has found (IoU at least ``MATCH_IOU``, or
    at least ``DUPLICATE_INSIDE`` of its area inside); else *false*.

    Args:
        boxes: N detected boxes.
        scores: N scores, finite.
        faces: M true boxes, the ignored ones included.
        ignored: M booleans: this face need not be found, nor does finding it count.
    """
    found, truth = _boxes(boxes), _boxes(faces)
    ranks, skip = np.asarray(scores, np.float64).reshape(-1), np.asarray(ignored, bool).reshape(-1)
    if len(ranks) != len(found) or len(skip) != len(truth):
        raise ValueError("expected one score per detection and one flag per face")
    overlap, inside = iou_matrix(found, truth), inside_matrix(found, truth)
    face = np.full(len(found), -1, np.int64)
    verdict = np.full(len(found), Verdict.FALSE, np.int64)
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
