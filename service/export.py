"""Faces with feedback → crops in class folders, which trainings and evaluations read."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from faces.command import UserError
from faces.emotions import EMOTIONS
from faces.files import replacing, write_text
from service.database import Database
from service.tables import NOT_A_FACE, Face

MANIFEST = "manifest.csv"
COLUMNS = (
    *("file", "image_id", "face_index", "label", "agreement", "senders"),
    *EMOTIONS,
    *(NOT_A_FACE.replace(" ", "_"), "predicted", "classifier", "detector", "time"),
)
UNDECIDED = ""
"""Label of a face about which as many people say one thing as another."""


@dataclass(slots=True)
class Counts:
    """What an export wrote: crops, and faces without one, by the reason."""

    written: int = 0
    undecided: int = 0
    not_faces: int = 0
    without_crop: int = 0


def votes(face: Face) -> dict[str, float]:
    """Return emotion (or ``NOT_A_FACE``) → votes; each sender has one, divided if several apply."""
    cast = dict.fromkeys((*EMOTIONS, NOT_A_FACE), 0.0)
    for said in face.feedback:
        for emotion in said.emotions:
            cast[emotion] += 1 / len(said.emotions)
    return cast


def majority(cast: dict[str, float]) -> str:
    """Return what most votes say, or ``UNDECIDED`` where two have the most."""
    most = max(cast.values())
    best = [name for name, count in cast.items() if count > most - 1e-9]
    return best[0] if len(best) == 1 else UNDECIDED


def export(database: Database, out: Path) -> Counts:
    """Write ``<emotion>/<image_id>-<face>.png`` and ``manifest.csv``.

    The manifest has a row per face with feedback, crop or not: its votes, and what was predicted.

    Raises:
        UserError: the folder is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out}: is there already; name a new folder")
    counts = Counts()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for face in database.judged_faces(crops=True):
        cast = votes(face)
        label = majority(cast)
        file = ""
        if label == UNDECIDED:
            counts.undecided += 1
        elif label == NOT_A_FACE:
            counts.not_faces += 1
        elif face.crop is None:
            counts.without_crop += 1
        else:
            file = f"{label}/{face.image_id}-{face.number}.png"
            (out / label).mkdir(parents=True, exist_ok=True)
            with replacing(out / file) as part:
                part.write_bytes(face.crop)
            counts.written += 1
        total = sum(cast.values())
        row: Iterable[object] = (
            *(file, face.image_id, face.number, label, round(max(cast.values()) / total, 6)),
            *(len(face.feedback), *(round(count, 6) for count in cast.values())),
            *(predicted(face), face.image.classifier, face.image.detector, face.image.time),
        )
        writer.writerow(row)
    write_text(out / MANIFEST, text.getvalue())
    return counts


def predicted(face: Face) -> str:
    """Return the emotion that the classifier gave the highest probability."""
    return EMOTIONS[max(range(len(EMOTIONS)), key=face.probabilities.__getitem__)]
