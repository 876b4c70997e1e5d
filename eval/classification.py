"""Measure emotion classifiers on labelled face crops: ``python -m eval.classification --help``.

--data is FER2013 in any of its forms (fer2013.csv, icml_face_data.csv, the Kaggle folder with
``train/<class>/Training_…`` and ``test/<class>/PublicTest_…``, or a zip of one), or any folder or
zip of ``<class>/*.{png,jpg,…}``: face crops of any size, in colour or grey, padded to square where
they are not.

Definitions
    accuracy: right / all, with its 95 % interval by Wilson as accuracy_ci.
    macro_f1, balanced_accuracy: mean F1, mean recall over the classes present in the truth.
    per_class: precision (0 where never predicted), recall, F1 and support; null for classes that
        are absent from the truth.
    confusion: 7×7 counts; rows are the truth, columns the prediction, in the order of "classes".
    top: how often the truth is the first, among the first two, among the first three guesses.
    groups: accuracy over coarser classes ("six": disgust counts as angry; "valence": positive,
        negative, neutral); the probability of each is the sum of its emotions'.
    without_twins: accuracy and the rest without exact duplicates: images that are pixel for pixel
        in Training too (FER2013 only, where Training is in --data).
    ferplus_majority: the same against the majority of FER+'s annotators, by its protocol: without
        single dissenting votes, one of the seven emotions has more than half of them; the other
        images are left out (``--ferplus``).
    truth, predicted: one digit per face, its place in "classes"; FER2013's images in the order of
        the hashes of (split, label, pixels), so that records can be compared image by image.
    weights_sha256, weights_bytes, parameters, training_hours, training_command, history: from the
        model's file and card.
    ms_per_face: wall-clock time of the classifier's calls, all views included, reading and warm-up
        excluded.
"""

from __future__ import annotations

import math
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classification.data.fer2013 import SPLITS
from eval.data import fer2013_parts as fer
from eval.data import options
from eval.data.crop_folders import Batch, CropReader, scan_crops
from eval.data.images import note_dropped, open_images
from eval.data.score_files import read_scores
from eval.metrics import grouping
from eval.metrics.classification import figures
from eval.records import report
from eval.records.sections import Section, columns
from faces import command
from faces.command import UserError
from faces.emotions import EMOTIONS, GROUPINGS
from faces.pipeline import EmotionClassifier, Image
from faces.views import VIEWS, probabilities_over_views
from twostage import model_zoo

COMMAND = "eval.classification"

SECTION = Section(
    kind="classification",
    title="Emotions of face crops",
    columns=columns(
        "text: record classifier split views",
        "count: n",
        "percent: accuracy",
        "interval: accuracy_ci",
        "percent: without_twins.accuracy ferplus_majority.accuracy",
        "number: macro_f1",
        "percent: balanced_accuracy",
        "number: ms_per_face",
        "text: precision",
    ),
    headings={
        "accuracy_ci": "95 % interval",
        "without_twins.accuracy": "without twins",
        "ferplus_majority.accuracy": "ferplus majority",
        "precision": "number format",
    },
)


class TimedClassifier:
    """A classifier whose answers are kept and whose calls are timed, over one of ``VIEWS``."""

    def __init__(self, classifier: EmotionClassifier, views: str) -> None:
        self.classifier, self.views = classifier, views
        self.seconds = 0.0
        self.probabilities = [np.zeros((0, len(EMOTIONS)), np.float32)]
        self.labels: list[int] = []

    def add(self, crops: Sequence[Image], labels: Sequence[int]) -> None:
        """Classify a batch; the first batch is also run before, untimed (warm-up)."""
        if not self.labels:
            probabilities_over_views(self.classifier, crops, self.views)
        start = time.perf_counter()
        found = probabilities_over_views(self.classifier, crops, self.views)
        self.seconds += time.perf_counter() - start
        options.check_finite(found, self.classifier.name)
        self.probabilities.append(found)
        self.labels += labels

    def row(self, part: fer.Part | None) -> report.Row:
        """Return the metrics of the answers so far; see ``summarise``."""
        truth = np.array(self.labels, np.int64)
        return {
            "classifier": self.classifier.name,
            "views": self.views,
            **summarise(np.concatenate(self.probabilities), truth, part),
            "ms_per_face": 1000 * self.seconds / len(truth) if len(truth) else math.nan,
            "precision": options.precision_of(self.classifier),
        }


def summarise(
    probabilities: NDArray[np.float32], truth: NDArray[np.int64], part: fer.Part | None = None
) -> report.Row:
    """Compute the metrics of probabilities (N, 7); the module's docstring defines them.

    ``part`` is the part of FER2013 that the N faces are, for its exact duplicates and its votes.
    """
    without_duplicates = by_majority = None
    if part is not None and part.duplicates_in_training is not None:
        kept = ~part.duplicates_in_training
        without_duplicates = figures(probabilities[kept], truth[kept])
    if part is not None and part.votes is not None:
        majority = part.votes.majority()
        by_majority = figures(probabilities[majority >= 0], majority[majority >= 0])
    return {
        **figures(probabilities, truth),
        "top": [grouping.top_k(probabilities, truth, k) for k in (1, 2, 3)],
        "groups": {name: grouping.group_figures(probabilities, truth, name) for name in GROUPINGS},
        "without_twins": without_duplicates,
        "ferplus_majority": by_majority,
        "classes": list(EMOTIONS),
        "truth": "".join(map(str, truth)),
        "predicted": "".join(map(str, probabilities.argmax(1))),
    }


