"""The folder that ``--annotated`` names: images with their faces boxed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faces.command import UserError
from faces.draw import is_annotated, write_annotated
from faces.files import replacing
from faces.paths import PICTURE_SUFFIXES, ImageError


class AnnotatedFolder:
    """A folder of annotated images, each under a name of its own.

    Args:
        folder: made if missing.
        inputs: what the user named as photos.

    Raises:
        UserError: the folder cannot be made or written to, is the photos' own, or holds images
            that were not written here.
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
            if path.suffix.lower() in PICTURE_SUFFIXES and not is_annotated(path):
                raise UserError(
                    f"--annotated {folder}: holds images that were not made here, such as "
                    f"{path.name}, and could be overwritten; name a new folder"
                )
        self.folder = folder
        self.first: Path | None = None
        self.count = 0
        self._last_number: dict[str, int] = {}

    def write(self, source: str, image: NDArray[np.uint8]) -> None:
        """Write the annotated ``source``: ``photo.jpg`` → ``photo.png``, the next ``photo-2.png``.

        Raises:
            ImageError: writing failed; nothing is left half written.
        """
        path = self.folder / f"{self._name(Path(source).stem)}.png"
        try:
            with replacing(path) as part:
                write_annotated(image, part)
        except OSError as error:
            cause = f"cannot be written: {error.strerror or error}"
            raise ImageError(str(path), cause) from error
        self.first = self.first or path
        self.count += 1

    def _name(self, stem: str) -> str:
        number = self._last_number.get(stem.casefold(), 0) + 1
        while number > 1 and f"{stem}-{number}".casefold() in self._last_number:
            number += 1
        self._last_number[stem.casefold()] = number
        name = stem if number == 1 else f"{stem}-{number}"
        self._last_number.setdefault(name.casefold(), 1)
        return name
