"""Probabilities that mean what they say: rescaling them, and measuring how well they are meant.

The truth, called targets, is (N, 7) with rows summing to 1: a label is a single 1, the votes of ten
people are a share per emotion.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from faces.emotions import EMOTIONS

BINS = 10
"""Bins of the expected calibration error: of FER2013's test parts, 359 images in each."""

ANNOTATORS = 10
"""People who voted on each image of FER+ (Barsoum et al., 2016)."""

_MINIMUM = 1e-12
"""Probabilities below this count as this in logarithms."""


def rescale(
    probabilities: ArrayLike,
    temperature: float = 1.0,
    smoothing: float = 0.0,
    slope: float = 0.0,
    mixing: ArrayLike = (),
    biases: ArrayLike = (),
) -> NDArray[np.float64]:
    """Undo or add label smoothing, change the temperature, then weigh the emotions.

    A network trained on targets (1 - ε)·label + ε/7 answers that way, so ε/7 is taken off each
    probability p; below 2ε/7, where little or nothing would be left, (ε/7)·exp(7p/ε - 2) goes on
    with the same value and slope. A negative ε adds -ε/7 to each instead, for what gives zeros, as
    votes of neighbours do. The result, normalised, is raised to 1/T and normalised again, which is
    dividing logits by T (Guo et al., "On Calibration of Modern Neural Networks", 2017).
    With a slope s, T is multiplied by exp(s·H) for a row of entropy H, in 0..1 of its maximum: the
    less a network decides, the more (or less) it is held back (after Balanya et al., "Adaptive
    Temperature Scaling for Robust Calibration of Deep Neural Networks", 2022).
    So far the order of the emotions is kept. Then log-probabilities z, less their mean, become
    z + z·A + b (Kull et al., "Beyond temperature scaling: Obtaining well-calibrated multi-class
    probabilities with Dirichlet calibration", 2019): biases b favour emotions that are named too
    seldom, and the mixing A does so where some other emotion is likely.

    Args:
        probabilities: shape (N, K), rows summing to 1.
        temperature: T, above 0.
        smoothing: ε, below 1.
        slope: s.
        mixing: A, shape (K, K), from each emotion (row) to each (column); empty for zeros.
        biases: b, shape (K,); empty for zeros.

    Returns:
        Shape (N, K), rows summing to 1.
    """
    p = np.asarray(probabilities, np.float64)
    if smoothing < 0:
        p = (p - smoothing / p.shape[1]) / (1 - smoothing)
    elif smoothing > _MINIMUM:
        floor = smoothing / p.shape[1]
        tail = floor * np.exp(np.minimum(p / floor, 2) - 2)
        p = np.where(p > 2 * floor, p - floor, tail)
        p = p / p.sum(axis=1, keepdims=True)
    logs = np.log(np.maximum(p, _MINIMUM))
    negentropy = (p * logs).sum(axis=1, keepdims=True)
    logs = logs * np.exp(slope / math.log(p.shape[1]) * negentropy - math.log(temperature))
    by, plus = np.asarray(mixing, np.float64), np.asarray(biases, np.float64)
    if by.size:
        logs = logs + logs @ (by - by.mean(axis=0))
    if plus.size:
        logs = logs + plus
    return softmax(logs)


def softmax(logits: ArrayLike) -> NDArray[np.float64]:
    """Return probabilities (N, K) of logits (N, K), in float64."""
    z = np.asarray(logits, np.float64)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(p / p.sum(axis=1, keepdims=True), np.float64)


RANGES = {"temperature": (1e-3, 1e3), "smoothing": (-100.0, 0.99), "slope": (-100.0, 100.0)}
"""What the numbers of a ``Scaling`` may be at all."""


def check_number(name: str, value: Any, minimum: float, maximum: float) -> None:
    """Raise a ``ValueError`` if what a file says is no number from ``minimum`` to ``maximum``."""
    if type(value) not in (int, float) or not minimum <= value <= maximum:
        raise ValueError(f"{name} is {str(value)[:40]}, and must be {minimum:g} to {maximum:g}")


