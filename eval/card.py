"""Complete a classifier's card with its final figures: ``python -m eval.card NAME --data ZIP``.

For the last step of a network that was chosen: ``measured`` is written into its card, with, for
PublicTest and PrivateTest, one view of each face and ten, accuracy and its interval, macro F1, the
same per class and as a confusion matrix, without pixel twins, and against what most of FER+'s
annotators saw (as ``eval.classification`` defines them); the calibration on one view, against what
the network was taught (as ``classification.calibrate`` defines it); and the hash of the weights.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from classification.data.fer2013 import SPLITS, Fer2013, Fer2013Error, load_fer2013, pixel_twins
from classification.data.ferplus import FerPlus, load_ferplus
from classification.inference.classifier import WeightsError
from classification.training.batches import soft_targets
from classification.training.card import find_files, taught_votes, write_json
from classification.training.scaling import quality
from eval.classification import fer2013_batches, measure
from eval.data import options
from eval.data.fer2013_parts import probabilities
from eval.records import report
from faces import command
from faces.command import UserError
from faces.files import file_sha256
from faces.pipeline import EmotionClassifier
from faces.provenance import CardError, command_line, git_commit, read_card

COMMAND = "eval.card"
TESTS = ("PublicTest", "PrivateTest")
VIEWS = ("single", "ten")

WHOLE = ("n", "accuracy", "accuracy_ci", "macro_f1", "balanced_accuracy", "per_class", "confusion")
BRIEF = WHOLE[:4]
"""What of the figures a card holds: of the part itself, of a selection of its pictures."""


def figures(
    classifier: EmotionClassifier, data: Fer2013, training: Fer2013, votes: FerPlus, taught: float
) -> dict[str, Any]:
    """Measure a classifier on a part of FER2013.

    Args:
        classifier: stage 2.
        data: the part.
        training: the Training part, which tells the pixel twins.
        votes: FER+'s on the part.
        taught: the share of votes in what the classifier was taught.

    Returns:
        View → what a card says.
    """
    truths = pixel_twins(data, training), votes.majority()
    found = {}
    for views in VIEWS:
        run = measure(fer2013_batches(data), [classifier], views, *truths)[0]
        found[views] = {key: run[key] for key in WHOLE} | {
            key: {name: run[key][name] for name in BRIEF}
            for key in ("without_twins", "ferplus_majority")
        }
    truth = soft_targets(data, votes, taught)
    found[VIEWS[0]]["calibration"] = quality(probabilities(classifier, data), truth, taught)
    return found


def complete(name_or_run: str, data: Path, ferplus: Path, made_by: str) -> Path:
    """Measure a classifier on both test parts and write the figures into its card.

    Returns:
        The card.

    Raises:
        UserError: there is no such network, or data or votes cannot be read.
    """
    try:
        weights, path = find_files(name_or_run)
        card = read_card(path)
        whole = load_fer2013(data, progress=sys.stderr.isatty())
        parts = {name: whole.split(name) for name in SPLITS}
        votes = {name: load_ferplus(ferplus, parts[name]) for name in TESTS}
    except (WeightsError, CardError, Fer2013Error) as error:
        raise UserError(str(error)) from error
    classifier = options.load_classifiers([name_or_run], None)[0]
    training, taught = parts["Training"], taught_votes(card)
    card["measured"] = {
        name: figures(classifier, parts[name], training, votes[name], taught) for name in TESTS
    } | {"command": made_by, "commit": git_commit(), "weights_sha256": file_sha256(weights)}
    write_json(path, report.strict(card))
    return path


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {COMMAND}",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="RUN|NAME", help="a run folder, or a shipped classifier")
    parser.add_argument("--data", type=Path, required=True, help="FER2013: csv, folder or zip")
    parser.add_argument("--ferplus", type=Path, required=True, metavar="CSV", help="FER+'s votes")
    args = parser.parse_args(argv)

    def action() -> int:
        path = complete(args.model, args.data, args.ferplus, command_line(COMMAND, argv))
        print(f"wrote {path}")
        return 0

    return command.run(COMMAND, action)


if __name__ == "__main__":
    sys.exit(main())
