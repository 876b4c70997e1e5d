"""Faces to train on beside FER2013's: crops in one folder per emotion.

``twostage feedback export`` writes such folders.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from classification.data.fer2013 import SIZE, Fer2013
from classification.data.ferplus import FerPlus
from classification.inference.classifier import to_grey
from faces.command import UserError
from faces.crops import pad_to_square
from faces.emotions import EMOTIONS, canonical_emotion
from faces.images import read_image
from faces.paths import IMAGE_SUFFIXES


def load_extra_faces(folder: Path) -> Fer2013:
    """Read ``<emotion>/*.png`` (or jpg), as grey images of FER2013's size, all of them Training.

    Files beside the class folders, such as a manifest, are left alone.

    Raises:
        UserError: there is no such folder, one in it names no emotion, an image cannot be read, or
            there is none.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; check --extra")
    images, labels, names = [], [], []
    for part in sorted(path for path in folder.iterdir() if path.is_dir()):
        try:
            label = EMOTIONS.index(canonical_emotion(part.name))
        except ValueError as error:
            raise UserError(f"{part}: {error}") from error
        for path in sorted(part.iterdir()):
            if path.suffix.lower() in IMAGE_SUFFIXES:
                images.append(to_grey(pad_to_square(read_image(path)), SIZE))
                labels.append(label)
                names.append(f"{part.name}/{path.name}")
    if not images:
        raise UserError(f"{folder}: holds no image in a folder of an emotion; check --extra")
    splits = np.array(["Training"] * len(images))
    return Fer2013(np.stack(images), np.array(labels, np.int64), splits, tuple(names))


def joined(data: Fer2013, extra: Fer2013) -> Fer2013:
    """Return FER2013 with further images at its end."""
    return Fer2013(
        np.concatenate([data.images, extra.images]),
        np.concatenate([data.labels, extra.labels]),
        np.concatenate([data.splits, extra.splits]),
        data.names + extra.names,
    )


def without_votes(votes: FerPlus, count: int) -> FerPlus:
    """Return votes for ``count`` further images, on which nobody voted: their labels count."""
    nobody = np.zeros((count, votes.votes.shape[1]), votes.votes.dtype)
    return FerPlus(np.concatenate([votes.votes, nobody]))
