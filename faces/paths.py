"""What a user names (files, folders, patterns) → the image files that it stands for."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from faces.command import UserError, printable

IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .mpo .png .apng .webp .gif .tif .tiff .bmp .dib "
    ".ppm .pgm .pbm .pnm .avif .jp2 .j2k .jpx .heic .heif".split()
)
"""What a folder is searched for."""

_WILDCARDS = re.compile(r"[*?[]")


class ImageError(UserError):
    """An image (``source``, as the user named it) that cannot be read, or a path that names none.

    The message names it, the ``cause`` and, where there is one, the way out.
    """

    def __init__(self, source: str, cause: str) -> None:
        super().__init__(f"{printable(source)}: {cause}")
        self.source = source
        self.cause = cause

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        return type(self), (self.source, self.cause)


def iter_image_paths(
    paths: Iterable[str | os.PathLike[str]], exclude: str | os.PathLike[str] | None = None
) -> Iterator[Path | ImageError]:
    """Expand what a user names into image files, lazily and each once.

    - A path that exists is taken as it stands, also one with ``*``, ``?`` or ``[`` in its name: a
      file whatever its suffix; a folder for the files below it with one of ``IMAGE_SUFFIXES``.
    - Anything else with ``*``, ``?`` or ``[`` in it is a pattern, as in a shell; ``**`` stands for
      any number of folders. A folder that it matches counts as if named, unless there is a ``**``.
      Files need one of ``IMAGE_SUFFIXES``, unless the pattern's last part has a dot (``*.dat``).
    - Hidden files and folders (``.name``) are passed over unless spelled out. Folders that are
      symbolic links are entered only where they are named, so that loops cannot occur.

    The files of a folder come before those of its subfolders, both sorted by name. Memory is held
    for one folder's names at a time, and for a digest of 16 bytes per file where duplicates could
    occur: with several ``paths`` or several ``**``.

    Args:
        paths: what the user named.
        exclude: a folder, perhaps not there yet, of which folders and patterns yield nothing: where
            the images that the caller makes meanwhile go.

    Yields:
        The path of a file; or, in its place, an ``ImageError`` for a path that does not exist or
        cannot be looked at, a folder without images, a pattern that matches none. It is yielded,
        not raised, so that the caller can report it and go on.
    """
    named = [os.fspath(path) for path in paths]
    seen: set[bytes] | None = None
    if len(named) > 1 or any(path.count("**") > 1 for path in named):
        seen = set()
    excluded = None if exclude is None else os.path.realpath(exclude)
    for path in named:
        expanded = _expand(path)
        if excluded is not None and not os.path.isfile(path):
            expanded = (found for found in expanded if not _is_below(found, excluded))
        for found in expanded:
            if seen is not None and isinstance(found, Path):
                key = hashlib.blake2b(os.fsencode(os.path.abspath(found)), digest_size=16).digest()
                if key in seen:
                    continue
                seen.add(key)
            yield found


def _expand(path: str) -> Iterator[Path | ImageError]:
    if os.path.isdir(path):
        found, nothing = _walk(path), "the folder holds no images"
    elif _exists(path):
        found, nothing = iter([Path(path)]), ""
    elif _WILDCARDS.search(path):
        found, nothing = _match(path), "no image matches this pattern"
    else:
        found, nothing = iter(()), "no such file or folder"
    empty = True
    for item in found:
        empty = False
        yield item
    if empty:
        yield ImageError(path, nothing)


def _is_below(found: Path | ImageError, folder: str) -> bool:
    if isinstance(found, ImageError):
        return False
    parent = os.path.realpath(found.parent)
    return parent == folder or parent.startswith(folder.rstrip(os.sep) + os.sep)


def _exists(path: str) -> bool:
    try:
        return os.path.lexists(path)
    except ValueError:  # a null character
        return False


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _entries(folder: str) -> tuple[list[str], list[str]] | ImageError:
    """Return the sorted names of a folder's files and of its subfolders."""
    files: list[str] = []
    folders: list[str] = []
    try:
        with os.scandir(folder or ".") as entries:
            for entry in entries:
                (folders if _is_folder(entry) else files).append(entry.name)
    except OSError as error:
        return ImageError(folder, f"the folder cannot be read: {error.strerror}")
    return sorted(files), sorted(folders)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: reading it reports the one that it is
        return False


def _walk(folder: str) -> Iterator[Path | ImageError]:
    """Yield the images below a folder; not recursive, as folders can nest deeper than calls."""
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        entries = _entries(here)
        if isinstance(entries, ImageError):
            yield entries
            continue
        files, folders = entries
        for name in files:
            if _is_image(name) and not name.startswith("."):
                yield Path(here, name)
        paths = [os.path.join(here, name) for name in folders if not name.startswith(".")]
        waiting.extend(path for path in reversed(paths) if not os.path.islink(path))


def _match(pattern: str) -> Iterator[Path | ImageError]:
    """Yield what a pattern matches, see ``iter_image_paths``."""
    anchor = Path(pattern).anchor
    parts = [part for part in pattern[len(anchor) :].split(os.sep) if part not in ("", ".")]
    any_suffix = "." in parts[-1].lstrip(".")
    enter = "**" not in parts
    if parts[-1] == "**":
        parts.append("*")
    for found in _match_parts(anchor, tuple(parts)):
        if isinstance(found, ImageError):
            yield found
        elif os.path.isdir(found):
            if enter:
                yield from _walk(found)
        elif any_suffix or _is_image(found):
            yield Path(found)


def _match_parts(folder: str, parts: tuple[str, ...]) -> Iterator[str | ImageError]:
    """Yield the paths below ``folder`` that match the pattern's ``parts``, sorted."""
    part, rest = parts[0], parts[1:]
    if not _WILDCARDS.search(part):
        path = os.path.join(folder, part)
        if os.path.lexists(path):
            yield from _match_parts(path, rest) if rest else (path,)
        return
    if not os.path.isdir(folder or "."):
        return
    if part == "**":
        yield from _match_parts(folder, rest)
    entries = _entries(folder)
    if isinstance(entries, ImageError):
        if part != "**":  # else the line above has reported it
            yield entries
        return
    files, folders = entries
    if part == "**":
        for name in folders:
            path = os.path.join(folder, name)
            if not name.startswith(".") and not os.path.islink(path):
                yield from _match_parts(path, parts)
        return
    for name in folders if rest else sorted(files + folders):
        if fnmatch.fnmatchcase(name, part) and (part[0] == "." or not name.startswith(".")):
            path = os.path.join(folder, name)
            yield from _match_parts(path, rest) if rest else (path,)
