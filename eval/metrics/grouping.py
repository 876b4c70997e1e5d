"""Top-k accuracy, and accuracy over coarser classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.metrics import classification as class_metrics
from faces.emotions import EMOTIONS, GROUPINGS


def top_k(probabilities: NDArray[np.float32], truth: NDArray[np.int64], k: int) -> float:
    """Return how often the truth (N,) is among the k largest of its row (N, 7); nan for N = 0.

    Of equals, the first counts.
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
    """Measure over the coarser classes of ``GROUPINGS``; see ``classification.figures``.

    The probability of a class is the sum of its emotions'.

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
