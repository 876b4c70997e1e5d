"""Selective classification: which faces to answer, and which to call unsure."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Certainty = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Probabilities (N, 7) → how certain each answer is, (N,); higher is more certain."""


def top_probability(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability of the most likely emotion."""
    return np.asarray(p.max(axis=1), np.float64)


def negative_entropy(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return minus the entropy in nats."""
    return np.asarray((p * np.log(np.maximum(p, 1e-12))).sum(axis=1), np.float64)


def lead(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the difference between the two highest probabilities."""
    two = np.sort(p, axis=1)[:, -2:]
    return np.asarray(two[:, 1] - two[:, 0], np.float64)


CERTAINTIES: dict[str, Certainty] = {
    "top probability": top_probability,
    "entropy": negative_entropy,
    "lead over the second": lead,
}
"""The measures of certainty that are compared."""


def risk_coverage(
    certainty: ArrayLike, wrong: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the risk-coverage curve (El-Yaniv and Wiener, 2010), most certain faces first.

    Both are of shape (N,); equally certain faces keep their order.

    Returns:
        Share of faces answered, 1/N … 1, and share of wrong ones among them, both of shape (N,).
    """
    order = np.argsort(-np.asarray(certainty, np.float64), kind="stable")
    answered = np.arange(1, len(order) + 1)
    mistakes = np.cumsum(np.asarray(wrong, bool)[order])
    return answered / max(len(order), 1), mistakes / answered


def area_under_risk(certainty: ArrayLike, wrong: ArrayLike) -> float:
    """Return the mean risk over all coverages (AURC; Geifman et al., 2019); nan without faces."""
    _, risk = risk_coverage(certainty, wrong)
    return float(risk.mean()) if len(risk) else float("nan")


def threshold_for(certainty: ArrayLike, coverage: float) -> float:
    """Return the limit, in steps of 0.01, that leaves at least this share of the faces answered.

    Their certainty, shape (N,), not empty, in 0..1, is at or above the limit.
    """
    values = np.asarray(certainty, np.float64)
    limits = np.round(np.arange(0, 1.001, 0.01), 2)
    answered = (values[None, :] >= limits[:, None]).mean(axis=1)
    return float(limits[answered >= coverage].max())
