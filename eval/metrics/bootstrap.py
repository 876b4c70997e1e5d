"""Intervals by drawing the pictures anew (Efron, 1979), the same draws for all that is compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 1000
"""How often the pictures are drawn anew."""

Weights = NDArray[np.float64]
"""How often each picture counts, shape (R, P): one row per drawing."""

Metric = Callable[[Weights], NDArray[np.float64]]
"""A figure as a function of the pictures' weights: (R, P) → (R,); nan where undefined."""


@dataclass(frozen=True)
class Bootstrap:
    """Drawings of P pictures with replacement.

    Attributes:
        weights: shape (R, P).
    """

    weights: Weights

    @classmethod
    def of(cls, pictures: int, resamples: int = RESAMPLES, seed: int = 0) -> Bootstrap:
        """Draw; the same numbers give the same drawings."""
        rng = np.random.default_rng(seed)
        even = np.full(pictures, 1 / pictures) if pictures else np.zeros(0)
        shape = (resamples, pictures)
        drawn = rng.multinomial(pictures, even, resamples) if pictures else np.zeros(shape)
        return cls(np.asarray(drawn, np.float64))

    def value(self, metric: Metric) -> float:
        """Return the figure on the pictures as they are."""
        return float(metric(np.ones((1, self.weights.shape[1])))[0])

    def interval(self, metric: Metric) -> tuple[float, float]:
        """Return the figure's 95 % percentile interval, undefined drawings left out."""
        return _percentiles(metric(self.weights))

    def difference(self, one: Metric, other: Metric) -> tuple[float, tuple[float, float]]:
        """Return figure minus other figure on the same pictures, and its 95 % interval."""
        value = self.value(one) - self.value(other)
        return value, _percentiles(one(self.weights) - other(self.weights))


def ratio_metric(parts: ArrayLike, wholes: ArrayLike) -> Metric:
    """Return the metric sum of parts / sum of wholes.

    Args:
        parts: what counts in each picture, shape (P,).
        wholes: of how many, shape (P,).
    """
    above, below = np.asarray(parts, np.float64), np.asarray(wholes, np.float64)
    return lambda weights: divide(weights @ above, weights @ below)


def divide(parts: ArrayLike, wholes: ArrayLike) -> NDArray[np.float64]:
    """Return parts / wholes element by element; nan where there is nothing to divide by."""
    above, below = np.broadcast_arrays(np.asarray(parts, float), np.asarray(wholes, float))
    result = np.full(above.shape, np.nan)
    np.divide(above, below, out=result, where=below != 0)
    return result


def _percentiles(values: NDArray[np.float64]) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if not known.size:
        return (float("nan"), float("nan"))
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)
