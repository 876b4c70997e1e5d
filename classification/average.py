"""Average the weights of runs: ``python -m classification.average RUN=SHARE RUN=SHARE … --help``.

Networks of one architecture of which one went on from the other, or that started alike, lie in one
basin of the loss; the mean of their weights is one network, as fast as each, and often better than
all of them (Wortsman et al., "Model soups", ICML 2022). The shares sum to 1: select them on
PublicTest, whose accuracy goes into the new run's card, beside the cards of the averaged runs.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from classification.data.fer2013 import Fer2013, load_fer2013
from classification.inference.classifier import (
    NetworkClassifier,
    TrainedNetwork,
    WeightsError,
    load_network,
    save_network,
)
from classification.training.card import (
    check_new_run,
    facts_of_data,
    find_files,
    model_card,
    taught_votes,
    training_of,
    write_json,
)
from faces.command import run
from faces.files import file_sha256
from faces.provenance import command_line, git_commit, read_card
from networks.averaging import check_shares, run_share, weighted_mean

COMMAND = "classification.average"


def average(members: Sequence[tuple[Path, float]]) -> tuple[TrainedNetwork, dict[str, Tensor]]:
    """Return the mean of networks, not calibrated.

    Args:
        members: weights file and share of each; the shares sum to 1.

    Returns:
        What the networks have in common, and the weights; floating-point ones are float32, others
        (counters) those of the first.

    Raises:
        WeightsError: a file cannot be used, or the networks differ in more than their weights.
        UserError: the shares do not sum to 1.
    """
    check_shares([share for _, share in members])
    network = load_network(members[0][0])[0].uncalibrated()

    def states() -> Iterator[tuple[dict[str, Tensor], float]]:
        for path, share in members:
            other, state = load_network(path)
            if other.uncalibrated() != network:
                raise WeightsError(f"{path}: not of the same architecture as {members[0][0]}")
            yield state, share

    return network, weighted_mean(states())


def describe(
    members: Sequence[tuple[Path, Path, float]], made: dict[str, str | None]
) -> dict[str, Any]:
    """Return what the card says of the training: the members' cards, and their sums.

    Args:
        members: weights file, card and share of each.
        made: command and commit.
    """
    averaged, votes = [], 0.0
    for weights, path, share in members:
        card = read_card(path)
        training = training_of(card, path)
        averaged.append({"share": share, "sha256": file_sha256(weights), **training})
        votes += share * taught_votes(card)
    first = {key: averaged[0][key] for key in ("parameters", "versions", "precision", "device")}
    recipe = {**averaged[0]["recipe"], "votes": votes}
    hours = math.fsum(one["hours"] for one in averaged)
    return {"recipe": recipe, **first, **made, "hours": hours, "averaged": averaged}


def write_run(
    members: Sequence[tuple[Path, Path, float]],
    data: Fer2013,
    out: Path,
    made: dict[str, str | None],
) -> float:
    """Write the mean and its card into a run folder; returns the accuracy on PublicTest.

    Raises:
        UserError: as ``average``, or there is no PublicTest.
    """
    public = data.split("PublicTest")
    network, state = average([(weights, share) for weights, _, share in members])
    training = describe(members, made)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    classifier = NetworkClassifier(network, state, device, out.name)
    shown = sys.stderr.isatty()
    predicted = classifier.probabilities_of_grey(public.images, progress=shown).argmax(1)
    record = facts_of_data(data, training["recipe"])
    card = model_card(record, training, "shares: on PublicTest", public, predicted)
    out.mkdir(parents=True, exist_ok=True)
    save_network(out / "model.safetensors", state, network)
    write_json(out / "card.json", card)
    return float(card["public_test"]["accuracy"])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {COMMAND}",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "members", nargs="+", type=run_share, metavar="RUN=SHARE", help="a run folder"
    )
    parser.add_argument("--data", type=Path, required=True, help="FER2013: csv, folder or zip")
    parser.add_argument("--out", type=Path, required=True, help="run folder to write")
    args = parser.parse_args(argv)
    made = {"command": command_line(COMMAND, argv), "commit": git_commit()}

    def action() -> int:
        check_new_run(args.out)
        members = [(*find_files(name), share) for name, share in args.members]
        data = load_fer2013(args.data, progress=sys.stderr.isatty())
        accuracy = write_run(members, data, args.out, made)
        print(f"PublicTest accuracy {accuracy:.4f}; the run is in {args.out}")
        return 0

    return run(COMMAND, action)


if __name__ == "__main__":
    sys.exit(main())
