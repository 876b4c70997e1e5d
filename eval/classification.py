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
    groups: the same over coarser classes ("six": disgust counts as angry; "valence": positive,
        negative, neutral), whose scores are the sums of their emotions'.
    without_twins: accuracy and the rest over the pictures that are not pixel for pixel in Training
        too (FER2013 only, where Training is in --data).
    ferplus_majority: the same against what most of FER+'s annotators saw, by its protocol: single
        dissenting votes aside, one of the seven emotions has more than half of them; the other
        pictures are left out (``--ferplus``).
    truth, predicted: one digit per face, its place in "classes"; FER2013's pictures in the order of
        the hashes of (split, label, pixels), so that records can be compared picture by picture.
    weights_sha256, weights_bytes, parameters, training_hours, training_command, history: from the
        model's file and card.
    ms_per_face: wall-clock time of the classifier's calls, all views included, reading and warm-up
        excluded.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from classification.data.fer2013 import SPLITS, Fer2013, Fer2013Error, load_fer2013, pixel_twins
from classification.data.ferplus import load_ferplus
from eval.data import options
from eval.data.crop_folders import CropFolder, scan_crops
from eval.data.images import PictureStore, UnreadableFileError, open_pictures
from eval.data.score_files import read_scores
from eval.metrics import classification as class_metrics
from eval.metrics import grouping
from eval.records import report
from eval.records.sections import Section
from faces import command
from faces.command import UserError
from faces.crops import pad_to_square
from faces.emotions import EMOTIONS, GROUPINGS
from faces.images import ImageError, read_image
from faces.paths import PICTURE_SUFFIXES
from faces.pipeline import EmotionClassifier, Image
from faces.provenance import command_line
from faces.views import VIEWS, probabilities_over_views

COMMAND = "eval.classification"

BATCH = 64
"""Faces per call of a classifier."""

BATCH_PIXELS = 1 << 22
"""A batch of large crops ends early at this many pixels, so that memory stays flat."""

DEFAULT_SPLIT = "PublicTest"
"""FER2013's validation part; PrivateTest is for final models and must be asked for."""

COLUMNS = {
    "classifier": "text",
    "split": "text",
    "views": "text",
    "n": "count",
    "accuracy": "percent",
    "accuracy_ci": "text",
    "without twins": "percent",
    "FER+ majority": "percent",
    "macro_f1": "number",
    "balanced_accuracy": "percent",
    "ms_per_face": "number",
}

SECTION = Section(
    kind="classification",
    title="Emotions of face crops",
    columns={
        "record": "text",
        "classifier": "text",
        "split": "text",
        "views": "text",
        "n": "count",
        "accuracy": "percent",
        "accuracy_ci": "interval",
        "without_twins.accuracy": "percent",
        "ferplus_majority.accuracy": "percent",
        "macro_f1": "number",
        "balanced_accuracy": "percent",
        "ms_per_face": "number",
        "precision": "text",
    },
    headings={
        "accuracy_ci": "95 % interval",
        "without_twins.accuracy": "without twins",
        "ferplus_majority.accuracy": "ferplus majority",
        "precision": "number format",
    },
)

Batch = tuple[list[Image], list[int]]
"""Square crops, each (S, S, 3) uint8 RGB, and as many indices into ``EMOTIONS``."""


class Tally:
    """One classifier's answers, kept and timed.

    Args:
        classifier: stage 2.
        views: one of ``VIEWS``.
    """

    def __init__(self, classifier: EmotionClassifier, views: str) -> None:
        self.classifier = classifier
        self.views = views
        self.seconds = 0.0
        self._scores: list[NDArray[np.float32]] = []
        self._labels: list[int] = []

    def add(self, crops: Sequence[Image], labels: Sequence[int]) -> None:
        """Classify a batch; the first batch is run before, untimed."""
        if not self._scores:
            probabilities_over_views(self.classifier, crops, self.views)
        start = time.perf_counter()
        scores = probabilities_over_views(self.classifier, crops, self.views)
        self.seconds += time.perf_counter() - start
        options.top_emotions(self.classifier, scores)  # refuses what is not finite
        self.take(scores, labels)

    def take(self, scores: NDArray[np.float32], labels: Sequence[int]) -> None:
        """Count answers, (N, 7), as they are."""
        self._scores.append(scores)
        self._labels += labels

    def summary(
        self, twins: NDArray[np.bool_] | None = None, majority: NDArray[np.int64] | None = None
    ) -> report.Run:
        """Compute the metrics; the module's docstring defines them.

        Args:
            twins: shape (N,), which faces are in Training too; None where that is unknown.
            majority: shape (N,), what FER+'s annotators saw, as ``FerPlus.majority`` gives it.
        """
        scores = np.concatenate([np.zeros((0, len(EMOTIONS)), np.float32), *self._scores])
        truth = np.array(self._labels, np.int64)
        n = len(truth)
        return {
            "classifier": self.classifier.name,
            "views": self.views,
            **figures(scores, truth),
            "top": [grouping.top_k(scores, truth, k) for k in (1, 2, 3)],
            "groups": {name: grouping.group_figures(scores, truth, name) for name in GROUPINGS},
            "without_twins": None if twins is None else figures(scores[~twins], truth[~twins]),
            "ferplus_majority": None
            if majority is None
            else figures(scores[majority >= 0], majority[majority >= 0]),
            "classes": list(EMOTIONS),
            "truth": "".join(map(str, truth)),
            "predicted": "".join(map(str, scores.argmax(1))),
            "ms_per_face": 1000 * self.seconds / n if n and self.seconds else float("nan"),
            "precision": report.precision_of(self.classifier),
        }


