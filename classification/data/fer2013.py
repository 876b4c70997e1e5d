"""FER2013 in every form that people hold it, with its official split.

FER2013 (Goodfellow et al., "Challenges in Representation Learning", 2013) has 35,887 grey faces of
48×48 pixels in three parts: Training, PublicTest (validation) and PrivateTest (test).
"""

from __future__ import annotations

import csv
import hashlib
import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from faces.command import UserError
from faces.emotions import EMOTIONS, canonical_emotion
from faces.images import ImageError, read_image

SIZE = 48
"""Height and width of a FER2013 picture in pixels."""

SPLITS: tuple[str, ...] = ("Training", "PublicTest", "PrivateTest")
"""The official parts, as the column ``Usage`` and the Kaggle folder's files name them."""

OFFICIAL_COUNTS: dict[str, tuple[int, ...]] = {
    "Training": (3995, 436, 4097, 7215, 4830, 3171, 4965),
    "PublicTest": (467, 56, 496, 895, 653, 415, 607),
    "PrivateTest": (491, 55, 528, 879, 594, 416, 626),
}
"""Pictures per emotion (order of ``EMOTIONS``) in each part of the official release."""

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")


class Fer2013Error(UserError):
    """The data cannot be read as FER2013; the message names the file, the cause and the way out."""


