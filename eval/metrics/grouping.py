"""How often the right emotion is among the first guesses, or at least in the right group."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.metrics import classification as class_metrics
from faces.emotions import EMOTIONS, GROUPINGS


def top_k(scores: NDArray[np.float32], truth: NDArray[np.int64], k: int) -> float:
    """Return how often the truth is among the k largest of a row; of equals, the first count.

    Args:
        scores: shape (N, 7).
        truth: shape (N,), indices into ``EMOTIONS``.
        k: 1..7.

    Returns:
        A fraction; nan for N = 0.
    """
    if not len(truth):
        return float("nan")
    own = scores[np.arange(len(truth)), truth][:, None]
    earlier = np.arange(scores.shape[1])[None] < truth[:, None]
    before = (scores > own) | ((scores == own) & earlier)
    return float((before.sum(1) < k).mean())


def group_figures(
    scores: NDArray[np.float32], truth: NDArray[np.int64], grouping: str
) -> dict[str, Any]:
    """Measure over coarser classes; each has the sum of its emotions' scores.

    Args:
        scores: shape (N, 7), the probabilities.
        truth: shape (N,), indices into ``EMOTIONS``.
        grouping: a key of ``GROUPINGS``.

    Returns:
        ``classes``, ``confusion`` (rows: truth), ``accuracy``, ``accuracy_ci``, ``macro_f1``.
    """
    group_of = GROUPINGS[grouping]
    classes = list(dict.fromkeys(group_of[emotion] for emotion in EMOTIONS))
    index = np.array([classes.index(group_of[emotion]) for emotion in EMOTIONS])
    sums = scores.astype(np.float64) @ np.eye(len(classes))[index]
    confusion = class_metrics.confusion_matrix(index[truth], sums.argmax(1), len(classes))
    return {
        "classes": classes,
        "confusion": confusion,
        "accuracy": class_metrics.accuracy(confusion),
        "accuracy_ci": class_metrics.wilson_interval(int(np.trace(confusion)), len(truth)),
        "macro_f1": class_metrics.macro_f1(confusion),
    }
