"""FER+: ten people's votes on what each image of FER2013 shows.

Barsoum et al., "Training Deep Networks for Facial Expression Recognition with Crowd-Sourced Label
Distribution" (ICMI 2016); data: github.com/microsoft/FERPlus (MIT licence).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classification.data.fer2013 import SPLITS, Fer2013, shortened
from faces.command import UserError
from faces.emotions import ALIASES, EMOTIONS, canonical_emotion

FERPLUS_CLASSES = tuple(
    "neutral happiness surprise sadness anger disgust fear contempt unknown NF".split()
)
"""What the annotators could choose, in the order of the published file; NF is "no face"."""

_EMOTION_OF = [ALIASES.get(name, name) for name in FERPLUS_CLASSES]
_SEVEN = [_EMOTION_OF.index(emotion) for emotion in EMOTIONS]


@dataclass(frozen=True)
class FerPlus:
    """The votes on some images.

    ``votes`` is (N, 10) int64, in the order of ``FERPLUS_CLASSES``; an image that FER+ does not
    list has none.
    """

    votes: NDArray[np.int64]

    def of(self, which: NDArray[np.bool_]) -> FerPlus:
        """Return the votes on some of the images, shape (N,)."""
        return FerPlus(self.votes[which])

    def shares(self) -> NDArray[np.float32]:
        """Return each emotion's share of the votes for the seven emotions, (N, 7) float32.

        Rows are in the order of ``EMOTIONS`` and sum to 1, or to 0 where nobody voted for any of
        the seven.
        """
        seven = self.votes[:, _SEVEN].astype(np.float32)
        shares: NDArray[np.float32] = seven / np.maximum(seven.sum(1, keepdims=True), 1)
        return shares

    def majority(self) -> NDArray[np.int64]:
        """Return what more than half of the votes say, single dissenting votes aside, (N,) int64.

        This is the publication's majority protocol: a class with one vote counts as an outlier.
        Indices are into ``EMOTIONS``; -1 where no class has more than half of the votes, or that
        class is contempt, unknown or no face: an evaluation against the majority leaves those
        images out.
        """
        votes = np.where(self.votes > 1, self.votes, 0)
        top = votes.argmax(1)
        clear = 2 * votes.max(1) > votes.sum(1)
        emotion_of = np.full(len(FERPLUS_CLASSES), -1, np.int64)
        emotion_of[_SEVEN] = np.arange(len(EMOTIONS))
        return np.where(clear, emotion_of[top], -1)


def load_ferplus(path: Path, data: Fer2013) -> FerPlus:
    """Read the votes on the images of ``data``.

    Votes that are joined by the number of the row are held against the images: the file must have
    as many rows as ``fer2013.csv``, and each row's ``Usage`` and name must be those of its image.

    Args:
        path: ``fer2013new.csv`` of the FER+ release (its n-th row is about the n-th row of
            ``fer2013.csv``), or a csv with the same vote columns and ``class`` and ``filename`` of
            the Kaggle folder, or ``row`` of ``fer2013.csv``.
        data: read from ``fer2013.csv`` or from the Kaggle folder, or a part of it; its names find
            the votes.

    Raises:
        UserError: the file cannot be read as FER+, contradicts the images, or has votes for none of
            them.
    """
    try:
        if not Path(path).is_file():
            raise UserError(f"{path}: no such file; give fer2013new.csv of FER+")
        with Path(path).open(newline="", encoding="utf-8-sig") as lines:
            rows = [_Row.parse(path, index, row) for index, row in enumerate(csv.DictReader(lines))]
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except (csv.Error, UnicodeDecodeError):
        raise UserError(f"{path}: no readable csv; give fer2013new.csv of FER+") from None
    if rows and not any(row.name or row.number is not None for row in rows):
        rows = _numbered(path, rows, data)
    by_name = _by_name(path, rows)
    votes = np.zeros((len(data.names), len(FERPLUS_CLASSES)), np.int64)
    for index, (name, label) in enumerate(zip(data.names, data.labels, strict=True)):
        row = by_name.get(name) or by_name.get(f"{EMOTIONS[label]}/{name}")
        if row is not None:
            row.check(path, str(data.splits[index]), EMOTIONS[label])
            votes[index] = row.votes
    if not votes.any():
        raise UserError(
            f"{path}: has votes for none of the {len(data.names)} images (the first is "
            f"{data.names[0]}); the published fer2013new.csv goes with fer2013.csv, a csv with the "
            "column filename with the Kaggle folder"
        )
    return FerPlus(votes)


@dataclass(frozen=True)
class _Row:
    """A row of a file of votes."""

    index: int  # from 0
    votes: NDArray[np.int64]  # shape (10,)
    usage: str  # the split that it names; empty if it names none
    image_name: str  # as FER+ numbers images, ``fer0000017.png``; empty for what is no face
    name: str  # ``class/filename`` of the Kaggle folder, if it has one
    number: int | None  # of the row of ``fer2013.csv``, if it says so; -1 is unknown

    @classmethod
    def parse(cls, path: Path, index: int, row: dict[str, str]) -> _Row:
        missing = [column for column in FERPLUS_CLASSES if row.get(column) is None]
        if missing:
            raise UserError(
                f"{path}, row {index + 1}: lacks {', '.join(missing)}; use fer2013new.csv of FER+"
            )
        where, name = f"{path}, row {index + 1}", ""
        votes = np.array([_whole(where, row[column]) for column in FERPLUS_CLASSES], np.int64)
        number = None if row.get("row") is None else _whole(where, row["row"], minimum=-1)
        if filename := row.get("filename"):
            try:
                name = f"{canonical_emotion(row.get('class') or '')}/{filename}"
            except ValueError as error:
                raise UserError(f"{where}: {error}") from error
        usage = (row.get("Usage") or "").strip()
        if not usage and (filename or "").split("_")[0] in SPLITS:
            usage = str(filename).split("_")[0]
        return cls(index, votes, usage, (row.get("Image name") or "").strip(), name, number)

    def check(self, path: Path, split: str, emotion: str) -> None:
        """Hold the row against the split and the label of its image."""
        for mine, its in ((self.usage, split), (self.name.partition("/")[0], emotion)):
            if mine and mine != its:
                raise UserError(
                    f"{path}, row {self.index + 1}: is about an image of {shortened(mine)}, and "
                    f"the image in its place is of {its}; rows were dropped, added or moved"
                )


def _whole(where: str, text: str, minimum: int = 0) -> int:
    """Parse a whole number, also as pandas writes it (``8.0``); blank is 0."""
    try:
        value = float(text.strip() or 0)
    except ValueError:
        value = math.nan
    if not (minimum <= value <= 1e6 and value.is_integer()):
        problem = "below zero" if value < minimum else "no whole number"
        raise UserError(f"{where}: {shortened(text)} is {problem}")
    return int(value)


def _numbered(path: Path, rows: Sequence[_Row], data: Fer2013) -> list[_Row]:
    """Number the rows of the published file, after holding their count and names against it."""
    if data.rows is not None and data.rows != len(rows):
        raise UserError(
            f"{path}: has {len(rows)} rows for the {data.rows} images of the csv; the n-th row is "
            "about the n-th image, so use the file as it was published"
        )
    # images are numbered as they stand; those without a face may have no name, and no number
    named = 0
    for row in rows:
        expected = {f"fer{named:07d}.png", f"fer{row.index:07d}.png"}
        if row.image_name and row.image_name not in expected:
            raise UserError(
                f"{path}, row {row.index + 1}: is about {shortened(row.image_name)} where "
                f"{min(expected)} must stand; rows were dropped, added or moved"
            )
        named += bool(row.image_name)
    return [replace(row, number=row.index) for row in rows]


def _by_name(path: Path, rows: Iterable[_Row]) -> dict[str, _Row]:
    found: dict[str, _Row] = {}
    for row in rows:
        keys = [row.name] if row.name else []
        keys += [f"row {row.number}"] if row.number is not None and row.number >= 0 else []
        for key in keys:
            other = found.setdefault(key, row)
            if other is not row:
                raise UserError(
                    f"{path}: rows {other.index + 1} and {row.index + 1} are both about {key}"
                )
    return found