def figures(scores: NDArray[np.float32], truth: NDArray[np.int64]) -> report.Run:
    """Count the answers to N faces, scores (N, 7) and truth (N,), and compute the metrics."""
    confusion = class_metrics.confusion_matrix(truth, scores.argmax(1), len(EMOTIONS))
    per_class = class_metrics.class_scores(confusion)
    return {
        "n": len(truth),
        "accuracy": class_metrics.accuracy(confusion),
        "accuracy_ci": class_metrics.wilson_interval(int(np.trace(confusion)), len(truth)),
        "macro_f1": class_metrics.macro_f1(confusion),
        "balanced_accuracy": class_metrics.balanced_accuracy(confusion),
        "per_class": {e: asdict(s) for e, s in zip(EMOTIONS, per_class, strict=True)},
        "confusion": confusion,
    }


def measure(
    batches: Iterable[Batch],
    classifiers: Sequence[EmotionClassifier],
    views: str = VIEWS[0],
    twins: NDArray[np.bool_] | None = None,
    majority: NDArray[np.int64] | None = None,
) -> list[report.Run]:
    """Measure classifiers on the same batches, read once; ``Tally.summary`` tells the rest."""
    tallies = [Tally(classifier, views) for classifier in classifiers]
    for crops, labels in batches:
        for tally in tallies:
            tally.add(crops, labels)
    return [tally.summary(twins, majority) for tally in tallies]


def fer2013_batches(data: Fer2013) -> Iterator[Batch]:
    """Yield FER2013's pictures as RGB crops, with a progress bar."""
    with tqdm(total=len(data.labels), unit=" faces", disable=None) as progress:
        for start in range(0, len(data.labels), BATCH):
            grey = data.images[start : start + BATCH]
            labels = data.labels[start : start + BATCH].tolist()
            yield [np.repeat(image[:, :, None], 3, axis=2) for image in grey], labels
            progress.update(len(labels))


class CropReader:
    """The labelled crops of a folder, read in batches.

    Args:
        store: the folder or zip.
        folder: which of its files are pictures of which class.
        on_error: called with one line for each picture that cannot be read.
    """

    def __init__(
        self, store: PictureStore, folder: CropFolder, on_error: Callable[[str], None]
    ) -> None:
        self.store, self.folder, self.on_error = store, folder, on_error
        self._digests: list[bytes] = []

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of all (class, file content) read so far, whatever their names."""
        return hashlib.sha256(b"".join(sorted(self._digests))).hexdigest()

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches, with a progress bar, past pictures that cannot be read."""
        crops: list[Image] = []
        labels: list[int] = []
        pixels = 0
        for name, label in tqdm(self.folder.pictures, unit=" faces", disable=None):
            crop = self._read(name, label)
            if crop is None:
                continue
            if crops and (len(crops) == BATCH or pixels + crop.shape[0] ** 2 > BATCH_PIXELS):
                yield crops, labels
                crops, labels, pixels = [], [], 0
            crops.append(crop)
            labels.append(label)
            pixels += crop.shape[0] ** 2
        if crops:
            yield crops, labels

    def _read(self, name: str, label: int) -> Image | None:
        shown = self.store.label(name)
        try:
            data = self.store.read(name)
            crop = pad_to_square(read_image(data, name=shown))
        except UnreadableFileError as error:
            self.on_error(f"{shown}: {error}")
        except ImageError as error:
            self.on_error(str(error))
        else:
            self._digests.append(hashlib.sha256(f"{label} ".encode() + data).digest())
            return crop
        return None


