"""The folder that ``--annotated`` names: images with their faces boxed."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faces.command import UserError
from faces.draw import annotated_origin, write_annotated
from faces.files import replacing
from faces.paths import IMAGE_SUFFIXES, ImageError

LONGEST_STEM = 230
"""Longest name in bytes, without its number and ending; most file systems take 255."""


class AnnotatedFolder:
    """A folder of annotated images, each under a name of its own.

    An image that is analysed again gets its name again. What a folder holds of other images, also
    of an earlier run, is never overwritten: the next gets a number. A missing folder is made.

    Raises:
        UserError: it cannot be made or written to, is that of the photos ``inputs``, or holds
            images that were not written here.
    """

    def __init__(self, folder: Path, inputs: Sequence[str]) -> None:
        for path in map(Path, inputs):
            if folder.resolve() in (path.resolve(), path.resolve().parent):
                raise UserError(
                    f"--annotated {folder}: is the photos' own folder, where they could be "
                    "overwritten; name another"
                )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--annotated {folder}: cannot be made: {error.strerror}") from error
        if not os.access(folder, os.W_OK):
            raise UserError(f"--annotated {folder}: may not be written to")
        for path in folder.iterdir():
            if path.suffix.lower() in IMAGE_SUFFIXES and annotated_origin(path) is None:
                raise UserError(
                    f"--annotated {folder}: holds images that were not made here, such as "
                    f"{path.name}, and could be overwritten; name a new folder"
                )
        self.folder = folder
        self.first: Path | None = None
        self.count = 0
        self._last_number: dict[str, int] = {}
        self._full = False

    def write(self, source: str, image: NDArray[np.uint8]) -> None:
        """Write the annotated ``source``: ``photo.jpg`` → ``photo.png``, the next ``photo-2.png``.

        Names that are too long for a file system are cut. After an ``ImageError`` nothing is left
        half written. Once the disk is full or read-only, images are passed over without another
        word.
        """
        if self._full:
            return
        origin = _origin(source, image)
        path = self._path(_shortened(Path(source).stem), origin)
        try:
            with replacing(path) as part, part.open("wb") as file:
                write_annotated(image, file, origin)
        except OSError as error:
            cause = f"cannot be written: {error.strerror or error}"
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                self._full = True
                cause += "; no more annotated images are written"
            raise ImageError(str(path), cause) from error
        self.first = self.first or path
        self.count += 1

    def _path(self, stem: str, origin: str) -> Path:
        """Return the first name that is free, or holds the same image from an earlier run."""
        while True:
            path = self.folder / f"{self._name(stem)}.png"
            if not os.path.lexists(path) or annotated_origin(path) == origin:
                return path

    def _name(self, stem: str) -> str:
        number = self._last_number.get(stem.casefold(), 0) + 1
        while number > 1 and f"{stem}-{number}".casefold() in self._last_number:
            number += 1
        self._last_number[stem.casefold()] = number
        name = stem if number == 1 else f"{stem}-{number}"
        self._last_number.setdefault(name.casefold(), 1)
        return name


def _origin(source: str, image: NDArray[np.uint8]) -> str:
    """Return a digest that tells images apart: by place, or by pixels if they have none.

    A digest, as the path may say more about its owner than the image should.
    """
    place = os.fsencode(os.path.realpath(source)) if os.path.exists(source) else image.tobytes()
    return hashlib.blake2b(place, digest_size=16).hexdigest()


def _shortened(stem: str) -> str:
    while len(os.fsencode(stem)) > LONGEST_STEM:
        stem = stem[:-1]
    return stem
