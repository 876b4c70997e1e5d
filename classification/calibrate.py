"""Calibrate a classifier: ``python -m classification.calibrate --help``.

What ``classification.inference.calibration.rescale`` takes is fitted on FER2013's PublicTest by the
negative log-likelihood and written into the weights file, for every use of the classifier from then
on: how much label smoothing to undo, a temperature, how it changes with the entropy, and how the
emotions bear on each other. That may put another emotion first: one that is named too seldom gains.

The truth is what the network was taught, as its card has it: FER2013's labels, the shares of FER+'s
votes, or a blend of both; what has learnt from votes needs ``--ferplus``. A run's card, or the
shipped model's, gets the figures before and after. Calibrating again starts from the network as it
was trained.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import Bounds, minimize, minimize_scalar

from classification.data.fer2013 import Fer2013, Fer2013Error, load_fer2013
from classification.data.ferplus import FerPlus, load_ferplus
from classification.export import WEIGHTS
from classification.inference.calibration import (
    Scaling,
    brier_score,
    calibration_error,
    chance_calibration_error,
    negative_log_likelihood,
    reliability,
    softmax,
)
from classification.inference.classifier import (
    NetworkClassifier,
    WeightsError,
    load_network,
    save_network,
)
from classification.training.batches import soft_targets
from classification.training.card import figures_on, write_json
from faces.command import UserError
from faces.emotions import EMOTIONS
from faces.provenance import CardError, command_line, git_commit, read_card

COMMAND = "classification.calibrate"

BOUNDS = {"temperature": (0.05, 20.0), "smoothing": (-2.0, 0.2), "slope": (-2.0, 2.0)}
"""Between which each number is searched."""

MIXING_PRIOR, BIAS_PRIOR = 0.1, 1.0
"""Standard deviations of the normal priors, with mean 0, on mixing and biases.

