"""FER2013 in every form that people have it, with its official split.

FER2013 (Goodfellow et al., "Challenges in Representation Learning", 2013) has 35,887 grey faces of
48×48 pixels in three parts: Training, PublicTest (validation) and PrivateTest (test).
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from faces.command import UserError, note
from faces.emotions import EMOTIONS, canonical_emotion
from faces.files import DAMAGED_ARCHIVE
from faces.images import ImageError, read_image

SIZE = 48
"""Height and width of an image of FER2013 in pixels."""

SPLITS: tuple[str, ...] = ("Training", "PublicTest", "PrivateTest")
"""The official parts, as the column ``Usage`` and the Kaggle folder's files name them."""

OFFICIAL_COUNTS: dict[str, tuple[int, ...]] = {
    "Training": (3995, 436, 4097, 7215, 4830, 3171, 4965),
    "PublicTest": (467, 56, 496, 895, 653, 415, 607),
    "PrivateTest": (491, 55, 528, 879, 594, 416, 626),
}
"""Images per emotion (order of ``EMOTIONS``) in each part of the official release."""

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Fer2013:
    """FER2013, or a part of it, in memory.

    Attributes:
        images: shape (N, 48, 48), uint8, grey.
        labels: shape (N,), int64, indices into ``EMOTIONS``.
        splits: shape (N,), str, each one of ``SPLITS``.
        names: N names: ``Training_123.png``, or ``row 17`` for a csv.
        rows: how many rows that csv has; None for images in folders.
        stated_split: what the split is, if it is not the official one.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    splits: NDArray[np.str_]
    names: tuple[str, ...]
    rows: int | None = None
    stated_split: str = ""

    def split(self, name: str) -> Fer2013:
        """Return one official part; a ``UserError`` if it is unknown, or has no image here."""
        if name not in SPLITS:
            raise UserError(f"unknown split {name!r}; expected one of {', '.join(SPLITS)}")
        keep = np.flatnonzero(self.splits == name)
        if not keep.size:
            raise UserError(f"the data holds no image of the split {name}")
        return self.take(keep)

    def take(self, keep: NDArray[np.int64]) -> Fer2013:
        """Return the images of these indices, in their order."""
        return replace(
            self,
            images=self.images[keep],
            labels=self.labels[keep],
            splits=self.splits[keep],
            names=tuple(self.names[i] for i in keep),
        )

    def disgust_as_angry(self) -> Fer2013:
        """Return the same images with disgust's, the rarest, labelled as angry."""
        disgust, angry = EMOTIONS.index("disgust"), EMOTIONS.index("angry")
        return replace(self, labels=np.where(self.labels == disgust, angry, self.labels))

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of all (split, label, pixels), whatever their order and file form."""
        digests = sorted(map(_digest, self.splits, self.labels, self.images))
        return hashlib.sha256(b"".join(digests)).hexdigest()

    def order(self) -> NDArray[np.int64]:
        """Return indices that sort the images by (split, label, pixels), whatever their form."""
        digests = list(map(_digest, self.splits, self.labels, self.images))
        return np.array(sorted(range(len(digests)), key=digests.__getitem__), np.int64)

    def differences_from_official(self) -> list[str]:
        """Say, a line each, which classes of which parts have another size than officially."""
        lines = [self.stated_split] if self.stated_split else []
        for split, official in OFFICIAL_COUNTS.items():
            counts = np.bincount(self.labels[self.splits == split], minlength=len(EMOTIONS))
            for emotion, have, want in zip(EMOTIONS, counts, official, strict=True):
                if have != want:
                    word = "missing" if have < want else "extra"
                    lines.append(f"{split}/{emotion}: {have} of {want}, {abs(want - have)} {word}")
        return lines


def _digest(split: str, label: int, image: NDArray[np.uint8]) -> bytes:
    return hashlib.sha256(f"{split} {label} ".encode() + image.tobytes()).digest()


def exact_duplicates(part: Fer2013, training: Fer2013) -> NDArray[np.bool_]:
    """Tell, shape (N,), which images of a part are exact duplicates of one in ``training``.

    A model may remember these from its training. The labels of duplicates may differ.
    """
    known = {image.tobytes() for image in training.images}
    return np.array([image.tobytes() in known for image in part.images], bool)


def note_differences(command: str, path: Path, data: Fer2013) -> None:
    """Tell the user in one line that data are not the official FER2013, if they are not."""
    if others := data.differences_from_official():
        more = f" (and {len(others) - 1} more)" if others[1:] else ""
        note(command, f"{path}: not the official FER2013: {others[0]}{more}")


def load_fer2013(path: Path, *, progress: bool = True) -> Fer2013:
    """Read FER2013 from a csv, a folder of images, or a folder or zip that holds one of these.

    Args:
        path: ``fer2013.csv`` or ``icml_face_data.csv`` (columns emotion, Usage, pixels, in any
            order, also with blanks around their names; UTF-8 or UTF-16); the Kaggle folder with
            ``train/<class>/Training_*.png`` and ``test/<class>/{PublicTest,PrivateTest}_*.png``
            (png or jpg, possibly some folders deeper); folders ``train``, ``validation`` and
            perhaps ``test`` of images with other names, whose split is then that of the folders;
            or a folder or zip that holds one of these. Hidden files do not count.
        progress: show a progress bar on standard error.

    Raises:
        UserError: the file is none of these forms, or a row or image in it is broken.
    """
    path = Path(path)
    if path.is_dir():
        names = [p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()]
        return _from_files(path, names, lambda name: (path / name).open("rb"), progress)
    if not path.is_file():
        raise UserError(f"{path}: no such file or folder; give fer2013.csv, the folder or its zip")
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if not name.endswith("/")]
                return _from_files(path, names, archive.open, progress)
        except UserError:
            raise
        except DAMAGED_ARCHIVE as error:
            raise UserError(
                f"{path}: a damaged or encrypted zip ({error}); get it again, or unpack it"
            ) from error
    with path.open("rb") as file:
        return _from_csv(str(path), file, progress)


def _from_files(
    source: Path, names: Iterable[str], read: Callable[[str], IO[bytes]], progress: bool
) -> Fer2013:
    names = sorted(name for name in names if not _is_hidden(PurePosixPath(name)))
    images = [name for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
    tables = [name for name in names if name.lower().endswith(".csv")]
    known = [n for wanted in _CSV_NAMES for n in tables if PurePosixPath(n).name == wanted]
    if known or (len(tables) == 1 and not images):
        table = (known or tables)[0]
        with read(table) as file:
            return _from_csv(f"{source}/{table}", file, progress)
    if images:
        return _from_images(source, images, read, progress)
    held = (
        f"{len(tables)} csv files, such as {tables[0]}; give one of them"
        if tables
        else ("neither fer2013.csv nor images train/<class>/Training_<id>.png")
    )
    raise UserError(f"{source}: holds {held}")


_CSV_NAMES = ("fer2013.csv", "icml_face_data.csv")


def _is_hidden(path: PurePosixPath) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def _from_csv(source: str, file: IO[bytes], progress: bool) -> Fer2013:
    head = file.read(_HEAD)
    file.seek(0)
    if problem := _other_format(head):
        raise UserError(f"{source}: {problem}")
    encoding = "utf-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else None
    text = io.TextIOWrapper(file, encoding or "utf-8-sig", newline="")
    csv.field_size_limit(_LONGEST)
    try:
        # a line of any length is read in pieces, none of which is a row then
        lines = iter(lambda: text.readline(_LONGEST), "")
        return _from_rows(source, csv.reader(lines), progress)
    except UnicodeDecodeError as error:
        raise UserError(f"{source}: no UTF-8 text ({error.reason}); save it as UTF-8") from error
    except csv.Error as error:
        raise UserError(f"{source}: no readable csv ({error}); get it again") from error


_HEAD, _LONGEST = 512, 1 << 20
"""Bytes that tell what a file is; characters of a line."""

MAX_IMAGES = 200_000
"""FER2013 has 35,887; what has more than this is something else."""

_FORMATS = (
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"\xfd7zXZ", "an xz archive"),
    (0, b"7z\xbc\xaf", "a 7z archive"),
    (0, b"Rar!", "a rar archive"),
    (257, b"ustar", "a tar archive"),
)


def _other_format(head: bytes) -> str:
    """Say what a file is that is no csv, by its first bytes; empty if it may be one."""
    for offset, mark, what in _FORMATS:
        if head[offset:].startswith(mark):
            return f"{what} and no csv; unpack it first"
    if head.lstrip(b"\xef\xbb\xbf \r\n\t").lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page and no csv; download the file itself"
    if b"\0" in head and not head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "binary and no csv; give fer2013.csv, the folder or its zip"
    return ""


def _from_rows(source: str, reader: Iterator[list[str]], progress: bool) -> Fer2013:
    header = [column.strip().lower() for column in next(reader, [])]
    missing = {"emotion", "usage", "pixels"} - set(header)
    if missing:
        named = ", ".join(map(shortened, header[:5]))
        lacks = f"lacks the column(s) {', '.join(sorted(missing))}"
        if len(missing) == 3 and len(header) == 3:
            lacks = "is a row of data: put the line emotion,pixels,Usage before it"
        raise UserError(
            f"{source}: the header {named} {lacks}; the original is fer2013.csv or "
            "icml_face_data.csv"
        )
    emotion_at, usage_at, pixels_at = (header.index(c) for c in ("emotion", "usage", "pixels"))
    images: list[NDArray[np.uint8]] = []
    labels, splits, names = [], [], []
    bar = tqdm(reader, desc=Path(source).name, unit=" images", disable=None if progress else True)
    for number, row in enumerate(bar, start=2):
        if not row:
            continue
        where = f"{source}, line {number}"
        if len(row) != len(header):
            raise UserError(f"{where}: {len(row)} columns where the header has {len(header)}")
        label, split = row[emotion_at].strip(), row[usage_at].strip()
        if label not in _DIGITS:
            last = len(EMOTIONS) - 1
            raise UserError(f"{where}: emotion {shortened(label)} is not one of 0..{last}")
        if split not in SPLITS:
            raise UserError(f"{where}: Usage {shortened(split)} is not one of {', '.join(SPLITS)}")
        _check_count(source, len(images))
        images.append(_pixels(row[pixels_at], where))
        labels.append(int(label))
        splits.append(split)
        names.append(f"row {number - 2}")
    if not images:
        raise UserError(f"{source}: holds no image; is the download complete?")
    return Fer2013(
        np.stack(images), np.array(labels, np.int64), np.array(splits), tuple(names), number - 1
    )


_DIGITS = tuple(map(str, range(len(EMOTIONS))))


def shortened(text: str) -> str:
    """Return a cell of a table in quotes, cut to a length that an error message can have."""
    return repr(text if len(text) <= 24 else f"{text[:20]}…")


def _check_count(source: str | Path, count: int) -> None:
    if count >= MAX_IMAGES:
        raise UserError(f"{source}: holds more than {MAX_IMAGES:,} images; FER2013 has 35,887")


def _pixels(text: str, where: str) -> NDArray[np.uint8]:
    try:
        values = np.array(text.split(), dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise UserError(f"{where}: the pixels are not all whole numbers") from error
    if values.size != SIZE * SIZE:
        raise UserError(
            f"{where}: expected {SIZE * SIZE} pixels, got {values.size}; is the download complete?"
        )
    if values.min() < 0 or values.max() > 255:
        raise UserError(f"{where}: pixels of {values.min()}..{values.max()}, not 0..255")
    return values.astype(np.uint8).reshape(SIZE, SIZE)


_FOLDERS = {
    **dict.fromkeys(("train", "training"), "Training"),
    **dict.fromkeys(("validation", "valid", "val", "publictest"), "PublicTest"),
    **dict.fromkeys(("test", "privatetest"), "PrivateTest"),
}
"""Name of the folder above the classes, in small letters → the part that it stands for."""


def _splits_of(source: Path, names: Sequence[str]) -> tuple[list[str], str]:
    """Return the split of each image, and a line that says whence if it is not the official one."""
    paths = [PurePosixPath(name) for name in names]
    prefixes = [path.name.split("_")[0] for path in paths]
    folders = [_FOLDERS.get(path.parent.parent.name.lower(), "") for path in paths]

    # the official split is in the file names
    if any(prefix in SPLITS for prefix in prefixes):
        for name, prefix, folder in zip(names, prefixes, folders, strict=True):
            if prefix not in SPLITS:
                raise UserError(
                    f"{source}: the name {name} does not begin with {', '.join(SPLITS)}; the "
                    "official split is recovered from the file names, so keep them as released"
                )
            if folder and (prefix == "Training") != (folder == "Training"):
                raise UserError(f"{source}: {name} is {prefix} by its name, but not its folder")
        return prefixes, ""

    # else in the folders, if they tell validation from test
    for name, folder in zip(names, folders, strict=True):
        if not folder or not {"Training", "PublicTest"} <= set(folders):
            raise UserError(
                f"{source}: {name} tells no split: its name does not begin with "
                f"{', '.join(SPLITS)}, and the folders are not train and validation"
            )
    pairs = zip(paths, folders, strict=True)
    used = sorted({f"{path.parent.parent.name} is {folder}" for path, folder in pairs})
    return folders, f"the split is that of the folders: {', '.join(used)}"


def _from_images(
    source: Path, names: Sequence[str], read: Callable[[str], IO[bytes]], progress: bool
) -> Fer2013:
    _check_count(source, len(names) - 1)
    splits, stated = _splits_of(source, names)
    known: dict[tuple[str, str, str], str] = {}
    for name, split in zip(names, splits, strict=True):
        path = PurePosixPath(name)
        first = known.setdefault((split, path.parent.name, path.stem), name)
        if first != name:
            raise UserError(f"{source}: {first} and {name} are the same image; keep one of them")
    bar = tqdm(names, desc=source.name, unit=" images", disable=None if progress else True)
    images, labels = zip(*(_image_and_label(source, name, read) for name in bar), strict=True)
    short = tuple(PurePosixPath(name).name for name in names)
    return Fer2013(
        np.stack(images), np.array(labels, np.int64), np.array(splits), short, stated_split=stated
    )


def _image_and_label(
    source: Path, name: str, read: Callable[[str], IO[bytes]]
) -> tuple[NDArray[np.uint8], int]:
    try:
        label = EMOTIONS.index(canonical_emotion(PurePosixPath(name).parent.name))
    except ValueError as error:
        raise UserError(f"{source}: {name}: its folder names no emotion: {error}") from error
    try:
        with read(name) as file:
            content = file.read(_LONGEST)  # an image of 48×48 pixels is far smaller
        colour = read_image(content, name=f"{source}/{name}")
    except ImageError as error:
        raise UserError(f"{error}; replace or remove it") from error
    image = cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)
    if image.shape != (SIZE, SIZE):
        raise UserError(
            f"{source}: {name} is {image.shape[1]}×{image.shape[0]} pixels, not {SIZE}×{SIZE}"
        )
    return image.astype(np.uint8, copy=False), label
