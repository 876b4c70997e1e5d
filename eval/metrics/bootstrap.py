"""Bootstrap intervals over images (Efron, 1979), the same resamples for all that is compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 1000
"""How many resamples an interval is taken from."""

Weights = NDArray[np.float64]
"""How often each image counts, shape (R, P): one row per resample."""

Metric = Callable[[Weights], NDArray[np.float64]]
"""A figure as a function of the images' weights: (R, P) → (R,); nan where undefined."""


@dataclass(frozen=True)
class Bootstrap:
    """Resamples of P images, drawn with replacement; ``weights`` is of shape (R, P)."""

    weights: Weights

    @classmethod
    def of(cls, images: int, resamples: int = RESAMPLES, seed: int = 0) -> Bootstrap:
        """Draw; the same arguments give the same resamples."""
        if not images:
            return cls(np.zeros((resamples, 0)))
        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(images, np.full(images, 1 / images), resamples)
        return cls(drawn.astype(np.float64))

    def value(self, metric: Metric) -> float:
        """Return the figure on the images as they are."""
        return float(metric(np.ones((1, self.weights.shape[1])))[0])

    def interval(self, metric: Metric) -> tuple[float, float]:
        """Return the figure's 95 % percentile interval; resamples without a value do not count."""
        return _percentiles(metric(self.weights))

    def difference(self, one: Metric, other: Metric) -> tuple[float, tuple[float, float]]:
        """Return figure minus other figure on the same images, and its 95 % interval."""
        value = self.value(one) - self.value(other)
        return value, _percentiles(one(self.weights) - other(self.weights))

    def values(self, metrics: Mapping[str, Metric]) -> dict[str, Any]:
        """Return ``NAME`` and ``NAME_ci`` for all metrics: value and interval."""
        found: dict[str, Any] = {}
        for name, metric in metrics.items():
            found |= {name: self.value(metric), f"{name}_ci": self.interval(metric)}
        return found

    def differences(
        self, metrics: Mapping[str, Metric], others: Mapping[str, Metric]
    ) -> dict[str, Any]:
        """Return ``NAME_difference`` to the same metric of ``others``, ``NAME_difference_ci``."""
        found: dict[str, Any] = {}
        for name, metric in metrics.items():
            value, interval = self.difference(metric, others[name])
            found |= {f"{name}_difference": value, f"{name}_difference_ci": interval}
        return found


def ratio_metric(parts: ArrayLike, wholes: ArrayLike) -> Metric:
    """Return the metric sum of parts / sum of wholes, both counts in each image, shape (P,)."""
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