They keep small what few pictures tell. The first was chosen among four on PublicTest alone."""


class CalibrationError(UserError):
    """A classifier cannot be calibrated; the message says why and what to do."""


def fit_scaling(probabilities: ArrayLike, shares: ArrayLike) -> Scaling:
    """Return the scaling of the least negative log-likelihood.

    Temperature, smoothing and slope come first (Powell's method, three starts), then the most
    likely mixing and biases a posteriori, a convex problem (L-BFGS-B).

    Args:
        probabilities: of the network itself, shape (N, 7).
        shares: the truth, shape (N, 7), rows summing to 1.
    """

    def scaling(x: NDArray[np.float64]) -> Scaling:
        return Scaling(float(np.exp(x[0])), float(x[1]), float(x[2]))

    def loss(x: NDArray[np.float64]) -> float:
        return negative_log_likelihood(scaling(x)(probabilities), shares)

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
    mixing, biases = _fit_mixing(alike(probabilities), np.asarray(shares, np.float64))
    return replace(alike, mixing=tuple(map(tuple, mixing.tolist())), biases=tuple(biases.tolist()))


def _fit_mixing(
    probabilities: NDArray[np.float64], shares: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mixing (7, 7) and biases (7,): multinomial logistic regression about the identity."""
    pictures, size = shares.shape
    logs = np.log(np.maximum(probabilities, 1e-12))
    logs = logs - logs.mean(axis=1, keepdims=True)
    columns = np.hstack([logs, np.ones((pictures, 1))])
    precision = np.array([[MIXING_PRIOR**-2]] * size + [[BIAS_PRIOR**-2]]) / max(1, pictures)

    def loss(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        change = x.reshape(size + 1, size)
        given = softmax(logs + columns @ change)
        value = negative_log_likelihood(given, shares) + float((precision * change**2).sum()) / 2
        gradient = columns.T @ (given - shares) / max(1, pictures) + precision * change
        return value, gradient.ravel()

    start = np.zeros((size + 1) * size)
    found = minimize(loss, start, jac=True, method="L-BFGS-B").x.reshape(size + 1, size)
    return found[:-1], found[-1]


def quality(probabilities: ArrayLike, shares: ArrayLike, votes: float = 0.0) -> dict[str, float]:
    """Return the figures of a card: NLL, Brier score, ECE, and the ECE expected by chance.

    Args:
        probabilities: shape (N, 7).
        shares: the truth, shape (N, 7).
        votes: the share of the truth that comes from people's votes; the rest comes from a label.
    """
    return {
        "nll": negative_log_likelihood(probabilities, shares),
        "brier": brier_score(probabilities, shares),
        "ece": calibration_error(probabilities, shares),
        "ece_by_chance": chance_calibration_error(probabilities, votes),
    }


def card_entry(
    scaling: Scaling, probabilities: ArrayLike, shares: ArrayLike, votes: float = 0.0
) -> dict[str, Any]:
    """Return what a card says of a scaling that was fitted on PublicTest.

    Args:
        scaling: what was fitted.
        probabilities: that it was fitted on, shape (N, 7).
        shares: the truth about them, shape (N, 7).
        votes: as in ``quality``.
    """
    scaled = scaling(probabilities)
    return {
        "temperature": scaling.temperature,
        "smoothing_undone": scaling.smoothing,
        "slope": scaling.slope,
        "mixing": scaling.mixing,
        "biases": dict(zip(EMOTIONS, scaling.biases, strict=True)),
        "fitted_on": "FER2013, PublicTest",
        "truth": _truth(votes),
        "pictures": len(scaled),
        "before": quality(probabilities, shares, votes),
        "after": quality(scaled, shares, votes) | {"reliability": reliability(scaled, shares)},
    }


def _truth(votes: float) -> str:
    if not votes:
        return "labels"
    people = "shares of FER+'s votes"
    return people if votes == 1 else f"{1 - votes:.0%} labels, {votes:.0%} {people}"


def taught_votes(card: Mapping[str, Any]) -> float:
    """Return the share of votes in the targets that a network was taught, from its card."""
    return float(card.get("training", {}).get("recipe", {}).get("votes", 0.0))


def check_truth(weights: Path, ferplus: Path | None, votes: float) -> None:
    """Check that FER+ is given where a network was taught by votes, and only there.

    Raises:
        CalibrationError: it is not; the message says what to do.
    """
    if (votes > 0) != (ferplus is not None):
        way_out = "add --ferplus fer2013new.csv" if votes else "leave --ferplus out"
        raise CalibrationError(f"{weights}: is held against {_truth(votes)}; {way_out}")


def as_taught(data: Fer2013, card: Mapping[str, Any]) -> Fer2013:
    """Return FER2013 with the classes that a network learnt, as its card has them."""
    recipe = card.get("training", {}).get("recipe", {})
    return data.disgust_as_angry() if recipe.get("disgust_as_angry") else data


def calibrate(
    weights: Path, public: Fer2013, people: FerPlus | None, votes: float, device: torch.device
) -> tuple[Scaling, dict[str, Any], NDArray[np.int64]]:
    """Fit a weights file's scaling on PublicTest and write it into the file.

    Args:
        weights: what ``save_network`` wrote.
        public: PublicTest, N pictures, labelled as the network was taught.
        people: FER+ on these pictures; None where ``votes`` is 0.
        votes: the share of the truth that comes from FER+, as in ``soft_targets``.
        device: where to run.

    Returns:
        The scaling, the figures for the card, and the calibrated answers (N,), indices into
        ``EMOTIONS``.

    Raises:
        WeightsError: the weights cannot be used.
    """
    network, state = load_network(weights)
    classifier = NetworkClassifier(network.uncalibrated(), state, device, weights.stem)
    shares = soft_targets(public, people, votes).astype(np.float64)
    probabilities = classifier.probabilities_of_grey(public.images, progress=sys.stderr.isatty())
    scaling = fit_scaling(probabilities, shares)
    save_network(weights, state, replace(network, calibration=scaling))
    figures = card_entry(scaling, probabilities, shares, votes)
    return scaling, figures, scaling(probabilities).argmax(1)


def find_files(name_or_run: str, folder: Path = WEIGHTS) -> tuple[Path, Path]:
    """Return the weights file and the card of a run folder or a shipped model.

    Raises:
        WeightsError: one of them is missing.
    """
    run = Path(name_or_run)
    if run.is_dir():
        weights, card = run / "model.safetensors", run / "card.json"
    else:
        weights, card = folder / f"{name_or_run}.safetensors", folder / f"{name_or_run}.json"
    if not weights.is_file() or not card.is_file():
        cause = (
            f"has no {card.name} yet; let the training finish (--resume)"
            if run.is_dir()
            else (
                f"neither a finished run of classification.train nor a classifier in {folder.name}/"
            )
        )
        raise WeightsError(f"{name_or_run}: {cause}")
    return weights, card


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {COMMAND}",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="RUN|NAME", help="a run folder, or a shipped classifier")
    parser.add_argument("--data", type=Path, required=True, help="FER2013: csv, folder or zip")
    parser.add_argument(
        "--ferplus", type=Path, metavar="CSV", help="FER+, for what has learnt from votes"
    )
    args = parser.parse_args(argv)
    made = {"command": command_line(COMMAND, argv), "commit": git_commit()}
    try:
        weights, card_path = find_files(args.model)
        card = read_card(card_path)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        check_truth(weights, args.ferplus, taught_votes(card))
        public = load_fer2013(args.data, progress=sys.stderr.isatty()).split("PublicTest")
        people = load_ferplus(args.ferplus, public) if args.ferplus else None
        taught = as_taught(public, card)
        scaling, figures, predicted = calibrate(weights, taught, people, taught_votes(card), device)
    except (CalibrationError, CardError, WeightsError, Fer2013Error) as error:
        print(f"{COMMAND}: {error}", file=sys.stderr)
        return 2
    card["calibration"] = figures | made
    card["public_test"] = figures_on(taught, predicted)
    if "sha256" in card:
        card["sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    write_json(card_path, card)
    print(
        f"{weights}: temperature {scaling.temperature:.3f}, label smoothing undone "
        f"{scaling.smoothing:.3f}, slope {scaling.slope:.3f}; biases: "
        + ", ".join(f"{name} {bias:+.2f}" for name, bias in figures["biases"].items())
    )
    for key, name in (("nll", "NLL"), ("brier", "Brier"), ("ece", "ECE")):
        print(f"{name}: {figures['before'][key]:.4f} → {figures['after'][key]:.4f}")
    print(f"ECE that chance alone gives: {figures['after']['ece_by_chance']:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
