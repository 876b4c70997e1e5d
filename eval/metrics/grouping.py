"""Top-k accuracy, and accuracy over coarser classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.metrics import classification as class_metrics
from faces.emotions import EMOTIONS, GROUPINGS


def top_k(probabilities: NDArray[np.float32], truth: NDArray[np.int64], k: int) -> float:
    """Return how often the truth is among the k largest of a row; of equals, the first counts.

    Args:
        probabilities: shape (N, 7).
        truth: shape (N,), indices into ``EMOTIONS``.
        k: 1..7.

    Returns:
        A fraction; nan for N = 0.
    """
    if not len(truth):
        return float("nan")
    p = probabilities
    own = p[np.arange(len(truth)), truth][:, None]
    earlier = np.arange(p.shape[1])[None] < truth[:, None]
    before = (p > own) | ((p == own) & earlier)
    return float((before.sum(1) < k).mean())


def group_figures(
    probabilities: NDArray[np.float32], truth: NDArray[np.int64], grouping: str
) -> dict[str, Any]:
    """Measure over coarser classes; the probability of each is the sum of its emotions'.

    Args:
        probabilities: shape (N, 7).
        truth: shape (N,), indices into ``EMOTIONS``.
        grouping: a key of ``GROUPINGS``.

    Returns:
        ``classes``, ``confusion`` (rows: truth), ``accuracy``, ``accuracy_ci``, ``macro_f1``.
    """
    group_of = GROUPINGS[grouping]
    classes = list(dict.fromkeys(group_of[emotion] for emotion in EMOTIONS))
    index = np.array([classes.index(group_of[emotion]) for emotion in EMOTIONS])
    sums = probabilities.astype(np.float64) @ np.eye(len(classes))[index]
    confusion = class_metrics.confusion_matrix(index[truth], sums.argmax(1), len(classes))
    keys = ("accuracy", "accuracy_ci", "macro_f1")
    summary = class_metrics.summarise(confusion)
    return {"classes": classes, "confusion": confusion} | {key: summary[key] for key in keys}
