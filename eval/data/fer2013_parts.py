"""Parts of FER2013 with FER+'s votes, and what classifiers say of them."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from classification.data.fer2013 import SPLITS, Fer2013, exact_duplicates, load_fer2013
from classification.data.ferplus import FERPLUS_CLASSES, FerPlus, load_ferplus
from classification.inference.calibration import one_hot
from eval.data import options
from eval.data.crop_folders import BATCH, Batch
from eval.data.images import open_images
from faces import command
from faces.command import UserError
from faces.emotions import EMOTIONS
from faces.paths import IMAGE_SUFFIXES
from faces.pipeline import EmotionClassifier, Image

DEFAULT_SPLIT = "PublicTest"
"""FER2013's validation part; PrivateTest is for final models and must be asked for."""

SELECTION_SPLIT = "PublicTest"
"""Whatever an evaluation selects (a threshold, a scaling), it selects on this part."""


@dataclass(frozen=True)
class Part:
    """A part of FER2013."""

    name: str  # its official name
    data: Fer2013  # its images and labels
    # how its class counts differ from the official ones, one line each
    differences: tuple[str, ...]
    # which images are pixel for pixel in Training too, shape (N,), bool; None for Training, and
    # where Training is not in the data
    duplicates_in_training: NDArray[np.bool_] | None
    votes: FerPlus | None  # FER+'s, if they were asked for
    source: dict[str, str | None]  # what a record says of the files: ``data``, ``ferplus``

    @property
    def label_probabilities(self) -> NDArray[np.float64]:
        """The labels as probabilities, (N, 7): 1 for the label."""
        return one_hot(self.data.labels, len(EMOTIONS))

    def vote_probabilities(self) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Return the images that FER+ can judge, and the distribution of their votes.

        That is where more than half of the voters chose one of the seven emotions; the others saw
        contempt or no face, or could not tell.

        Returns:
            Their indices, shape (M,), and each emotion's share of the votes for the seven, (M, 7).
        """
        assert self.votes is not None
        votes = self.votes.votes
        others = votes[:, [FERPLUS_CLASSES.index(name) for name in ("contempt", "unknown", "NF")]]
        known = np.flatnonzero(2 * others.sum(axis=1) < votes.sum(axis=1))
        return known, self.votes.shares()[known].astype(np.float64)

    def sorted(self) -> Part:
        """Return the part in an order that does not depend on the form of the data."""
        order = self.data.order()
        duplicates, votes = self.duplicates_in_training, self.votes
        return replace(
            self,
            data=self.data.take(order),
            duplicates_in_training=None if duplicates is None else duplicates[order],
            votes=None if votes is None else FerPlus(votes.votes[order]),
        )

    def about(self) -> dict[str, Any]:
        """Return what every row on the part says of its data."""
        return {
            "split": self.name,
            **self.source,
            "fingerprint": self.data.fingerprint,
            "official": not self.differences,
        }


def open_part(path: Path, split: str | None = None, ferplus: Path | None = None) -> Part:
    """Read one part of FER2013, in any of its forms, with FER+'s votes if they are given.

    Without ``split`` it is ``DEFAULT_SPLIT``, or the only part that is there.

    Raises:
        UserError: data or votes cannot be read, or the data lack the part or hold several others.
    """
    [part] = open_parts(path, [split], ferplus)
    return part


def open_parts(path: Path, splits: Sequence[str | None], ferplus: Path | None = None) -> list[Part]:
    """Read several parts of FER2013 at once; see ``open_part``."""
    command.existing(path, "--data")
    whole = load_fer2013(path, progress=sys.stderr.isatty())
    present = [name for name in SPLITS if (whole.splits == name).any()]
    training = whole.split("Training") if "Training" in present else None
    source = {"data": str(path), "ferplus": None if ferplus is None else str(ferplus)}
    parts = []
    for name in splits:
        if name is None:
            name = present[0] if len(present) == 1 else DEFAULT_SPLIT
            if name not in present:
                raise UserError(
                    f"{path}: has no {name}; choose a part: --split {' or '.join(present)}"
                )
        if name not in present:
            raise UserError(f"{path}: has no image of {name}, only of {', '.join(present)}")
        data = whole.split(name)
        differences = (d for d in data.differences_from_official() if d.startswith(f"{name}/"))
        duplicates = None
        if training is not None and name != "Training":
            duplicates = exact_duplicates(data, training)
        votes = None if ferplus is None else load_ferplus(ferplus, data)
        parts.append(Part(name, data, tuple(differences), duplicates, votes, source))
    return parts


def open_selection_and_reported(arguments: Namespace) -> list[Part]:
    """Read the part to select on, and the one to report, that ``add_options`` let users choose."""
    splits = (SELECTION_SPLIT, arguments.split)
    return open_parts(arguments.data, splits, arguments.ferplus)


def is_fer2013(path: Path, split: str | None = None) -> bool:
    """Tell FER2013 from a plain folder of crops, by file names alone.

    It is FER2013 if it is a csv, holds a csv and no image, or FER2013's csv by name; or if most of
    its images are called ``Training_…``, ``PublicTest_…`` or ``PrivateTest_…`` and their class
    folders lie in ``train`` or ``test``. Where a part is asked for (``split``), the images' names
    are enough.
    """
    if path.is_file() and path.suffix.lower() == ".csv":
        return True
    names = [PurePosixPath(name) for name in open_images(path).names]
    images = [name for name in names if name.suffix.lower() in IMAGE_SUFFIXES]
    if not images or any(name.name in ("fer2013.csv", "icml_face_data.csv") for name in names):
        return any(name.suffix.lower() == ".csv" for name in names)
    prefixes = tuple(f"{part}_" for part in SPLITS)
    named = [name for name in images if name.name.startswith(prefixes)]
    if split is None:
        named = [n for n in named if len(n.parts) > 2 and n.parts[-3].lower() in ("train", "test")]
    return 2 * len(named) > len(images)


def add_options(parser: ArgumentParser, *, votes_required: bool = False) -> None:
    """Add the options that the evaluations of FER2013's probabilities share."""
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR|ZIP|CSV", help="FER2013 in any form"
    )
    parser.add_argument(
        "--ferplus", type=Path, required=votes_required, metavar="CSV", help="FER+'s votes"
    )
    parser.add_argument(
        "--split",
        choices=("PublicTest", "PrivateTest"),
        default=DEFAULT_SPLIT,
        help="part that is reported (default %(default)s); whatever is selected is selected on "
        f"{SELECTION_SPLIT}",
    )
    options.add_models(parser, "classifier", required=True)
    options.add_picture_option(parser)
    options.add_common_options(parser)