@dataclass(frozen=True)
class Fer2013:
    """FER2013, or a part of it, in memory.

    Attributes:
        images: shape (N, 48, 48), uint8, grey.
        labels: shape (N,), int64, indices into ``EMOTIONS``.
        splits: shape (N,), str, each one of ``SPLITS``.
        names: N names: ``Training_123.png``, or ``row 17`` for a csv.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    splits: NDArray[np.str_]
    names: tuple[str, ...]

    def split(self, name: str) -> Fer2013:
        """Return one official part.

        Raises:
            Fer2013Error: the part is unknown, or this data holds no picture of it.
        """
        if name not in SPLITS:
            raise Fer2013Error(f"unknown split {name!r}; expected one of {', '.join(SPLITS)}")
        keep = np.flatnonzero(self.splits == name)
        if not keep.size:
            raise Fer2013Error(f"the data holds no picture of the split {name}")
        return self.take(keep)

    def take(self, keep: NDArray[np.int64]) -> Fer2013:
        """Return the pictures of these indices, in their order."""
        return Fer2013(
            self.images[keep],
            self.labels[keep],
            self.splits[keep],
            tuple(self.names[i] for i in keep),
        )

    def disgust_as_angry(self) -> Fer2013:
        """Return the same pictures with disgust's, the rarest, labelled as angry."""
        disgust, angry = EMOTIONS.index("disgust"), EMOTIONS.index("angry")
        return replace(self, labels=np.where(self.labels == disgust, angry, self.labels))

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of all (split, label, pixels), whatever their order and file form."""
        digests = sorted(map(_digest, self.splits, self.labels, self.images))
        return hashlib.sha256(b"".join(digests)).hexdigest()

    def order(self) -> NDArray[np.int64]:
        """Return indices that sort the pictures by (split, label, pixels), whatever their form."""
        digests = list(map(_digest, self.splits, self.labels, self.images))
        return np.array(sorted(range(len(digests)), key=digests.__getitem__), np.int64)

    def differences_from_official(self) -> list[str]:
        """Say which classes of which parts have more or fewer pictures than the official release.

        Returns:
            One line per difference; empty when every count is the official one.
        """
        lines = []
        for split, official in OFFICIAL_COUNTS.items():
            counts = np.bincount(self.labels[self.splits == split], minlength=len(EMOTIONS))
            for emotion, have, want in zip(EMOTIONS, counts, official, strict=True):
                if have != want:
                    word = "missing" if have < want else "extra"
                    lines.append(f"{split}/{emotion}: {have} of {want}, {abs(want - have)} {word}")
        return lines


def _digest(split: str, label: int, image: NDArray[np.uint8]) -> bytes:
    return hashlib.sha256(f"{split} {label} ".encode() + image.tobytes()).digest()


def pixel_twins(part: Fer2013, training: Fer2013) -> NDArray[np.bool_]:
    """Tell, shape (N,), which pictures of a part are pixel for pixel in ``training`` too.

    Who remembers the training pictures knows these already. The labels of twins may differ.
    """
    known = {image.tobytes() for image in training.images}
    return np.array([image.tobytes() in known for image in part.images], bool)


def load_fer2013(path: Path, *, progress: bool = True) -> Fer2013:
    """Read FER2013 from a csv, a Kaggle folder, or a zip of either.

    Args:
        path: ``fer2013.csv`` or ``icml_face_data.csv`` (columns emotion, Usage, pixels, in any
            order, also with blanks around their names); the Kaggle folder with
            ``train/<class>/Training_*.png`` and ``test/<class>/{PublicTest,PrivateTest}_*.png``
            (png or jpg, possibly some folders deeper); or a zip of one of these.
        progress: show a progress bar on standard error.

    Raises:
        Fer2013Error: the file is none of these forms, or a row or picture in it is broken.
    """
    path = Path(path)
    if path.is_dir():
        return _from_files(path, *_walk_folder(path), progress=progress)
    if not path.is_file():
        raise Fer2013Error(
            f"{path}: no such file or folder; give fer2013.csv, the folder or its zip"
        )
    if zipfile.is_zipfile(path):
        try:
            return _from_zip(path, progress=progress)
        except (
            *(zipfile.BadZipFile, zlib.error, EOFError),
            *(RuntimeError, NotImplementedError),  # encrypted, or packed in a way of its own
        ) as error:
            raise Fer2013Error(
                f"{path}: a damaged or encrypted zip ({error}); fetch it anew, or unpack it"
            ) from error
    if path.suffix.lower() == ".csv":
        with path.open(newline="", encoding="utf-8-sig") as lines:
            return _from_csv(str(path), lines, progress=progress)
    raise Fer2013Error(f"{path}: neither a csv nor a zip nor a folder; unpack other archives first")


def _from_zip(path: Path, *, progress: bool) -> Fer2013:
    with zipfile.ZipFile(path) as archive:
        names = [n for n in archive.namelist() if not n.startswith("__MACOSX/")]
        tables = [n for n in names if n.endswith((".csv", ".CSV"))]
        known = [n for n in tables if PurePosixPath(n).name in _CSV_NAMES]
        if known or (tables and not any(n.lower().endswith(PICTURE_SUFFIXES) for n in names)):
            name = (known or tables)[0]
            lines = io.TextIOWrapper(io.BytesIO(archive.read(name)), "utf-8-sig", newline="")
            return _from_csv(f"{path}:{name}", lines, progress=progress)
        return _from_files(path, names, archive.read, progress=progress)


_CSV_NAMES = ("fer2013.csv", "icml_face_data.csv")


def _from_csv(source: str, lines: Iterator[str], *, progress: bool) -> Fer2013:
    csv.field_size_limit(1 << 20)
    try:
        return _from_rows(source, csv.reader(lines), progress=progress)
    except (csv.Error, UnicodeDecodeError) as error:
        raise Fer2013Error(f"{source}: not a readable csv: {error}") from error


def _from_rows(source: str, reader: Iterator[list[str]], *, progress: bool) -> Fer2013:
    header = [column.strip().lower() for column in next(reader, [])]
    missing = {"emotion", "usage", "pixels"} - set(header)
    if missing:
        raise Fer2013Error(
            f"{source}: the header {header[:5]} lacks the column(s) {', '.join(sorted(missing))}; "
            "use the original fer2013.csv or icml_face_data.csv"
        )
    emotion_at, usage_at, pixels_at = (header.index(c) for c in ("emotion", "usage", "pixels"))
    images, labels, splits, names = [], [], [], []
    for number, row in enumerate(
        tqdm(reader, desc=Path(source).name, unit=" pictures", disable=None if progress else True),
        start=2,
    ):
        if not row:
            continue
        where = f"{source}, line {number}"
        if len(row) != len(header):
            raise Fer2013Error(f"{where}: {len(row)} columns where the header has {len(header)}")
        label, split = row[emotion_at].strip(), row[usage_at].strip()
        if label not in {str(i) for i in range(len(EMOTIONS))}:
            raise Fer2013Error(f"{where}: emotion {label!r} is not one of 0..{len(EMOTIONS) - 1}")
        if split not in SPLITS:
            raise Fer2013Error(f"{where}: Usage {split!r} is not one of {', '.join(SPLITS)}")
        images.append(_pixels(row[pixels_at], where))
        labels.append(int(label))
        splits.append(split)
        names.append(f"row {number - 2}")
    if not images:
        raise Fer2013Error(f"{source}: holds no picture; is the download complete?")
    return Fer2013(np.stack(images), np.array(labels, np.int64), np.array(splits), tuple(names))


def _pixels(text: str, where: str) -> NDArray[np.uint8]:
    try:
        values = np.array(text.split(), dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise Fer2013Error(f"{where}: the pixels are not all whole numbers") from error
    if values.size != SIZE * SIZE:
        raise Fer2013Error(
            f"{where}: expected {SIZE * SIZE} pixels, got {values.size}; is the download complete?"
        )
    if values.min() < 0 or values.max() > 255:
        raise Fer2013Error(f"{where}: pixels of {values.min()}..{values.max()}, not 0..255")
    return values.astype(np.uint8).reshape(SIZE, SIZE)


def _walk_folder(folder: Path) -> tuple[list[str], Callable[[str], bytes]]:
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return names, lambda name: (folder / name).read_bytes()


def _from_files(
    source: Path, names: list[str], read: Callable[[str], bytes], *, progress: bool
) -> Fer2013:
    pictures = sorted(n for n in names if n.lower().endswith(PICTURE_SUFFIXES))
    found: dict[tuple[str, str], str] = {}
    for name in pictures:
        path = PurePosixPath(name)
        split = path.name.split("_")[0]
        if split not in SPLITS:
            raise Fer2013Error(
                f"{source}: the name {name} does not begin with {', '.join(SPLITS)}; the official "
                "split is recovered from the file names, so keep them as released"
            )
        twin = found.setdefault((path.parent.name, path.stem), name)
        if twin != name:
            raise Fer2013Error(
                f"{source}: {twin} and {name} are the same picture; keep one of them"
            )
    if not pictures:
        raise Fer2013Error(
            f"{source}: holds neither fer2013.csv nor pictures train/<class>/Training_<id>.png"
        )
    images, labels, splits = [], [], []
    for name in tqdm(
        pictures, desc=source.name, unit=" pictures", disable=None if progress else True
    ):
        path = PurePosixPath(name)
        try:
            label = EMOTIONS.index(canonical_emotion(path.parent.name))
        except ValueError as error:
            raise Fer2013Error(f"{source}: {name}: its folder names no emotion: {error}") from error
        try:
            colour = read_image(read(name), name=f"{source}/{name}")
        except ImageError as error:
            raise Fer2013Error(f"{error}; replace or remove it") from error
        image = cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)
        if image.shape != (SIZE, SIZE):
            raise Fer2013Error(
                f"{source}: {name} is {image.shape[1]}×{image.shape[0]} pixels, not {SIZE}×{SIZE}"
            )
        images.append(image.astype(np.uint8, copy=False))
        labels.append(label)
        splits.append(path.name.split("_")[0])
    names_found = tuple(PurePosixPath(n).name for n in pictures)
    return Fer2013(np.stack(images), np.array(labels, np.int64), np.array(splits), names_found)
