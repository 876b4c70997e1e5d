"""Classifiers' probabilities on parts of FER2013, with the truth in labels and in votes."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from classification.data.fer2013 import Fer2013, Fer2013Error, load_fer2013
from classification.data.ferplus import FERPLUS_CLASSES, FerPlus, load_ferplus
from classification.inference.calibration import one_hot
from eval.classification import BATCH, DEFAULT_SPLIT
from eval.data import options
from eval.records import report
from faces import command
from faces.command import UserError
from faces.emotions import EMOTIONS
from faces.pipeline import EmotionClassifier, Image

CHOSEN_ON = "PublicTest"
"""Whatever an evaluation chooses, it chooses on this part."""


@dataclass(frozen=True)
class Part:
    """A part of FER2013.

    Attributes:
        name: its official name.
        data: its pictures and labels.
        votes: FER+'s, if they were asked for.
    """

    name: str
    data: Fer2013
    votes: FerPlus | None

    @property
    def labels(self) -> NDArray[np.float64]:
        """The labels as shares, (N, 7)."""
        return one_hot(self.data.labels, len(EMOTIONS))

    def voted(self) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Return the pictures that FER+ can judge, and the shares of their votes.

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


def make_parser(name: str, text: str, *, votes_required: bool) -> ArgumentParser:
    """Return a parser with the options of the evaluations of FER2013's probabilities.

    Args:
        name: of the command.
        text: its docstring.
        votes_required: whether it cannot do without FER+.
    """
    parser = ArgumentParser(
        prog=f"python -m {name}",
        description=text.replace("%", "%%"),
        formatter_class=RawDescriptionHelpFormatter,
    )
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
        help="part that is reported (default %(default)s); whatever is chosen is chosen on "
        f"{CHOSEN_ON}",
    )
    parser.add_argument(
        "--classifier",
        nargs="+",
        action="extend",
        required=True,
        metavar="NAME|RUN",
        help="shipped classifiers by name, or folders that a training left",
    )
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="draw the curves there")
    options.add_common_options(parser)
    return parser


def read_parts(data: Path, ferplus: Path | None, names: Sequence[str]) -> list[Part]:
    """Read parts of FER2013 and their votes.

    Raises:
        UserError: data or votes cannot be read.
    """
    command.existing(data, "--data")
    try:
        whole = load_fer2013(data, progress=sys.stderr.isatty())
        parts = [whole.split(name) for name in names]
        votes = [None if ferplus is None else load_ferplus(ferplus, part) for part in parts]
    except Fer2013Error as error:
        raise UserError(str(error)) from error
    return [Part(n, p, v) for n, p, v in zip(names, parts, votes, strict=True)]


def about(part: Part, data: Path, ferplus: Path | None, made_by: str) -> report.Run:
    """Return what every run on a part says of its data and making."""
    own = [d for d in part.data.differences_from_official() if d.startswith(f"{part.name}/")]
    return {
        "split": part.name,
        "data": str(data),
        "ferplus": None if ferplus is None else str(ferplus),
        "fingerprint": part.data.fingerprint,
        "official": not own,
    } | report.provenance(made_by)


def probabilities(classifier: EmotionClassifier, data: Fer2013) -> NDArray[np.float64]:
    """Return a classifier's probabilities on all pictures, (N, 7) float64."""
    return score_crops(classifier, [np.repeat(i[:, :, None], 3, axis=2) for i in data.images])


def score_crops(classifier: EmotionClassifier, crops: Sequence[Image]) -> NDArray[np.float64]:
    """Return a classifier's probabilities, (N, 7) float64, with a progress bar.

    Raises:
        UserError: some are not finite.
    """
    rows = [np.zeros((0, len(EMOTIONS)), np.float32)]
    with tqdm(total=len(crops), desc=classifier.name, unit=" faces", disable=None) as progress:
        for start in range(0, len(crops), BATCH):
            rows.append(classifier.probabilities(crops[start : start + BATCH]))
            progress.update(len(rows[-1]))
    scores = np.concatenate(rows)
    options.top_emotions(classifier, scores)
    return scores.astype(np.float64)


def uncalibrated(classifier: EmotionClassifier) -> EmotionClassifier | None:
    """Return the classifier as it was before its calibration; None if it has none."""
    plain: Callable[[], EmotionClassifier | None] = getattr(
        classifier, "uncalibrated", lambda: None
    )
    return plain()