def rgb(image: NDArray[np.uint8]) -> Image:
    """Return a grey image, (H, W) uint8, as (H, W, 3)."""
    return np.repeat(image[:, :, None], 3, axis=2)


def batches(data: Fer2013) -> Iterator[Batch]:
    """Yield FER2013's images as RGB crops, with a progress bar."""
    for part in _slices(len(data.labels), None):
        yield list(map(rgb, data.images[part])), data.labels[part].tolist()


def _slices(count: int, name: str | None) -> Iterator[slice]:
    with tqdm(total=count, desc=name, unit=" faces", disable=None) as progress:
        for start in range(0, count, BATCH):
            yield slice(start, start + BATCH)
            progress.update(min(BATCH, count - start))


def probabilities(classifier: EmotionClassifier, data: Fer2013) -> NDArray[np.float64]:
    """Return a classifier's probabilities on all images, (N, 7) float64."""
    return probabilities_of_crops(classifier, list(map(rgb, data.images)))


def probabilities_of_crops(
    classifier: EmotionClassifier, crops: Sequence[Image]
) -> NDArray[np.float64]:
    """Return a classifier's probabilities, (N, 7) float64, all finite, with a progress bar."""
    rows = [np.zeros((0, len(EMOTIONS)), np.float32)]
    for part in _slices(len(crops), classifier.name):
        rows.append(classifier.probabilities(crops[part]))
        options.check_finite(rows[-1], classifier.name)
    return np.concatenate(rows).astype(np.float64)


def uncalibrated(classifier: EmotionClassifier) -> EmotionClassifier | None:
    """Return the classifier as it was before its calibration; None if it has none."""
    plain = getattr(classifier, "uncalibrated", None)
    return plain() if plain else None
