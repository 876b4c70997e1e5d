"""A folder or a zip of pictures behind one interface: names, and the bytes behind a name."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from faces.command import UserError


class UnreadableFileError(Exception):
    """The bytes of one file cannot be had; the message says why."""


@dataclass(frozen=True)
class PictureStore:
    """Files under a folder, or in a zip.

    Attributes:
        path: the folder or the zip.
        is_zip: whether it is a zip.
        names: its files' relative paths, sorted; hidden ones and ``__MACOSX`` left out.
    """

    path: Path
    is_zip: bool
    names: tuple[str, ...]
    _open: Callable[[str], bytes]

    def read(self, name: str) -> bytes:
        """Return the bytes of one of ``names``.

        Raises:
            UnreadableFileError: the file is gone, may not be read, or is damaged or encrypted.
        """
        try:
            return self._open(name)
        except OSError as error:
            raise UnreadableFileError(error.strerror or str(error)) from error
        except (
            RuntimeError,
            NotImplementedError,
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
        ) as error:
            raise UnreadableFileError(f"damaged or encrypted in the zip: {error}") from error

    def label(self, name: str) -> str:
        """Return how to name one file to the user."""
        return f"{self.path}/{name}"


def open_pictures(path: Path) -> PictureStore:
    """Open a folder (symbolic links are followed) or a zip.

    Raises:
        UserError: ``path`` is neither.
    """
    if path.is_dir():
        return PictureStore(path, False, _walk(path), lambda name: (path / name).read_bytes())
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(
            f"{path}: neither a folder nor a readable zip ({error}); unpack other archives first"
        ) from error
    names = (info.filename for info in archive.infolist() if not info.is_dir())
    return PictureStore(path, True, tuple(sorted(filter(_shown, names))), archive.read)


def _walk(root: Path) -> tuple[str, ...]:
    names: list[str] = []
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        names += (Path(folder, file).relative_to(root).as_posix() for file in files)
    return tuple(sorted(filter(_shown, names)))


def _shown(name: str) -> bool:
    return not any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)
