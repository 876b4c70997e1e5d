"""Complete a classifier's card with its final figures: ``python -m eval.card NAME --data ZIP``.

For the last step of a network that was chosen: ``measured`` is written into its card, with, for
PublicTest and PrivateTest, one view of each face and ten, accuracy and its interval, macro F1, the
same per class and as a confusion matrix, without exact duplicates, and against what most of FER+'s
annotators saw (as ``eval.classification`` defines them); the calibration on one view, against what
the network was taught (as ``classification.calibrate`` defines it); and the hash of the weights.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from classification.training.batches import soft_targets
from classification.training.card import find_files, taught_votes
from classification.training.scaling import quality
from eval.classification import measure
from eval.data import fer2013_parts as fer
from eval.data import options
from eval.records import report
from faces.command import UserError
from faces.files import file_sha256, write_json
from faces.pipeline import EmotionClassifier
from faces.provenance import git_commit, read_card

COMMAND = "eval.card"
TESTS = ("PublicTest", "PrivateTest")
VIEWS = ("single", "ten")

SPLIT_METRICS = (
    *("n", "accuracy", "accuracy_ci", "macro_f1", "balanced_accuracy"),
    *("per_class", "confusion"),
)
SUBSET_METRICS = SPLIT_METRICS[:4]
"""Metrics stored on a card: SPLIT_METRICS for a whole split, SUBSET_METRICS for a subset of it."""


def figures(classifier: EmotionClassifier, part: fer.Part, taught: float) -> dict[str, Any]:
    """Measure a classifier on a part of FER2013 with votes: view → what a card says.

    ``taught`` is the share of votes in the classifier's targets.
    """
    found = {}
    for views in VIEWS:
        [row] = measure(fer.batches(part.data), [classifier], views, part)
        found[views] = {key: row[key] for key in SPLIT_METRICS} | {
            key: {name: row[key][name] for name in SUBSET_METRICS}
            for key in ("without_twins", "ferplus_majority")
        }
    assert part.votes is not None
    truth = soft_targets(part.data, part.votes, taught)
    probabilities = fer.probabilities(classifier, part.data)
    found[VIEWS[0]]["calibration"] = quality(probabilities, truth, taught)
    return found


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="RUN|NAME", help="a run folder, or a shipped classifier")
    parser.add_argument("--data", type=Path, required=True, help="FER2013: csv, folder or zip")
    parser.add_argument("--ferplus", type=Path, required=True, metavar="CSV", help="FER+'s votes")


def _complete(arguments: Namespace) -> None:
    weights, path = find_files(arguments.model)
    card = read_card(path)
    parts = fer.open_parts(arguments.data, TESTS, arguments.ferplus)
    if any(part.duplicates_in_training is None for part in parts):
        raise UserError(
            f"{arguments.data}: has no Training, whose exact duplicates a card leaves out"
        )
    [classifier] = options.load_classifiers([arguments.model], None)
    taught = taught_votes(card)
    card["measured"] = {part.name: figures(classifier, part, taught) for part in parts}
    card["measured"] |= {"command": arguments.made_by, "commit": git_commit()}
    card["measured"]["weights_sha256"] = file_sha256(weights)
    write_json(path, report.strict(card), indent=1)
    print(f"wrote {path}")


main = options.Command(COMMAND, __doc__, _add_options, _complete)

if __name__ == "__main__":
    raise SystemExit(main())