@dataclass(frozen=True)
class Scaling:
    """The numbers that calibrate a classifier, as ``rescale`` takes them."""

    temperature: float = 1.0
    smoothing: float = 0.0
    slope: float = 0.0
    mixing: tuple[tuple[float, ...], ...] = ()
    biases: tuple[float, ...] = ()

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Scaling:
        """Return what ``dataclasses.asdict`` gave and JSON kept; what is missing does nothing.

        A value of the wrong shape, not finite, or out of its range is a ``ValueError``.
        """
        values: dict[str, Any] = {}
        for name, (minimum, maximum) in RANGES.items():
            values[name] = found.get(name, getattr(cls, name))
            check_number(name, values[name], minimum, maximum)
        for name, shape in (("mixing", (len(EMOTIONS),) * 2), ("biases", (len(EMOTIONS),))):
            try:
                table = np.array(found.get(name, ()), np.float64)
            except (TypeError, ValueError):
                raise ValueError(f"{name} is no table of numbers") from None
            if table.size and (table.shape != shape or not (np.abs(table) <= 1000).all()):
                raise ValueError(f"{name} is no table of {shape} finite numbers up to 1000")
            rows = table.tolist() if table.size else []
            values[name] = tuple(tuple(row) if isinstance(row, list) else row for row in rows)
        return cls(**values)

    def __call__(self, probabilities: ArrayLike) -> NDArray[np.float64]:
        """Return the rescaled probabilities, (N, 7) float64."""
        return rescale(probabilities, self.temperature, self.smoothing, self.slope, *self._arrays)

    @cached_property
    def _arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return np.array(self.mixing, np.float64), np.array(self.biases, np.float64)


def one_hot(labels: ArrayLike, classes: int) -> NDArray[np.float64]:
    """Return labels (N,) as targets (N, classes)."""
    return np.asarray(np.eye(classes)[np.asarray(labels, np.int64)], np.float64)


def negative_log_likelihood(probabilities: ArrayLike, targets: ArrayLike) -> float:
    """Return the mean cross-entropy in nats; nan without rows."""
    p, truth = np.asarray(probabilities, np.float64), np.asarray(targets, np.float64)
    return _mean(-(truth * np.log(np.maximum(p, _MINIMUM))).sum(axis=1))


def brier_score(probabilities: ArrayLike, targets: ArrayLike) -> float:
    """Return the mean squared distance, summed over the emotions (Brier, 1950), in 0..2."""
    p, truth = np.asarray(probabilities, np.float64), np.asarray(targets, np.float64)
    return _mean(((p - truth) ** 2).sum(axis=1))


def reliability(
    probabilities: ArrayLike, targets: ArrayLike, bins: int = BINS
) -> list[tuple[float, float, int]]:
    """Hold the top probabilities against how often they are right, in bins of equal mass.

    The sorted images, probabilities and truth (N, K) each, are cut into ``bins`` parts, whose sizes
    differ by at most one. Returns per bin, most uncertain first: mean top probability, mean share
    of the truth that the top emotion has, number of images. Empty bins are left out.
    """
    p, truth = np.asarray(probabilities, np.float64), np.asarray(targets, np.float64)
    rows = np.arange(len(p))
    confidence, right = p.max(axis=1), truth[rows, p.argmax(axis=1)]
    parts = np.array_split(np.argsort(confidence, kind="stable"), bins)
    return [
        (float(confidence[part].mean()), float(right[part].mean()), len(part))
        for part in parts
        if len(part)
    ]


def calibration_error(probabilities: ArrayLike, targets: ArrayLike, bins: int = BINS) -> float:
    """Return the expected calibration error of the top emotion over bins of equal mass, 0..1.

    It is the mean distance between the two sides of ``reliability``, weighted by the bins' sizes.
    """
    parts = reliability(probabilities, targets, bins)
    total = sum(count for *_, count in parts)
    gaps = math.fsum(abs(said - right) * count for said, right, count in parts)
    return gaps / total if total else math.nan


def chance_calibration_error(
    probabilities: ArrayLike, votes: float = 0.0, bins: int = BINS, draws: int = 50
) -> float:
    """Return the calibration error that perfectly calibrated probabilities show by chance.

    The truth is drawn from the probabilities themselves: one label per image, or the share
    ``votes`` of it from ``ANNOTATORS`` votes and the rest from a label. The mean over ``draws``
    such truths (always the same) is what no calibration can be expected to beat.
    """
    p = np.asarray(probabilities, np.float64)
    if not len(p):
        return math.nan
    rng = np.random.default_rng(0)
    p = p / p.sum(axis=1, keepdims=True)
    errors = []
    for _ in range(draws):
        label, people = rng.multinomial(1, p), rng.multinomial(ANNOTATORS, p) / ANNOTATORS
        errors.append(calibration_error(p, (1 - votes) * label + votes * people, bins))
    return float(np.mean(errors))


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else math.nan
