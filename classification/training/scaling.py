"""Fit what makes a classifier's probabilities mean what they say, and describe it for the card."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import Bounds, minimize, minimize_scalar

from classification.inference.calibration import (
    Scaling,
    brier_score,
    calibration_error,
    chance_calibration_error,
    negative_log_likelihood,
    reliability,
    softmax,
)
from faces.command import UserError
from faces.emotions import EMOTIONS

BOUNDS = {"temperature": (0.05, 20.0), "smoothing": (-2.0, 0.2), "slope": (-2.0, 2.0)}
"""Between which each number is searched."""

MIXING_PRIOR, BIAS_PRIOR = 0.1, 1.0
"""Standard deviations of the normal priors, with mean 0, on mixing and biases.

They keep small what few images tell. The first was selected among four on PublicTest alone."""


def fit_scaling(probabilities: ArrayLike, targets: ArrayLike) -> Scaling:
    """Return the scaling of the smallest negative log-likelihood.

    Temperature, smoothing and slope come first (Powell's method, three starts), then the most
    likely mixing and biases a posteriori, a convex problem (L-BFGS-B). Probabilities are the
    network's own, (N, 7); targets are the truth, (N, 7), rows summing to 1.
    """

    def scaling(x: NDArray[np.float64]) -> Scaling:
        return Scaling(float(np.exp(x[0])), float(x[1]), float(x[2]))

    def loss(x: NDArray[np.float64]) -> float:
        return negative_log_likelihood(scaling(x)(probabilities), targets)

    lowest, highest = zip(*BOUNDS.values(), strict=True)
    bounds = Bounds([math.log(lowest[0]), *lowest[1:]], [math.log(highest[0]), *highest[1:]])
    alone = minimize_scalar(
        lambda heat: loss(np.array([heat, 0.0, 0.0])),
        bounds=(bounds.lb[0], bounds.ub[0]),
        method="bounded",
    )
    starts = np.array([[alone.x, 0.0, 0.0], [0.0, 0.1, 0.0], [0.0, -0.1, 0.0]])
    found = [minimize(loss, start, method="Powell", bounds=bounds) for start in starts]
    alike = scaling(min(found, key=lambda one: float(one.fun)).x)
    mixing, biases = _fit_mixing(alike(probabilities), np.asarray(targets, np.float64))
    return replace(alike, mixing=tuple(map(tuple, mixing.tolist())), biases=tuple(biases.tolist()))


def _fit_mixing(
    probabilities: NDArray[np.float64], targets: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mixing (7, 7) and biases (7,): multinomial logistic regression about the identity."""
    count, size = targets.shape
    logs = np.log(np.maximum(probabilities, 1e-12))
    logs = logs - logs.mean(axis=1, keepdims=True)
    columns = np.hstack([logs, np.ones((count, 1))])
    precision = np.array([[MIXING_PRIOR**-2]] * size + [[BIAS_PRIOR**-2]]) / max(1, count)

    def loss(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        change = x.reshape(size + 1, size)
        given = softmax(logs + columns @ change)
        value = negative_log_likelihood(given, targets) + float((precision * change**2).sum()) / 2
        gradient = columns.T @ (given - targets) / max(1, count) + precision * change
        return value, gradient.ravel()

    start = np.zeros((size + 1) * size)
    found = minimize(loss, start, jac=True, method="L-BFGS-B").x.reshape(size + 1, size)
    return found[:-1], found[-1]


def quality(probabilities: ArrayLike, targets: ArrayLike, votes: float = 0.0) -> dict[str, float]:
    """Return the metrics of a card: NLL, Brier score, ECE, and the ECE expected by chance.

    Probabilities and truth are (N, 7); of the truth, the share ``votes`` comes from people's votes,
    and the rest from a label.
    """
    return {
        "nll": negative_log_likelihood(probabilities, targets),
        "brier": brier_score(probabilities, targets),
        "ece": calibration_error(probabilities, targets),
        "ece_by_chance": chance_calibration_error(probabilities, votes),
    }


def card_entry(
    scaling: Scaling, probabilities: ArrayLike, targets: ArrayLike, votes: float = 0.0
) -> dict[str, Any]:
    """Return what a card says about a scaling that was fitted on PublicTest; see ``quality``."""
    scaled = scaling(probabilities)
    return {
        "temperature": scaling.temperature,
        "smoothing_undone": scaling.smoothing,
        "slope": scaling.slope,
        "mixing": scaling.mixing,
        "biases": dict(zip(EMOTIONS, scaling.biases, strict=True)),
        "fitted_on": "FER2013, PublicTest",
        "truth": name_of_truth(votes),
        "pictures": len(scaled),
        "before": quality(probabilities, targets, votes),
        "after": quality(scaled, targets, votes) | {"reliability": reliability(scaled, targets)},
    }


def name_of_truth(votes: float) -> str:
    """Return how a card names a truth with such a share of votes."""
    if not votes:
        return "labels"
    people = "shares of FER+'s votes"
    return people if votes == 1 else f"{1 - votes:.0%} labels, {votes:.0%} {people}"


def check_truth(weights: Path, ferplus: Path | None, votes: float) -> None:
    """Raise a ``UserError`` unless FER+ is given exactly where a network was taught by votes."""
    if (votes > 0) != (ferplus is not None):
        way_out = "add --ferplus fer2013new.csv" if votes else "leave --ferplus out"
        raise UserError(f"{weights}: is held against {name_of_truth(votes)}; {way_out}")