def is_fer2013(path: Path, split: str | None = None) -> bool:
    """Tell FER2013 from a plain folder of crops, by file names alone.

    It is FER2013 if it is a csv, holds a csv and no picture, or FER2013's csv by name; or if most
    of its pictures are called ``Training_…``, ``PublicTest_…`` or ``PrivateTest_…`` and their class
    folders lie in ``train`` or ``test``. Where a part is asked for (``split``), the pictures' names
    are enough.
    """
    if path.is_file() and path.suffix.lower() == ".csv":
        return True
    names = [PurePosixPath(name) for name in open_pictures(path).names]
    pictures = [name for name in names if name.suffix.lower() in PICTURE_SUFFIXES]
    if not pictures or any(name.name in ("fer2013.csv", "icml_face_data.csv") for name in names):
        return any(name.suffix.lower() == ".csv" for name in names)
    prefixes = tuple(f"{part}_" for part in SPLITS)
    named = [name for name in pictures if name.name.startswith(prefixes)]
    if split is None:
        named = [n for n in named if len(n.parts) > 2 and n.parts[-3].lower() in ("train", "test")]
    return 2 * len(named) > len(pictures)


def open_fer2013(path: Path, split: str | None) -> tuple[Fer2013, str, list[str]]:
    """Read one part of FER2013.

    Args:
        path: any form of FER2013.
        split: an official part; None for ``DEFAULT_SPLIT``, or the only part that is there.

    Returns:
        The part, its name, and how its class counts differ from the official ones (one line each).

    Raises:
        UserError: the data cannot be read, lacks the part, or holds several others.
    """
    part, split, differences, _ = _open_fer2013(path, split)
    return part, split, differences


def _open_fer2013(
    path: Path, split: str | None
) -> tuple[Fer2013, str, list[str], NDArray[np.bool_] | None]:
    """Do as ``open_fer2013``; and tell which pictures are in Training too, if that is there."""
    try:
        data = load_fer2013(path, progress=sys.stderr.isatty())
        there = [name for name in SPLITS if (data.splits == name).any()]
        if split is None:
            split = there[0] if len(there) == 1 else DEFAULT_SPLIT
            if split not in there:
                raise UserError(
                    f"{path}: has no {DEFAULT_SPLIT}; choose a part: --split {' or '.join(there)}"
                )
        elif split not in there:
            raise UserError(f"{path}: has no picture of {split}, only of {', '.join(there)}")
        part = data.split(split)
    except Fer2013Error as error:
        raise UserError(str(error)) from error
    differences = [d for d in data.differences_from_official() if d.startswith(f"{split}/")]
    compare = "Training" in there and split != "Training"
    twins = pixel_twins(part, data.split("Training")) if compare else None
    return part, split, differences, twins


