"""Multi-label metrics: the emotions a rule names, against those that people voted for.

An emotion is present in a face from a stated share of the votes; a rule names some emotions of each
face. ``present`` and ``named`` are (N, 7) booleans in the order of ``EMOTIONS``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval.metrics.bootstrap import Metric, Weights, divide

Flags = NDArray[np.bool_]


def at_or_above(values: ArrayLike, limits: ArrayLike) -> Flags:
    """Return which values (N, 7) reach their limit, one for all or (7,); 1e-6 short is enough."""
    return np.asarray(np.asarray(values, np.float64) >= np.asarray(limits, np.float64) - 1e-6, bool)


def only_the_top(probabilities: ArrayLike) -> Flags:
    """Return the rule that names the most likely emotion alone, as (N, 7) flags."""
    p = np.asarray(probabilities)
    return np.asarray(np.eye(p.shape[1], dtype=bool)[p.argmax(axis=1)], bool)


def micro_f1(named: Flags, present: Flags) -> Metric:
    """Return 2·right / (named + present), all faces and emotions counted together."""
    right, sizes = (named & present).sum(axis=1), named.sum(axis=1) + present.sum(axis=1)
    return lambda weights: divide(2 * weights @ right, weights @ sizes)


def macro_f1(named: Flags, present: Flags) -> Metric:
    """Return the mean over the emotions of their F1; 0 where never present nor named."""

    def metric(weights: Weights) -> NDArray[np.float64]:
        right = weights @ (named & present)
        sizes = weights @ (named.astype(np.float64) + present)
        return np.asarray(np.nan_to_num(divide(2 * right, sizes)).mean(axis=1), np.float64)

    return metric


def precision_recall_f1(named: Flags, present: Flags) -> NDArray[np.float64]:
    """Return precision, recall and F1 per emotion, shape (7, 3); 0 where undefined."""
    right, said, true = (named & present).sum(0), named.sum(0), present.sum(0)
    columns = (divide(right, said), divide(right, true), divide(2 * right, said + true))
    return np.nan_to_num(np.stack(columns, axis=1))


def average_precision(scores: ArrayLike, present: ArrayLike) -> float:
    """Return the area under precision against recall, as a sum of steps; nan without present ones.

    Both are of shape (N,). Higher scores are more likely; equal ones form one step.
    """
    values, truth = np.asarray(scores, np.float64), np.asarray(present, bool)
    if not truth.any():
        return float("nan")
    order = np.argsort(-values, kind="stable")
    last = np.append(np.diff(values[order]) != 0, True)  # of each run of equal scores
    right = np.cumsum(truth[order])[last]
    precision = right / np.flatnonzero(np.append(False, last))
    return float((np.diff(right, prepend=0) * precision).sum() / truth.sum())


def top_two_coverage(named: Flags, votes: ArrayLike) -> float:
    """Return which share of the faces' two most voted emotions (with votes) a rule names.

    ``votes`` are counts or shares, (N, 7); of equals, the first in ``EMOTIONS`` counts.
    """
    counts = np.asarray(votes, np.float64)
    two = np.zeros(counts.shape, bool)
    np.put_along_axis(two, np.argsort(-counts, axis=1, kind="stable")[:, :2], True, axis=1)
    two &= counts > 0
    return float(divide((named & two).sum(), two.sum()))


def best_threshold(probabilities: ArrayLike, present: Flags, grid: ArrayLike) -> float:
    """Return the threshold for all emotions with the highest macro-F1; of equals, the lowest."""
    faces = np.ones((1, len(present)))
    values = [
        macro_f1(at_or_above(probabilities, limit), present)(faces)[0] for limit in np.asarray(grid)
    ]
    return float(np.asarray(grid)[int(np.argmax(values))])


def best_thresholds(
    probabilities: ArrayLike, present: Flags, grid: ArrayLike
) -> NDArray[np.float64]:
    """Return one threshold per emotion, each with the highest F1; of equals, the lowest."""
    limits = np.asarray(grid, np.float64)
    f1 = [precision_recall_f1(at_or_above(probabilities, limit), present)[:, 2] for limit in limits]
    return np.asarray(limits[np.argmax(f1, axis=0)], np.float64)
