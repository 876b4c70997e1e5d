"""Where many images come from: folders, patterns, lists, archives, and addresses of fsspec.

An archive (``.tar``, ``.tar.gz``, ``.zip``; WebDataset's shards are tar files) is read without
unpacking it. The images in it are called ``shard.tar/0001.jpg``. What fsspec can open, such as
``s3://bucket/folder`` or ``https://host/photo.jpg``, needs its package for that address.
"""

from __future__ import annotations

import glob
import os
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from faces.command import UserError
from faces.files import DAMAGED_ARCHIVE, regular_file
from faces.paths import IMAGE_SUFFIXES, ImageError, iter_image_paths

MAX_BYTES = 256 << 20
"""A larger file in an archive, or at an address, is not read."""

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
ARCHIVES = (*TARS, ".zip")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


@dataclass(frozen=True)
class Source:
    """An image that is not read yet; can be sent to another process.

    Attributes:
        name: what results and messages call it.
        archive: the archive, or the address, that it is read from; "" if ``name`` is a path.
        member: of a zip archive.
        offset: of the image's first byte in a tar archive.
        size: in bytes, in an archive.
        data: the bytes themselves, where the archive can only be read from start to end.
    """

    name: str
    archive: str = ""
    member: str = ""
    offset: int = -1
    size: int = 0
    data: bytes | None = None

    def open(self) -> str | bytes:
        """Return what ``faces.images.read_image`` takes: a path, or the bytes of the file.

        Raises:
            ImageError: it cannot be read.
        """
        if not self.archive:
            return self.name
        if self.size > MAX_BYTES:
            raise ImageError(
                self.name, f"has more than {MAX_BYTES >> 20} MiB, the most read from an archive"
            )
        if self.data is not None:
            return self.data
        try:
            return self._read()
        except ImageError:
            raise
        except DAMAGED_ARCHIVE as error:
            raise ImageError(self.name, f"cannot be read from {self.archive}: {error}") from error

    def _read(self) -> bytes:
        if self.member:
            with zipfile.ZipFile(self.archive) as archive, archive.open(self.member) as file:
                data = file.read(MAX_BYTES + 1)
        elif self.offset >= 0:
            with open(self.archive, "rb") as file:
                file.seek(self.offset)
                data = file.read(self.size)
            if len(data) < self.size:
                raise ImageError(self.name, f"{self.archive} ends in the middle of it")
        else:
            data = _read_address(self.archive)
        if len(data) > MAX_BYTES:
            raise ImageError(self.name, f"has more than {MAX_BYTES >> 20} MiB")
        return data


def is_address(path: str) -> bool:
    """Tell whether this is an address for fsspec, and no path."""
    return _ADDRESS.match(path) is not None


def is_archive(path: str) -> bool:
    """Tell by its name whether a file is an archive."""
    return path.lower().endswith(ARCHIVES)


def read_list(path: Path) -> list[str]:
    """Return the paths in a text file, one on a line; empty lines and ``#`` lines are left out.

    Raises:
        UserError: it cannot be read, or holds none.
    """
    try:
        data = regular_file(path).read_bytes()
    except OSError as error:
        raise UserError(f"--list {path}: cannot be read: {error.strerror}") from error
    if b"\0" in data[:1024]:
        raise UserError(f"--list {path}: is no text file")
    lines = data.decode("utf-8-sig", "surrogateescape").splitlines()
    paths = [line for line in lines if line.strip() and not line.startswith("#")]
    if not paths:
        raise UserError(f"--list {path}: names no images")
    return paths


def parse_shard(text: str) -> tuple[int, int]:
    """Turn ``"2/10"`` into (2, 10).

    Raises:
        UserError: it is something else.
    """
    if match := re.fullmatch(r"(\d+)/(\d+)", text):
        index, count = int(match[1]), int(match[2])
        if 1 <= index <= count:
            return index, count
    raise UserError(f"--shard {text}: give I/N with I from 1 to N, such as 2/10")


def in_shard(name: str, index: int, count: int) -> bool:
    """Tell by the hash of its name whether an image is in shard ``index`` (from 1) of ``count``."""
    digest = blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % count == index - 1


def iter_sources(
    paths: Sequence[str],
    exclude: str | os.PathLike[str] | None = None,
    wanted: Callable[[str], bool] = lambda name: True,
) -> Iterator[Source | ImageError]:
    """Expand what a user names into images, lazily.

    Args:
        paths: files, folders, patterns (see ``iter_image_paths``), archives, addresses.
        exclude: a folder whose images are passed over.
        wanted: name → whether to yield that image, or that error.

    Yields:
        The images in order; in its place, an ``ImageError`` for what names none.

    Raises:
        UserError: the package that an address needs is missing.
    """
    for item in _expand(paths, exclude):
        if isinstance(item, ImageError):
            if wanted(item.source):
                yield item
        elif item.archive or not is_archive(item.name):
            if wanted(item.name):
                yield item
        else:
            yield from _members(item.name, wanted)


