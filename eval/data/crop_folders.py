"""Face crops sorted into one folder per emotion: ``<class>/*.png``, loose or zipped."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from tqdm import tqdm

from eval.data.images import ImageStore
from faces.command import UserError
from faces.crops import pad_to_square
from faces.emotions import EMOTIONS, canonical_emotion
from faces.images import ImageError, read_image
from faces.paths import IMAGE_SUFFIXES
from faces.pipeline import Image

BATCH = 64
"""Faces per call of a classifier."""

BATCH_PIXELS = 1 << 22
"""A batch of large crops ends early at this many pixels, so that memory stays flat."""

Batch = tuple[list[Image], list[int]]
"""Square crops, each (S, S, 3) uint8 RGB, and as many indices into ``EMOTIONS``."""


@dataclass(frozen=True)
class CropFolder:
    """What a folder of labelled face crops holds."""

    images: tuple[tuple[str, int], ...]  # (name in the store, index into ``EMOTIONS``), by name
    skipped: tuple[str, ...]  # files that are no images by their name, or lie in no class folder
    ignored: dict[str, int]  # class folders left out as asked, with their number of images


def scan_crops(store: ImageStore, ignore: Collection[str] = ()) -> CropFolder:
    """Sort the images of a store by class.

    Class names are matched whatever their case and by their usual aliases; folders of one emotion
    are merged. A single folder around all of a zip's content is passed through. Folders in
    ``ignore``, also named by an alias of the emotion, are left out.

    Raises:
        UserError: a folder names no emotion and is not to be ignored; a class folder holds
            folders; or there is no image at all.
    """
    wrapper = _wrapper(store, ignore)
    images: list[tuple[str, int]] = []
    skipped: list[str] = []
    ignored: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    for name in store.names:
        folders = PurePosixPath(name).parts[len(wrapper) : -1]
        is_image = PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES
        left_out = next((part for part in folders if _is_ignored(part, ignore)), None)
        if left_out is not None:
            ignored[left_out] += is_image
        elif not folders:
            skipped.append(name)
        elif _emotion(folders[0]) is None:
            unknown[folders[0]] += is_image
        elif len(folders) > 1 and is_image:
            raise UserError(
                f"{store.label(name)}: a folder inside a class folder; images must lie directly "
                f"in <class>/ (or leave it out: --ignore-class {folders[1]})"
            )
        elif is_image:
            images.append((name, EMOTIONS.index(_emotion(folders[0]) or "")))
        else:
            skipped.append(name)
    if unknown:
        names = sorted(unknown)
        shown = ", ".join(f"{name!r} (images: {unknown[name]})" for name in names[:8])
        more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
        raise UserError(
            f"{store.path}: no emotion is called {shown}{more}; the classes are "
            f"{', '.join(EMOTIONS)} (or an alias); point --data at the folder that holds the class "
            f"folders, or leave some out with --ignore-class {' '.join(names[:8])}"
        )
    if not images:
        raise UserError(
            f"{store.path}: holds no image in a class folder; expected <class>/*.png with the "
            f"classes {', '.join(EMOTIONS)}"
        )
    return CropFolder(tuple(images), tuple(skipped), dict(ignored))


def _wrapper(store: ImageStore, ignore: Collection[str]) -> tuple[str, ...]:
    tops = {PurePosixPath(name).parts[0] for name in store.names}
    if not store.is_zip or len(tops) != 1 or store.names[0] in tops:
        return ()
    top = tops.pop()
    return () if _emotion(top) or _is_ignored(top, ignore) else (top,)


def _emotion(name: str) -> str | None:
    try:
        return canonical_emotion(name)
    except ValueError:
        return None


def _is_ignored(folder: str, ignore: Collection[str]) -> bool:
    emotion = _emotion(folder)
    return any(
        folder.strip().lower() == name.strip().lower()
        or (emotion is not None and emotion == _emotion(name))
        for name in ignore
    )


class CropReader:
    """The labelled crops of a folder or zip, read in batches, past those that cannot be read.

    Attributes:
        failed: the images that could not be read so far, one line each.
    """

    def __init__(self, store: ImageStore, folder: CropFolder) -> None:
        self.failed: list[str] = []
        self._store, self._folder = store, folder
        self._digests: list[bytes] = []

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of all (class, file content) read so far, whatever their names."""
        return hashlib.sha256(b"".join(sorted(self._digests))).hexdigest()

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches, with a progress bar."""
        crops: list[Image] = []
        labels: list[int] = []
        pixels = 0
        for name, label in tqdm(self._folder.images, unit=" faces", disable=None):
            try:
                data = self._store.read(name)
                crop = pad_to_square(read_image(data, name=self._store.label(name)))
            except ImageError as error:
                self.failed.append(str(error))
                continue
            self._digests.append(hashlib.sha256(f"{label} ".encode() + data).digest())
            if crops and (len(crops) == BATCH or pixels + crop.shape[0] ** 2 > BATCH_PIXELS):
                yield crops, labels
                crops, labels, pixels = [], [], 0
            crops.append(crop)
            labels.append(label)
            pixels += crop.shape[0] ** 2
        if crops:
            yield crops, labels
