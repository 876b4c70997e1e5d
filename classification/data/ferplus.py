"""FER+: ten people's votes on what each picture of FER2013 shows.

Barsoum et al., "Training Deep Networks for Facial Expression Recognition with Crowd-Sourced Label
Distribution" (ICMI 2016); data: github.com/microsoft/FERPlus (MIT licence).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classification.data.fer2013 import Fer2013, Fer2013Error
from faces.emotions import EMOTIONS, canonical_emotion

FERPLUS_CLASSES = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
    "unknown",
    "NF",
)
"""What the annotators could choose, in the order of the published file; NF is "no face"."""

_COLUMN_OF = {
    "angry": "anger",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happiness",
    "sad": "sadness",
    "surprise": "surprise",
    "neutral": "neutral",
}
_SEVEN = [FERPLUS_CLASSES.index(_COLUMN_OF[emotion]) for emotion in EMOTIONS]


@dataclass(frozen=True)
class FerPlus:
    """The votes on some pictures.

    Attributes:
        votes: shape (N, 10), int64, in the order of ``FERPLUS_CLASSES``; a picture that FER+ does
            not list has none.
    """

    votes: NDArray[np.int64]

    def shares(self) -> NDArray[np.float32]:
        """Return each emotion's share of the votes for the seven emotions.

        Returns:
            Shape (N, 7), float32, in the order of ``EMOTIONS``; rows sum to 1, or to 0 where nobody
            voted for any of the seven.
        """
        seven = self.votes[:, _SEVEN].astype(np.float32)
        shares: NDArray[np.float32] = seven / np.maximum(seven.sum(1, keepdims=True), 1)
        return shares

    def majority(self) -> NDArray[np.int64]:
        """Return what more than half of the votes say, single dissenting votes aside.

        This is the publication's majority protocol: a class with one vote counts as an outlier.

        Returns:
            Shape (N,), int64, indices into ``EMOTIONS``; -1 where no class has more than half of
            the votes, or that class is contempt, unknown or no face: those pictures are left out of
            an evaluation against the majority.
        """
        votes = np.where(self.votes > 1, self.votes, 0)
        top = votes.argmax(1)
        clear = 2 * votes.max(1) > votes.sum(1)
        emotion_of = np.full(len(FERPLUS_CLASSES), -1, np.int64)
        emotion_of[_SEVEN] = np.arange(len(EMOTIONS))
        return np.where(clear, emotion_of[top], -1)


def load_ferplus(path: Path, data: Fer2013) -> FerPlus:
    """Read the votes on the pictures of ``data``.

    Args:
        path: ``fer2013new.csv`` of the FER+ release (its n-th row is about the n-th picture of
            ``fer2013.csv``), or a csv with the same vote columns and ``class`` and ``filename`` of
            the Kaggle folder, or ``row`` of ``fer2013.csv``.
        data: read from ``fer2013.csv`` or from the Kaggle folder; its names find the votes.

    Raises:
        Fer2013Error: the file cannot be read as FER+, or has votes for none of the pictures.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as lines:
            by_name = _read_votes(path, csv.DictReader(lines))
    except OSError as error:
        raise Fer2013Error(f"{path}: cannot be read: {error.strerror}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise Fer2013Error(f"{path}: not a readable csv: {error}") from error
    none = np.zeros(len(FERPLUS_CLASSES), np.int64)
    votes = np.stack(
        [
            by_name.get(name, by_name.get(f"{EMOTIONS[label]}/{name}", none))
            for name, label in zip(data.names, data.labels, strict=True)
        ]
    )
    if not votes.any():
        raise Fer2013Error(
            f"{path}: has votes for none of the {len(data.names)} pictures (the first is "
            f"{data.names[0]}); the published fer2013new.csv goes with fer2013.csv, a csv with the "
            "column filename with the Kaggle folder"
        )
    return FerPlus(votes)


def _read_votes(path: Path, rows: Iterable[dict[str, str]]) -> dict[str, NDArray[np.int64]]:
    by_name: dict[str, NDArray[np.int64]] = {}
    for index, row in enumerate(rows):
        missing = [column for column in FERPLUS_CLASSES if row.get(column) is None]
        if missing:
            raise Fer2013Error(
                f"{path}, row {index + 1}: lacks {', '.join(missing)}; use fer2013new.csv of FER+"
            )
        try:
            votes = np.array([int(row[column]) for column in FERPLUS_CLASSES], np.int64)
            number = int(row.get("row", index))
            if row.get("filename"):
                by_name[f"{canonical_emotion(row.get('class') or '')}/{row['filename']}"] = votes
        except ValueError as error:
            raise Fer2013Error(f"{path}, row {index + 1}: {error}") from error
        if votes.min() < 0:
            raise Fer2013Error(f"{path}, row {index + 1}: a number of votes is below zero")
        if number >= 0:
            by_name[f"row {number}"] = votes
    return by_name
