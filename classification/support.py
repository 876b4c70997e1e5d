"""Give a trained network a support set: ``python -m classification.support RUN --help``.

The last layer of a residual network is replaced by the features of all images of
FER2013's Training and what they show: the new run answers by likeness to these
(``classification.modeling.support_set``). What they show is what the network was taught, as its
card has it: labels, the shares of FER+'s votes (``--ferplus``), or a blend; or another blend
(``--votes``), as features do not depend on it. The power of the distance is selected on PublicTest,
by accuracy; the card has the accuracy of every choice.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from classification.data.fer2013 import Fer2013, load_fer2013
from classification.data.ferplus import load_ferplus
from classification.inference.classifier import BATCH, NetworkClassifier, TrainedNetwork
from classification.modeling.face_resnet import parameter_count
from classification.modeling.support_set import FeatureNetwork, SupportHead
from classification.training.batches import soft_targets
from classification.training.card import (
    check_new_run,
    find_files,
    taught_votes,
    training_of,
    write_derived_run,
)
from classification.training.options import add_data_options
from classification.training.scaling import check_truth
from faces.command import Command, UserError
from faces.files import file_sha256
from faces.provenance import git_commit, read_card
from networks.device import usable_device

POWERS = (2.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 12.0, 16.0)
"""The ones that are tried."""


def features_of(classifier: NetworkClassifier, images: NDArray[np.uint8], what: str) -> Tensor:
    """Return what a ``FeatureNetwork`` hands to its last layer, of length 1, (N, D) float32.

    Images are grey, (N, 48, 48) uint8; the progress bar calls them ``what``. A ``UserError`` says
    that the classifier has another network.
    """
    model, network = classifier.model, classifier.network
    if not isinstance(model, FeatureNetwork) or isinstance(model.head, SupportHead):
        raise UserError(
            f"{classifier.name}: is a {network.architecture}; a support set goes with a "
            "face_resnet or a face_recognition_resnet"
        )
    precision = torch.autocast(
        classifier.device.type, classifier.dtype, classifier.dtype != torch.float32
    )
    rows = [torch.zeros(0, model.head.in_features)]
    with torch.inference_mode(), precision:
        for start in tqdm(range(0, len(images), BATCH), what, unit=" batches", disable=None):
            x = network.normalization(images[start : start + BATCH])
            x = x.to(classifier.device, memory_format=torch.channels_last)
            rows.append(F.normalize(model.features(x).float()).cpu())
    return torch.cat(rows)


def accuracy_by_power(
    support: Tensor, targets: Tensor, seen: Tensor, labels: NDArray[np.int64]
) -> dict[float, float]:
    """Return the accuracy that each of ``POWERS`` gives, the best first.

    Args:
        support: (M, D), rows of length 1.
        targets: (M, 7).
        seen: features of other faces, (N, D).
        labels: what those show, (N,), indices into ``EMOTIONS``.
    """
    accuracies = {}
    for power in POWERS:
        head = SupportHead(support.shape[1], len(support), power)
        head.support, head.targets = support, targets
        with torch.inference_mode():
            batches = torch.split(seen, BATCH)
            predicted = torch.cat([head(batch).argmax(1) for batch in batches]).numpy()
        accuracies[power] = float((predicted == labels).mean())
    return dict(sorted(accuracies.items(), key=lambda item: -item[1]))


def with_support(
    classifier: NetworkClassifier, data: Fer2013, targets: NDArray[np.float32]
) -> tuple[TrainedNetwork, dict[str, Tensor], dict[float, float]]:
    """Return a network whose last layer is a support set, not calibrated.

    Args:
        classifier: the network as it is.
        data: with the splits Training, the support set, and PublicTest, to select the power.
        targets: of the images of Training, (M, 7), rows sum to 1.

    Returns:
        Its description, its weights, and the PublicTest accuracy of each power, best first.
    """
    training, public = data.split("Training"), data.split("PublicTest")
    support = features_of(classifier, training.images, "Training")
    seen = features_of(classifier, public.images, "PublicTest")
    shown = torch.from_numpy(targets)
    accuracies = accuracy_by_power(support, shown, seen, public.labels)
    state = {k: v for k, v in classifier.model.state_dict().items() if not k.startswith("head.")}
    state |= {"head.support": support, "head.targets": shown}
    model = classifier.network.model | {
        "network": classifier.network.architecture,
        "faces": len(support),
        "power": next(iter(accuracies)),
    }
    plain = classifier.network.uncalibrated()
    return replace(plain, architecture="matching_network", model=model), state, accuracies


def _write_run(args: argparse.Namespace) -> None:
    # the network, and what the known faces show
    check_new_run(args.out)
    weights, card_path = find_files(args.run)
    card = read_card(card_path)
    votes = taught_votes(card) if args.votes is None else args.votes
    if not 0 <= votes <= 1:
        raise UserError(f"--votes {votes}: is no share; give a number from 0 to 1")
    check_truth(weights, args.ferplus, votes)
    data = load_fer2013(args.data, progress=sys.stderr.isatty())
    training = data.split("Training")
    people = load_ferplus(args.ferplus, data).of(data.splits == "Training") if votes else None
    targets = soft_targets(training, people, votes)

    # its support set
    classifier = NetworkClassifier.load(weights, torch.device(usable_device(None)), str(weights))
    network, state, accuracies = with_support(classifier, data, targets)

    # what the card says: how it was trained, and what has changed
    before = training_of(card, weights)
    numbers = state["head.support"].numel() + state["head.targets"].numel()
    numbers -= parameter_count(classifier.model.get_submodule("head"))
    about = {
        "recipe": {**before["recipe"], "votes": votes},
        **{key: before[key] for key in ("versions", "precision", "device", "hours")},
        "command": args.made_by,
        "commit": git_commit(),
        "parameters": before["parameters"] + numbers,
        "support": {
            "pictures": len(targets),
            "power": network.model["power"],
            "public_test_accuracy_by_power": accuracies,
        },
        "network": {"sha256": file_sha256(weights), **before},
    }
    chosen_on = "power: PublicTest accuracy; the network: see training"
    taught = max(votes, taught_votes(card))
    write_derived_run(args.out, network, state, data, about, taught, chosen_on)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN|NAME", help="a run folder, or a shipped classifier")
    add_data_options(parser, ferplus=True, out="run folder to write")
    parser.add_argument(
        "--votes",
        type=float,
        metavar="SHARE",
        help="of FER+'s votes in what the known faces show, 0 to 1 (as the network was taught)",
    )


main = Command("classification.support", __doc__, _add_options, _write_run)


if __name__ == "__main__":
    sys.exit(main())
