"""Probabilities of classifiers elsewhere, as csv: a name and one column per emotion."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faces.command import UserError
from faces.emotions import EMOTIONS, canonical_emotion
from faces.files import regular_file, replacing

SUM_TOLERANCE = 0.02
"""How far the sum of a row may be from 1 (``human`` and others round)."""


def write_scores(path: Path, names: Sequence[str], probabilities: NDArray[np.float32]) -> None:
    """Write probabilities, (N, 7) in the order of ``EMOTIONS``, as csv with a header."""
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("name", *EMOTIONS))
        for name, row in zip(names, probabilities.tolist(), strict=True):
            writer.writerow((name, *(f"{value:.6g}" for value in row)))


def read_scores(path: Path, names: Sequence[str]) -> NDArray[np.float32]:
    """Read probabilities from a csv with a column ``name`` and one per emotion, in any order.

    Returns:
        (N, 7) float32 in the orders of ``names`` and ``EMOTIONS``; rows sum to 1.

    Raises:
        UserError: the file is of another form, an image is missing or occurs twice, or a row
            holds no probabilities.
    """
    try:
        with regular_file(path).open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            columns = _columns(path, reader.fieldnames or ())
            found: dict[str, list[float]] = {}
            for row in reader:
                where = f"{path}:{reader.line_num}"
                if row["name"] in found:
                    raise UserError(f"{where}: {row['name']} is there twice; names are unique")
                found[row["name"]] = _probabilities(where, [row[c] for c in columns])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as csv ({error})") from error
    missing = [name for name in names if name not in found]
    if missing:
        raise UserError(
            f"{path}: lacks {len(missing)} of {len(names)} images, such as {missing[0]}; was it "
            "made from the same data?"
        )
    rows = np.array([found[name] for name in names], np.float32).reshape(-1, len(EMOTIONS))
    return np.asarray(rows / rows.sum(axis=1, keepdims=True), np.float32)


def _columns(path: Path, header: Sequence[str]) -> list[str]:
    by_emotion = {}
    for column in header:
        if column != "name":
            try:
                by_emotion[canonical_emotion(column)] = column
            except ValueError:
                continue
    lacking = [emotion for emotion in EMOTIONS if emotion not in by_emotion]
    if lacking or "name" not in header:
        raise UserError(
            f"{path}: its first line must be name,{','.join(EMOTIONS)} (in any order); it is "
            f"{','.join(header)[:80] or 'empty'}"
        )
    return [by_emotion[emotion] for emotion in EMOTIONS]


def _probabilities(where: str, cells: Sequence[str | None]) -> list[float]:
    try:
        values = [float(cell or "nan") for cell in cells]
    except ValueError:
        values = [math.nan]
    if not all(value >= 0 for value in values) or abs(sum(values) - 1) > SUM_TOLERANCE:
        raise UserError(f"{where}: not seven probabilities that sum to 1: {cells}")
    return values
