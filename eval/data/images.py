"""Images for an evaluation: the files of a folder or zip, and the images of a COCO file."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from faces import command
from faces.coco import AnnotatedImage, GroundTruth, GroundTruthFace, ImageId
from faces.command import UserError
from faces.files import DAMAGED_ARCHIVE, regular_file
from faces.images import ImageError, read_image
from faces.pipeline import Image
from faces.types import Box

MAX_BYTES = 256 << 20
"""A larger file in a zip is not read."""


@dataclass(frozen=True)
class ImageStore:
    """Files under a folder, or in a zip.

    ``names`` are their relative paths, sorted; hidden ones and ``__MACOSX`` are left out.
    """

    path: Path
    is_zip: bool
    names: tuple[str, ...]
    _open: Callable[[str], bytes]

    def read(self, name: str) -> bytes:
        """Return the bytes of one file.

        Raises:
            ImageError: it is gone, may not be read, or is damaged or encrypted.
        """
        try:
            return self._open(name)
        except DAMAGED_ARCHIVE as error:
            cause = f"damaged or encrypted in the zip: {error}"
            if isinstance(error, OSError) and not self.is_zip:
                cause = error.strerror or str(error)
        raise ImageError(self.label(name), cause)

    def label(self, name: str) -> str:
        """Return how messages name one file."""
        return f"{self.path}/{name}"


def open_images(path: Path) -> ImageStore:
    """Open a folder (symbolic links are followed) or a zip; UserError if it is neither."""
    if path.is_dir():
        return ImageStore(path, False, _walk(path), lambda name: _read(path / name))
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    try:
        archive = zipfile.ZipFile(regular_file(path))
    except DAMAGED_ARCHIVE as error:
        raise UserError(
            f"{path}: neither a folder nor a readable zip ({error}); unpack other archives first"
        ) from error
    names = (info.filename for info in archive.infolist() if not info.is_dir())
    return ImageStore(
        path, True, tuple(sorted(filter(_is_visible, names))), partial(_entry, archive)
    )


def _entry(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise OSError(f"has more than {MAX_BYTES >> 20} MiB")
    return data


def _read(path: Path) -> bytes:
    if path.exists() and not path.is_file():  # opening a pipe would wait for its other end
        raise OSError("is no regular file")
    return path.read_bytes()


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
    return tuple(sorted(filter(_is_visible, names)))


def _is_visible(name: str) -> bool:
    return not any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


class AnnotatedImages:
    """The images of a COCO file: found at once, read one at a time, past those of no use.

    An image is of no use if it cannot be read or has another size than its annotations say. Boxes
    are clipped at their image; a face wholly outside is dropped.

    Args:
        truth: the annotations.
        path: a folder, which ``file_name`` is relative to; or a zip, where a ``file_name`` may lie
            in any one folder.
        strict: whether an image of no use ends the evaluation.

    Attributes:
        truth: the annotations.
        path: the folder or zip.
        names: image → its name in the folder or zip.
        failed: the images of no use so far, one line each.
        dropped: the faces dropped so far, one line each.
        faces: how many faces there are to find in the images so far.

    Raises:
        UserError: ``path`` is neither, or images are missing (the first ones are named); with
            ``strict``, while reading, an image is of no use.
    """

    def __init__(self, truth: GroundTruth, path: Path, *, strict: bool = False) -> None:
        self.truth, self.path, self.strict = truth, path, strict
        self.failed: list[str] = []
        self.dropped: list[str] = []
        self.faces = 0
        self._store = open_images(path)
        self.names = self._find()

    def _find(self) -> dict[ImageId, str]:
        """Return the name of every image in the store."""
        known = set(self._store.names)
        by_file: dict[str, list[str]] = {}
        for name in self._store.names:
            by_file.setdefault(PurePosixPath(name).name, []).append(name)
        names, missing = {}, []
        for image in self.truth.images:
            wanted = PurePosixPath(image.file_name).as_posix()
            if wanted in known:
                candidates = [wanted]
            elif not self._store.is_zip:  # also hidden files, if the COCO file names them
                candidates = [wanted] if (self.path / wanted).is_file() else []
            else:
                same_file = by_file.get(PurePosixPath(wanted).name, [])
                candidates = [name for name in same_file if name.endswith(f"/{wanted}")]
            if len(candidates) > 1:
                raise UserError(
                    f"{self.path}: {image.file_name} is there more than once ({candidates[0]}, "
                    f"{candidates[1]}); unpack it and give the folder of this --coco file"
                )
            if candidates:
                names[image.id] = candidates[0]
            else:
                missing.append(image.file_name)
        if missing:
            shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
            raise UserError(
                f"{self.path}: lacks {len(missing)} of the {len(self.truth.images)} images of "
                f"{self.truth.path}: {shown}; give the folder that its file_name entries are "
                "relative to as --images"
            )
        return names

    def __iter__(self) -> Iterator[tuple[AnnotatedImage, Image]]:
        """Yield (annotated image, its pixels (H, W, 3) uint8 RGB), with a progress bar."""
        progress = tqdm(self.truth.images, desc=self.truth.path.name, unit=" images", disable=None)
        for image in progress:
            name = self.names[image.id]
            label = self._store.label(name)
            try:
                pixels = read_image(self._store.read(name), name=label)
                height, width = pixels.shape[:2]
                if image.size is not None and image.size != (width, height):
                    raise ImageError(
                        label,
                        f"is {width}×{height} pixels, but {self.truth.path} was made for "
                        f"{image.size[0]}×{image.size[1]}; its boxes would not fit",
                    )
            except ImageError as error:
                if self.strict:
                    raise
                self.failed.append(str(error))
                continue
            inside = tuple(self._clip(image.faces, label, width, height))
            self.faces += sum(not face.ignored for face in inside)
            yield replace(image, faces=inside), pixels

    def _clip(
        self, faces: Iterable[GroundTruthFace], label: str, width: int, height: int
    ) -> Iterator[GroundTruthFace]:
        """Clip boxes at the image, as ``load_coco`` does where the file gives the image's size."""
        for face in faces:
            x1, y1, x2, y2 = face.box.as_tuple()
            corners = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
            if corners[0] < corners[2] and corners[1] < corners[3]:
                yield replace(face, box=Box(*corners))
            else:
                self.dropped.append(
                    f"{label}: the box {face.box.as_tuple()} lies outside its {width}×{height} "
                    "pixels"
                )

    def close(self, name: str) -> int:
        """Tell on standard error what was left out; return the exit status, 1 if an image was.

        Raises:
            UserError: no image could be used, or no face is left to find.
        """
        note_dropped(name, "faces", self.dropped)
        for line in self.failed:
            command.note(name, line)
        if self.failed:
            count = f"{len(self.failed)} of {len(self.truth.images)}"
            command.note(name, f"images left out: {count}")
        if len(self.failed) == len(self.truth.images):
            raise UserError(f"{self.path}: none of its images could be used")
        if not self.faces:
            raise UserError(f"{self.path}: no image that could be used has a face to find")
        return 1 if self.failed else 0


def note_dropped(name: str, what: str, lines: Sequence[str]) -> None:
    """Tell on standard error how many things were dropped, and name one."""
    if lines:
        command.note(name, f"{what} dropped: {len(lines)}, the first: {lines[0]}")