def _expand(
    paths: Sequence[str], exclude: str | os.PathLike[str] | None
) -> Iterator[Source | ImageError]:
    """Yield files, archives as a whole, and what addresses stand for."""
    local: list[str] = []
    for path in (*paths, None):
        if path is None or is_address(path):
            if local:  # all together, since each file counts once
                for found in iter_image_paths(local, exclude):
                    yield found if isinstance(found, ImageError) else Source(str(found))
            local = []
        if path is not None:
            if is_address(path):
                yield from _addressed(path)
            else:
                local.append(path)


def _members(path: str, wanted: Callable[[str], bool]) -> Iterator[Source | ImageError]:
    """Yield the images of an archive, local or at an address."""
    found = False
    if os.path.exists(path) and not os.path.isfile(path):  # opening a pipe would wait
        if wanted(path):
            yield ImageError(path, "is no regular file")
        return
    members = _zip_members if path.lower().endswith(".zip") else _tar_members
    try:
        for source in members(path, lambda name: _is_image(name) and wanted(f"{path}/{name}")):
            found = True
            if source is not None:
                yield source
    except FileNotFoundError:
        error = ImageError(path, "no such file")
    except DAMAGED_ARCHIVE as failure:
        error = ImageError(path, f"is damaged, or no archive ({failure}); get it again")
    else:
        error = ImageError(path, "the archive holds no images")
        if found:
            return
    if wanted(path):
        yield error


def _zip_members(path: str, wanted: Callable[[str], bool]) -> Iterator[Source | None]:
    with _open(path) as file, zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            if not _is_image(entry.filename):
                continue
            source = None
            if wanted(entry.filename):
                name, size = f"{path}/{entry.filename}", entry.file_size
                source = Source(name, path, entry.filename, size=size)
                if is_address(path):
                    data = archive.read(entry) if size <= MAX_BYTES else None
                    source = Source(name, path, size=size, data=data)
            yield source


def _tar_members(path: str, wanted: Callable[[str], bool]) -> Iterator[Source | None]:
    seekable = path.lower().endswith(".tar") and not is_address(path)
    with _open(path) as file, tarfile.open(fileobj=file, mode="r:" if seekable else "r|*") as tar:
        for entry in tar:
            tar.members = []  # type: ignore[attr-defined]  # else they all stay in memory
            if not entry.isreg() or not _is_image(entry.name):
                continue
            source = None
            if wanted(entry.name):
                name = f"{path}/{entry.name}"
                source = Source(name, path, offset=entry.offset_data, size=entry.size)
                if not seekable:
                    reader = tar.extractfile(entry) if entry.size <= MAX_BYTES else None
                    data = reader.read() if reader else None
                    source = Source(name, path, size=entry.size, data=data)
            yield source


def _is_image(name: str) -> bool:
    last = PurePosixPath(name)
    return last.suffix.lower() in IMAGE_SUFFIXES and not last.name.startswith(".")


def _open(path: str) -> BinaryIO:
    return open_address(path) if is_address(path) else open(path, "rb")


def open_address(address: str) -> BinaryIO:
    """Open an address for reading.

    Raises:
        UserError: the package that it needs is missing, or there is no such kind of address.
        OSError: it cannot be opened.
    """
    system, path = _file_system(address)
    opened: BinaryIO = system.open(path, "rb")
    return opened


def _read_address(address: str) -> bytes:
    try:
        with open_address(address) as file:
            data: bytes = file.read(MAX_BYTES + 1)
            return data
    except UserError:
        raise
    except Exception as error:  # the packages of fsspec raise what they like
        raise ImageError(address, f"cannot be read: {error or type(error).__name__}") from error


def _file_system(address: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs

        system, path = url_to_fs(address)
    except ImportError as error:
        raise UserError(f"{address}: needs a package that is missing: {error}") from error
    except ValueError as error:
        raise UserError(f"{address}: cannot be opened: {error}") from error
    return system, path


def _addressed(address: str) -> Iterator[Source | ImageError]:
    """Yield the images that an address stands for: a file, a folder, a pattern."""
    system, path = _file_system(address)
    try:
        if glob.has_magic(path) and not address.startswith(("http://", "https://")):
            found = sorted(system.glob(path))
        elif address.startswith(("http://", "https://")) or system.isfile(path):
            yield from _one_address(address)
            return
        else:
            found = sorted(system.find(path))
    except Exception as error:  # the packages of fsspec raise what they like
        yield ImageError(address, f"cannot be looked at: {error}")
        return
    images = [one for one in found if _is_image(one) or (glob.has_magic(path) and is_archive(one))]
    if not images:
        yield ImageError(address, "no images there")
    for one in images:
        yield from _one_address(system.unstrip_protocol(one))


def _one_address(address: str) -> Iterator[Source | ImageError]:
    if is_archive(address):
        yield Source(address)  # its members follow
    else:
        yield Source(address, address)
