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

from torch import Tensor

from classification.data.fer2013 import load_fer2013
from classification.inference.classifier import TrainedNetwork, load_network
from classification.training.card import (
    check_new_run,
    find_files,
    taught_votes,
    training_of,
    write_derived_run,
)
from classification.training.options import add_data_options
from faces.command import Command, UserError
from faces.files import file_sha256
from faces.provenance import git_commit, read_card
from networks.averaging import add_members, check_shares, weighted_mean


def average(members: Sequence[tuple[Path, float]]) -> tuple[TrainedNetwork, dict[str, Tensor]]:
    """Return the mean of networks, not calibrated: what they have in common, and the weights.

    Floating-point weights are float32, others (counters) those of the first. ``members`` are
    weights files and their shares, which sum to 1.

    Raises:
        UserError: a file cannot be used, the networks differ in more than their weights, or the
            shares do not sum to 1.
    """
    check_shares([share for _, share in members])
    network = load_network(members[0][0])[0].uncalibrated()

    def states() -> Iterator[tuple[dict[str, Tensor], float]]:
        for path, share in members:
            other, state = load_network(path)
            if other.uncalibrated() != network:
                raise UserError(f"{path}: not of the same architecture as {members[0][0]}")
            yield state, share

    return network, weighted_mean(states())


def describe(members: Sequence[tuple[Path, Path, float]]) -> dict[str, Any]:
    """Return what the card says of the training: the members' cards, and their sums.

    Members are a weights file, a card and a share each.
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
    return {"recipe": recipe, **first, "hours": hours, "averaged": averaged}


def _write_run(args: argparse.Namespace) -> None:
    check_new_run(args.out)
    members = [(*find_files(name), share) for name, share in args.members]
    data = load_fer2013(args.data, progress=sys.stderr.isatty())
    network, state = average([(weights, share) for weights, _, share in members])
    training = describe(members) | {"command": args.made_by, "commit": git_commit()}
    votes = training["recipe"]["votes"]
    write_derived_run(args.out, network, state, data, training, votes, "shares: on PublicTest")


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_members(parser)
    add_data_options(parser, out="run folder to write")


main = Command("classification.average", __doc__, _add_options, _write_run)


if __name__ == "__main__":
    sys.exit(main())