def per_class_table(run: report.Run) -> str:
    """Lay one run's scores out per class present, with the confusion matrix beside them."""
    rows: list[dict[str, Any]] = []
    for emotion, counts in zip(EMOTIONS, run["confusion"], strict=True):
        if not run["per_class"][emotion]["support"]:
            continue
        rows.append({"true": emotion} | run["per_class"][emotion])
        rows[-1] |= {f"→{name}": int(count) for name, count in zip(EMOTIONS, counts, strict=True)}
    kinds = {"true": "text", "support": "count", "precision": "percent", "recall": "percent"}
    return report.table(rows, kinds | {"f1": "number"} | {f"→{e}": "count" for e in EMOTIONS})


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    result = argparse.ArgumentParser(
        prog=f"python -m {COMMAND}",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--data", type=Path, required=True, metavar="DIR|ZIP|CSV", help="see above")
    result.add_argument(
        "--split",
        choices=SPLITS,
        help=f"part of FER2013 (default {DEFAULT_SPLIT}, or the only part that is there)",
    )
    result.add_argument(
        "--classifier",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME|RUN",
        help="shipped classifiers by name, or folders that a training left",
    )
    result.add_argument(
        "--scores",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=FILE.csv",
        help="probabilities that other programs gave FER2013's pictures (columns name, angry, …)",
    )
    result.add_argument(
        "--views",
        choices=VIEWS,
        default=VIEWS[0],
        help="average over views of each face: as it is, with its mirror image, or ten crops",
    )
    result.add_argument(
        "--ignore-class",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="folders to leave out, such as contempt; any other unknown folder is an error",
    )
    result.add_argument(
        "--ferplus", type=Path, metavar="CSV", help="also measure against FER+'s votes (FER2013)"
    )
    options.add_common_options(result)
    return result


def evaluate(arguments: argparse.Namespace, made_by: str) -> int:
    """Do what the command line ``made_by`` asks; returns the exit status."""
    report.check_out(arguments.out)
    command.existing(arguments.data, "--data")
    if not arguments.classifier and not arguments.scores:
        raise UserError("nothing to measure; give --classifier, --scores or both")
    failures: list[str] = []
    if is_fer2013(arguments.data, arguments.split):
        runs = _on_fer2013(arguments)
    else:
        runs = _on_crops(arguments, failures)
    about = {"data": str(arguments.data)} | report.provenance(made_by, arguments.device)
    facts = [options.classifier_facts(name) for name in arguments.classifier]
    facts += [{} for _ in arguments.scores]
    runs = [run | found | about for run, found in zip(runs, facts, strict=True)]
    if arguments.out is not None:
        report.write_report(arguments.out, SECTION.kind, runs)
    print(report.table([_shown(run) for run in runs], COLUMNS))
    for run in runs:
        print(f"\n{run['classifier']}\n{per_class_table(run)}")
    if failures:
        command.note(COMMAND, f"pictures left out, as they could not be read: {len(failures)}")
    return 1 if failures else 0


def _on_fer2013(arguments: argparse.Namespace) -> list[report.Run]:
    if arguments.ignore_class:
        raise UserError("--ignore-class is for plain class folders; FER2013 has seven classes")
    classifiers = options.load_classifiers(arguments.classifier, arguments.device)
    files = [_named_file(text) for text in arguments.scores]
    data, split, differences, twins = _open_fer2013(arguments.data, arguments.split)
    order = data.order()
    data = data.take(order)
    majority = None if arguments.ferplus is None else votes_majority(arguments.ferplus, data)
    if differences:
        text = "; ".join(differences)
        command.note(COMMAND, f"{arguments.data}: not the official FER2013 {split}: {text}")
    about = {
        "split": split,
        "fingerprint": data.fingerprint,
        "official": not differences,
        "unreadable": 0,
    }
    batches = fer2013_batches(data)
    twins = None if twins is None else twins[order]
    runs = measure(batches, classifiers, arguments.views, twins, majority) if classifiers else []
    for name, file in files:
        tally = Tally(_Elsewhere(name), VIEWS[0])
        tally.take(read_scores(file, data.names), data.labels.tolist())
        runs.append(tally.summary(twins, majority))
    return [run | about for run in runs]


def votes_majority(ferplus: Path, data: Fer2013) -> NDArray[np.int64]:
    """Return what most annotators of FER+ saw in each picture, (N,), as ``FerPlus.majority`` does.

    Raises:
        UserError: the votes cannot be read, or are about other pictures.
    """
    try:
        return load_ferplus(ferplus, data).majority()
    except Fer2013Error as error:
        raise UserError(str(error)) from error


@dataclass
class _Elsewhere:
    """Stands for a program whose answers came as a file."""

    name: str

    def probabilities(self, crops: Sequence[Image]) -> NDArray[np.float32]:
        raise NotImplementedError


def _named_file(text: str) -> tuple[str, Path]:
    name, _, file = text.partition("=")
    if not name or not file:
        raise UserError(f"--scores {text}: expected NAME=FILE.csv")
    return name, Path(file)


def _on_crops(arguments: argparse.Namespace, failures: list[str]) -> list[report.Run]:
    store = open_pictures(arguments.data)
    if arguments.scores:
        raise UserError(f"{arguments.data}: is no FER2013, which --scores is for")
    if arguments.ferplus is not None:
        raise UserError(f"{arguments.data}: is no FER2013, whose pictures FER+ is about")
    if arguments.split is not None:
        raise UserError(
            f"{arguments.data}: --split is for FER2013, told by its file names (Training_…, "
            "PublicTest_…, PrivateTest_…); a plain folder is measured whole: leave --split out"
        )
    folder = scan_crops(store, arguments.ignore_class)
    if folder.skipped:
        command.note(
            COMMAND,
            f"{store.path}: {len(folder.skipped)} files are no pictures in a class folder and were "
            f"passed over, such as {folder.skipped[0]}",
        )
    classifiers = options.load_classifiers(arguments.classifier, arguments.device)
    reader = CropReader(store, folder, failures.append)
    runs = measure(reader, classifiers, arguments.views)
    for failure in failures:
        command.note(COMMAND, failure)
    if not runs[0]["n"]:
        raise UserError(
            f"{store.path}: not one of its pictures can be read ({len(folder.pictures)} failed)"
        )
    about = {
        "split": None,
        "fingerprint": reader.fingerprint,
        "ignored": folder.ignored,
        "unreadable": len(failures),
    }
    return [run | about for run in runs]


def _shown(run: report.Run) -> report.Run:
    low, high = run["accuracy_ci"]
    return run | {
        "accuracy_ci": f"{100 * low:.1f}-{100 * high:.1f} %",
        "without twins": (run["without_twins"] or {}).get("accuracy"),
        "FER+ majority": (run["ferplus_majority"] or {}).get("accuracy"),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = parser().parse_args(argv)
    made_by = command_line(COMMAND, argv)
    return command.run(COMMAND, lambda: evaluate(arguments, made_by))


if __name__ == "__main__":
    sys.exit(main())