def measure(
    batches: Iterable[Batch],
    classifiers: Sequence[EmotionClassifier],
    views: str = VIEWS[0],
    part: fer.Part | None = None,
) -> list[report.Row]:
    """Measure classifiers on the same batches, which are read once; see ``summarise``."""
    timed = [TimedClassifier(classifier, views) for classifier in classifiers]
    for crops, labels in batches:
        for classifier in timed:
            classifier.add(crops, labels)
    return [classifier.row(part) for classifier in timed]


def per_class_table(row: report.Row) -> str:
    """Lay one row's scores out per class present, with the confusion matrix beside them."""
    rows: list[dict[str, Any]] = []
    for emotion, counts in zip(EMOTIONS, row["confusion"], strict=True):
        if not row["per_class"][emotion]["support"]:
            continue
        rows.append({"true": emotion} | row["per_class"][emotion])
        rows[-1] |= {f"→{name}": int(count) for name, count in zip(EMOTIONS, counts, strict=True)}
    kinds = columns("text: true", "count: support", "percent: precision recall", "number: f1")
    return report.table(rows, kinds | {f"→{emotion}": "count" for emotion in EMOTIONS})


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, metavar="DIR|ZIP|CSV", help="see above")
    parser.add_argument(
        "--split",
        choices=SPLITS,
        help=f"part of FER2013 (default {fer.DEFAULT_SPLIT}, or the only part that is there)",
    )
    options.add_models(parser, "classifier")
    text = "probabilities that other programs gave FER2013's images (columns name, angry, …)"
    options.add_several(parser, "--scores", "NAME=FILE.csv", text)
    parser.add_argument(
        "--views",
        choices=VIEWS,
        default=VIEWS[0],
        help="average over views of each face: as it is, with its mirror image, or ten crops",
    )
    text = "folders to leave out, such as contempt; any other unknown folder is an error"
    options.add_several(parser, "--ignore-class", "NAME", text)
    parser.add_argument(
        "--ferplus", type=Path, metavar="CSV", help="also measure against FER+'s votes (FER2013)"
    )
    options.add_common_options(parser)


def _evaluate(arguments: Namespace) -> int:
    command.existing(arguments.data, "--data")
    if not arguments.classifier and not arguments.scores:
        raise UserError("nothing to measure; give --classifier, --scores or both")
    whole = not fer.is_fer2013(arguments.data, arguments.split)
    rows = _on_crops(arguments) if whole else _on_fer2013(arguments)
    facts = [model_zoo.classifier_facts(name) for name in arguments.classifier]
    facts += [{} for _ in arguments.scores]
    SECTION.publish(arguments, [row | found for row, found in zip(rows, facts, strict=True)])
    for row in rows:
        print(f"\n{row['classifier']}\n{per_class_table(row)}")
    return 1 if rows[0]["unreadable"] else 0


def _on_fer2013(arguments: Namespace) -> list[report.Row]:
    """Measure classifiers and files of probabilities on a part of FER2013."""
    if arguments.ignore_class:
        raise UserError("--ignore-class is for plain class folders; FER2013 has seven classes")
    classifiers = options.load_classifiers(arguments.classifier, arguments.device)
    files = []
    for text in arguments.scores:
        name, _, file = text.partition("=")
        if not name or not file:
            raise UserError(f"--scores {text}: expected NAME=FILE.csv")
        files.append((name, Path(file)))
    part = fer.open_part(arguments.data, arguments.split, arguments.ferplus).sorted()
    if part.differences:
        text = "; ".join(part.differences)
        command.note(COMMAND, f"{arguments.data}: not the official FER2013 {part.name}: {text}")
    rows = measure(fer.batches(part.data), classifiers, arguments.views, part)
    for name, file in files:
        probabilities = read_scores(file, part.data.names)
        row = summarise(probabilities, part.data.labels, part)
        unknown = {"ms_per_face": math.nan, "precision": None}
        rows.append({"classifier": name, "views": VIEWS[0]} | row | unknown)
    return [row | part.about() | {"unreadable": 0} for row in rows]


def _on_crops(arguments: Namespace) -> list[report.Row]:
    """Measure classifiers on a folder or zip of labelled crops."""
    store = open_images(arguments.data)
    if arguments.scores:
        raise UserError(f"{arguments.data}: is no FER2013, which --scores is for")
    if arguments.ferplus is not None:
        raise UserError(f"{arguments.data}: is no FER2013, whose images FER+ is about")
    if arguments.split is not None:
        raise UserError(
            f"{arguments.data}: --split is for FER2013, told by its file names (Training_…, "
            "PublicTest_…, PrivateTest_…); a plain folder is measured whole: leave --split out"
        )
    folder = scan_crops(store, arguments.ignore_class)
    what = f"{store.path}: files that are no image in a class folder"
    note_dropped(COMMAND, what, folder.skipped)
    classifiers = options.load_classifiers(arguments.classifier, arguments.device)
    reader = CropReader(store, folder)
    rows = measure(reader, classifiers, arguments.views)
    for line in reader.failed:
        command.note(COMMAND, line)
    if not rows[0]["n"]:
        count = len(folder.images)
        raise UserError(f"{store.path}: not one of its images can be read ({count} failed)")
    if reader.failed:
        command.note(COMMAND, f"images left out, as they cannot be read: {len(reader.failed)}")
    about = {
        "data": str(arguments.data),
        "split": None,
        "fingerprint": reader.fingerprint,
        "ignored": folder.ignored,
        "unreadable": len(reader.failed),
    }
    return [row | about for row in rows]


main = options.Command(COMMAND, __doc__, _add_options, _evaluate)

if __name__ == "__main__":
    raise SystemExit(main())
