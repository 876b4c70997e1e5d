"""Calibrate a classifier: ``python -m classification.calibrate --help``.

The arguments of ``classification.inference.calibration.rescale`` are fitted on FER2013's PublicTest
by the negative log-likelihood: how much label smoothing to undo, a temperature, how it changes with
the entropy, and how the emotions influence each other. They are written into the weights file, and
hold for every use of the classifier from then on. Another emotion may then come first: one that was
named too seldom gains.

The truth is what the network was taught, according to its card: FER2013's labels, the shares of
FER+'s votes, or a blend of both. A network that was taught by votes needs ``--ferplus``. The card
of the run, or of the shipped model, gets the metrics before and after. Calibrating again starts
from the network as it was trained.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from classification.data.fer2013 import Fer2013, load_fer2013
from classification.data.ferplus import FerPlus, load_ferplus
from classification.inference.calibration import Scaling
from classification.inference.classifier import NetworkClassifier, load_network, save_network
from classification.training.batches import soft_targets
from classification.training.card import as_taught, find_files, metrics_on, taught_votes, write_json
from classification.training.options import add_data_options
from classification.training.scaling import card_entry, check_truth, fit_scaling
from faces.command import Command
from faces.files import file_sha256
from faces.provenance import git_commit, read_card
from networks.device import usable_device


def calibrate(
    weights: Path, public: Fer2013, people: FerPlus | None, votes: float, device: torch.device
) -> tuple[Scaling, dict[str, Any], NDArray[np.int64]]:
    """Fit a weights file's scaling on PublicTest and write it into the file.

    Args:
        public: PublicTest, N images, labelled as the network was taught.
        people: FER+ on these images; None where ``votes`` is 0.
        votes: the share of the truth that comes from FER+, as in ``soft_targets``.

    Returns:
        The scaling, the figures for the card, and the calibrated answers (N,), indices into
        ``EMOTIONS``.
    """
    network, state = load_network(weights)
    classifier = NetworkClassifier(network.uncalibrated(), state, device, weights.stem)
    shares = soft_targets(public, people, votes).astype(np.float64)
    probabilities = classifier.probabilities_of_grey(public.images, progress=sys.stderr.isatty())
    scaling = fit_scaling(probabilities, shares)
    save_network(weights, state, replace(network, calibration=scaling))
    figures = card_entry(scaling, probabilities, shares, votes)
    return scaling, figures, scaling(probabilities).argmax(1)


def _calibrate(args: argparse.Namespace) -> None:
    # the model, and the truth that it was taught
    weights, card_path = find_files(args.model)
    card = read_card(card_path)
    device = torch.device(usable_device(None))
    votes = taught_votes(card)
    check_truth(weights, args.ferplus, votes)
    public = load_fer2013(args.data, progress=sys.stderr.isatty()).split("PublicTest")
    people = load_ferplus(args.ferplus, public) if args.ferplus else None

    # the fit, into the weights and the card
    taught = as_taught(public, card)
    scaling, figures, predicted = calibrate(weights, taught, people, votes, device)
    card["calibration"] = {**figures, "command": args.made_by, "commit": git_commit()}
    card["public_test"] = metrics_on(taught, predicted)
    if "sha256" in card:
        card["sha256"] = file_sha256(weights)
    write_json(card_path, card)

    # what changed
    print(
        f"{weights}: temperature {scaling.temperature:.3f}, label smoothing undone "
        f"{scaling.smoothing:.3f}, slope {scaling.slope:.3f}; biases: "
        + ", ".join(f"{name} {bias:+.2f}" for name, bias in figures["biases"].items())
    )
    for key, name in (("nll", "NLL"), ("brier", "Brier"), ("ece", "ECE")):
        print(f"{name}: {figures['before'][key]:.4f} → {figures['after'][key]:.4f}")
    print(f"ECE that chance alone gives: {figures['after']['ece_by_chance']:.4f}")


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="RUN|NAME", help="a run folder, or a shipped classifier")
    add_data_options(parser, ferplus=True)


main = Command("classification.calibrate", __doc__, _add_options, _calibrate)


if __name__ == "__main__":
    sys.exit(main())
