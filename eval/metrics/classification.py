"""Metrics of one label per face; empty inputs are legal."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from faces.emotions import EMOTIONS

Z_95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution: two-sided 95 %."""


def confusion_matrix(truth: ArrayLike, predicted: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Count the pairs (true class, predicted class) of N faces; indices lie in 0..classes-1.

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
    """Precision, recall and F1 of one class."""

    # right / predicted as this class; 0 where none is predicted (scikit-learn's
    # ``zero_division=0``); nan for a class absent from the truth
    precision: float
    recall: float  # right / truly this class; nan for a class absent from the truth
    # their harmonic mean, 2·right / (predicted + true); nan for a class absent from truth
    f1: float
    support: int  # how many truly are of this class


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


def wilson_interval(right: int, total: int, z: float = Z_95) -> tuple[float, float]:
    """Return the score interval of a proportion (Wilson, 1927); (nan, nan) for ``total`` 0.

    ``right`` of ``total`` trials are successes; ``z`` is a normal quantile, by default of 95 %.
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


def summarise(confusion: NDArray[np.int64]) -> dict[str, Any]:
    """Return ``n`` and the metrics of a confusion matrix; nan without a face.

    ``accuracy`` is the share of right predictions, with its interval ``accuracy_ci``; ``macro_f1``
    and ``balanced_accuracy`` are the mean F1 and recall over the classes present in the truth.
    """
    n, right = int(confusion.sum()), int(np.trace(confusion))
    present = [scores for scores in class_scores(confusion) if scores.support]

    def mean(values: Iterable[float]) -> float:
        return math.fsum(values) / len(present) if present else math.nan

    return {
        "n": n,
        "accuracy": right / n if n else math.nan,
        "accuracy_ci": wilson_interval(right, n),
        "macro_f1": mean(scores.f1 for scores in present),
        "balanced_accuracy": mean(scores.recall for scores in present),
    }


def figures(probabilities: NDArray[np.float32], truth: NDArray[np.int64]) -> dict[str, Any]:
    """Measure a classifier's probabilities (N, 7) against the truth, (N,) indices of ``EMOTIONS``.

    Returns:
        What ``summarise`` returns, ``per_class`` (emotion → ``ClassScores`` as an object) and
        ``confusion`` (rows: truth).
    """
    confusion = confusion_matrix(truth, probabilities.argmax(1), len(EMOTIONS))
    per_class = zip(EMOTIONS, class_scores(confusion), strict=True)
    return summarise(confusion) | {
        "per_class": {emotion: asdict(scores) for emotion, scores in per_class},
        "confusion": confusion,
    }
