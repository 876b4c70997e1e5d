"""Files that are written whole or not at all, strict JSON, and hashes."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import secrets
import stat
import struct
import tarfile
import tomllib
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from faces.command import UserError


def regular_file(path: Path) -> Path:
    """Return ``path`` if it is a file with an end; opening a pipe would wait for its other end.

    A ``UserError`` says that it is missing, a folder, a pipe or a device, or cannot be looked at.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise UserError(f"{path}: cannot be opened: {error}") from error
    if stat.S_ISDIR(mode):
        raise UserError(f"{path}: is a folder; give a file")
    if not stat.S_ISREG(mode):
        raise UserError(f"{path}: is no regular file; save its content as one")
    return path


def new_part(path: Path) -> Path:
    """Make an empty file beside ``path``, under a name that no other process has.

    An ``OSError`` names ``path`` as its ``filename``.
    """
    name = path.name.encode("utf-8", "surrogateescape")[:200].decode("utf-8", "ignore")
    part = path.with_name(f"{name}.{secrets.token_hex(4)}.part")
    try:
        with open(part, "xb"):
            return part
    except OSError as error:
        error.filename = str(path)
        raise


def publish(part: Path, path: Path) -> None:
    """Let a written part become ``path``, once it is on the disk; an ``OSError`` names ``path``."""
    try:
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a file to write, beside ``path``; it becomes ``path`` at the end, whole and on disk.

    After an error, or Ctrl-C, the former file is as it was and nothing is left beside it; an
    ``OSError`` names ``path``. Two processes that write one path do not meet: each has a file of
    its own, the last one stays.
    """
    part = new_part(path)
    try:
        yield part
        publish(part, path)
    except OSError as error:
        if error.filename in (None, str(part), part):
            error.filename = str(path)
        raise
    finally:
        part.unlink(missing_ok=True)


DAMAGED_ARCHIVE = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error),
    *(OSError, EOFError, RuntimeError, OverflowError, UnicodeDecodeError),
)
"""What ``zipfile`` and ``tarfile`` raise where an archive is damaged, encrypted or unusual."""

MOST_TEXT = 1 << 30
"""Bytes of the largest file of text that is read; COCO's largest json has half as many."""


def read_text(path: Path) -> str:
    """Read UTF-8 text, with or without a byte order mark.

    Raises:
        UserError: see ``regular_file``; or it is too large, or no such text.
        OSError: it cannot be read.
    """
    if regular_file(path).stat().st_size > MOST_TEXT:
        raise UserError(f"{path}: has more than {MOST_TEXT >> 20} MiB; is it the right file?")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        cause = f"not UTF-8 text (byte {error.start}); is it the right file?"
        raise UserError(f"{path}: {cause}") from error


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: see ``read_text``; or it is not valid JSON.
        OSError: it cannot be read.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of 5,000 digits
        cause = "nested too deeply" if isinstance(error, RecursionError) else error
        raise UserError(f"{path}: not valid JSON ({cause}); is the file complete?") from error


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        UserError: see ``read_text``; or it is not valid TOML.
        OSError: it cannot be read.
    """
    text = read_text(path)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        cause = "nested too deeply" if isinstance(error, RecursionError) else error
        raise UserError(f"{path}: not valid TOML: {cause}") from error


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all, into a folder that is made if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any, indent: int | None = 2) -> None:
    """Write strict JSON (no NaN) and a line's end, whole or not at all."""
    write_text(path, json.dumps(content, indent=indent, allow_nan=False, ensure_ascii=False) + "\n")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
