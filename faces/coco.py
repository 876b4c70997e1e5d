"""COCO files: ground truth of faces, checked, and detections that another program made.

This is the one reader for training and evaluation. It decides:

- Where there is a category ``face`` only that one counts, else every category does (seven emotions
  are seven kinds of face).
- Boxes are clipped to the image where the file gives its size. A box without area, or wholly
  outside its image, is passed over and reported as a fault.
- A file without a face to find is refused, and one whose boxes are fractions of the image.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faces.command import UserError
from faces.files import file_sha256, read_json
from faces.types import Box

ImageId = int | str
Corners = tuple[float, float, float, float]
"""(x1, y1, x2, y2) in pixels, perhaps without area."""

MAX_PIXELS = 1e9
"""Coordinates beyond this are refused as damaged."""


@dataclass(frozen=True, slots=True)
class GroundTruthFace:
    """One annotated face."""

    box: Box  # in pixels of the upright image, clipped to it where its size is known
    category: str  # its name, as in the file
    ignored: bool  # need not be found; detections on it do not count (``iscrowd``, or set aside)
    # people may argue about its category (the key ``doubtful`` of some sets)
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """One annotated image."""

    id: ImageId  # as in the file
    file_name: str  # as in the file
    size: tuple[int, int] | None  # (width, height) in pixels, or None where the file does not say
    # shows faces that are not annotated, so no detection is known to be false
    unlabelled_faces: bool
    faces: tuple[GroundTruthFace, ...]  # possibly none

    @property
    def boxes(self) -> NDArray[np.float64]:
        """The faces' boxes, shape (M, 4), (x1, y1, x2, y2)."""
        return np.array([f.box.as_tuple() for f in self.faces], np.float64).reshape(-1, 4)

    @property
    def ignored(self) -> NDArray[np.bool_]:
        """Which faces are ignored, shape (M,)."""
        return np.array([face.ignored for face in self.faces], bool)


@dataclass(frozen=True)
class GroundTruth:
    """A COCO file.

    Attributes:
        path: where it was read from.
        images: its annotated images, in the file's order.
        fingerprint: SHA-256 (hex) of the file.
        faults: what was passed over, one line each.
        limits: what figures on this file cannot show, as its ``info`` says; "" where it does not.
    """

    path: Path
    images: tuple[AnnotatedImage, ...]
    fingerprint: str
    faults: tuple[str, ...] = ()
    limits: str = ""

    @property
    def faces(self) -> int:
        """How many faces are to be found."""
        return sum(not face.ignored for image in self.images for face in image.faces)

    def require_sizes(self) -> None:
        """Raise a ``UserError`` if the file lacks an image's size, which training needs."""
        for image in self.images:
            if image.size is None:
                raise UserError(
                    f"{self.path}: image {image.id!r} ({image.file_name}) has no width and height; "
                    "add them, in pixels"
                )


def load_coco(path: Path) -> GroundTruth:
    """Read and check COCO ground truth; the module's docstring says what counts.

    Raises:
        UserError: the file is none, contradicts itself, or has no face to find.
    """
    file = _File.read(path)
    if not isinstance(file.content, dict) or "images" not in file.content:
        hint = "; is it a result file (--results)?" if isinstance(file.content, list) else ""
        raise file.error(
            f"not COCO ground truth: expected an object with images, annotations, categories{hint}"
        )
    images = _read_images(file)
    annotations = file.objects("annotations")
    faces, faults = _read_faces(file, images, annotations)
    info = file.content.get("info")
    truth = GroundTruth(
        path,
        tuple(replace(image, faces=tuple(faces[image.id])) for image in images.values()),
        file.sha256,
        tuple(faults),
        str(info.get("limits", "")) if isinstance(info, dict) else "",
    )
    if not truth.faces:
        first = f"; {faults[0]}" if faults else ""
        raise file.error(f"has no face to find among its {len(annotations)} annotations{first}")
    return truth


def _read_images(file: _File) -> dict[ImageId, AnnotatedImage]:
    """Return the images, without their faces yet."""
    images: dict[ImageId, AnnotatedImage] = {}
    for item in file.objects("images"):
        identity = file.key(item, "id", "image")
        where = f"image {identity!r}"
        if identity in images:
            raise file.error(f"the image id {identity!r} occurs twice; ids are unique")
        name = item.get("file_name")
        if not isinstance(name, str) or not name:
            raise file.error(f"{where} has no file_name")
        width, height = (file.side(item, key, where) for key in ("width", "height"))
        size = (width, height) if width and height else None
        unlabelled = file.flag(item, "unlabelled_faces", where)
        images[identity] = AnnotatedImage(identity, name, size, unlabelled, ())
    if not images:
        raise file.error("its list of images is empty; there is nothing to measure")
    return images


def _read_faces(
    file: _File, images: Mapping[ImageId, AnnotatedImage], annotations: Sequence[Mapping[str, Any]]
) -> tuple[dict[ImageId, list[GroundTruthFace]], list[str]]:
    """Return each image's faces, and the faults: annotations that were passed over."""
    names = {
        file.key(item, "id", "category"): str(item.get("name", ""))
        for item in file.objects("categories")
    }
    counted = {key for key, name in names.items() if name.strip().lower() == "face"} or set(names)
    faces: dict[ImageId, list[GroundTruthFace]] = {identity: [] for identity in images}
    faults: list[str] = []
    largest, others = 0.0, 0
    for item in annotations:
        # what the annotation refers to must exist
        where = f"annotation {item.get('id', '?')}"
        identity = file.key(item, "image_id", where)
        category = file.key(item, "category_id", where)
        if identity not in images:
            raise file.error(f"{where} is of image {identity!r}, which images lacks")
        if category not in names:
            raise file.error(f"{where} has category {category!r}, not in categories")
        if category not in counted:
            others += 1
            continue

        # its box must have an area inside the image
        corners = file.corners(item, where)
        largest = max(largest, *map(abs, corners))
        size = images[identity].size
        clipped = _clip(corners, size)
        if not _has_area(clipped):
            cause = "lies outside its image" if _has_area(corners) else "has no area"
            pixels = f" of {size[0]}×{size[1]} pixels" if size and _has_area(corners) else ""
            faults.append(f"{where} passed over: its box {item['bbox']} {cause}{pixels}")
            continue
        crowd, doubtful = (file.flag(item, key, where) for key in ("iscrowd", "doubtful"))
        faces[identity].append(GroundTruthFace(Box(*clipped), names[category], crowd, doubtful))
    if others:
        faults.append(f"{others} annotations passed over: their category is not face")
    if 0 < largest <= 1:
        raise file.error(
            "all boxes lie within 0…1, so they are fractions; COCO's boxes are pixels: multiply "
            "them by the image's width and height"
        )
    return faces, faults


def _clip(corners: Corners, size: tuple[int, int] | None) -> Corners:
    if size is None:
        return corners
    x1, y1, x2, y2 = corners
    return max(x1, 0.0), max(y1, 0.0), min(x2, float(size[0])), min(y2, float(size[1]))


def _has_area(corners: Corners) -> bool:
    x1, y1, x2, y2 = corners
    return x1 < x2 and y1 < y2 and (x2 - x1) * (y2 - y1) > 0


@dataclass(frozen=True)
class Detections:
    """The detections in one image."""

    boxes: NDArray[np.float64]  # shape (N, 4), (x1, y1, x2, y2) in pixels
    scores: NDArray[np.float64]  # shape (N,)

    @classmethod
    def of(cls, pairs: Sequence[tuple[Corners, float]]) -> Detections:
        """Build from (box, score) pairs."""
        boxes = np.array([box for box, _ in pairs], np.float64).reshape(-1, 4)
        return cls(boxes, np.array([score for _, score in pairs], np.float64))

    def above(self, threshold: float) -> Detections:
        """Return those with a score of at least ``threshold``."""
        keep = self.scores >= threshold
        return Detections(self.boxes[keep], self.scores[keep])


def load_results(path: Path, images: Collection[AnnotatedImage]) -> dict[ImageId, Detections]:
    """Read detections that another program made: image → detections, images without any included.

    The file is a COCO result file, ``[{"image_id":…, "bbox":[x, y, width, height], "score":…},
    …]``; or an object with ``images`` and scored ``annotations``, whose images are told by
    ``file_name`` (what ``twostage analyze --out NAME.coco.json`` writes). Categories are not told
    apart.

    Raises:
        UserError: the file has another form, or a detection is broken or of no image of ``images``.
    """
    # both forms of the file become rows
    file = _File.read(path)
    translate: dict[ImageId, ImageId] | None = None
    if isinstance(file.content, dict) and {"annotations", "images"} <= file.content.keys():
        translate = _match_names(file, images)
        rows = file.objects("annotations")
    elif isinstance(file.content, list):
        rows = replace(file, content={"results": file.content}).objects("results")
    else:
        raise file.error("not a COCO result file: expected a list of detections")

    # each row is a detection in an annotated image
    found: dict[ImageId, list[tuple[Corners, float]]] = {image.id: [] for image in images}
    for number, row in enumerate(rows):
        where = f"detection {number}"
        identity = file.key(row, "image_id", where)
        if translate is not None:
            if identity not in translate:
                raise file.error(
                    f"{where} is of image {identity!r}, which the file's own images lack"
                )
            identity = translate[identity]
        if identity not in found:
            raise file.error(
                f"{where} is of image {identity!r}, which the ground truth lacks; was it made for "
                "another --coco file?"
            )
        score = _number(row.get("score"))
        if score is None:
            raise file.error(f"{where} has no finite score; a result file needs one")
        corners = file.corners(row, where)
        if _has_area(corners):
            found[identity].append((corners, score))
    return {identity: Detections.of(pairs) for identity, pairs in found.items()}


def _match_names(file: _File, images: Collection[AnnotatedImage]) -> dict[ImageId, ImageId]:
    """Return their image id → our image id, by the end of the file name (folders may differ)."""
    exact = {image.file_name: image.id for image in images}
    base: dict[str, list[ImageId]] = {}
    for image in images:
        base.setdefault(PurePosixPath(image.file_name).name, []).append(image.id)
    matched: dict[ImageId, ImageId] = {}
    for item in file.objects("images"):
        identity, name = file.key(item, "id", "image"), str(item.get("file_name", ""))
        candidates = [exact[name]] if name in exact else base.get(PurePosixPath(name).name, [])
        if len(candidates) != 1:
            cause = "names no image" if not candidates else "may be one of several images"
            raise file.error(f"{name!r} {cause} of the ground truth")
        matched[identity] = candidates[0]
    if len(set(matched.values())) != len(matched):
        raise file.error("two of its images are the same image of the ground truth")
    return matched


@dataclass(frozen=True)
class _File:
    """A JSON file and what its values must be; every error names the file."""

    path: Path
    content: Any
    sha256: str

    @classmethod
    def read(cls, path: Path) -> _File:
        return cls(path, read_json(path), file_sha256(path))

    def error(self, text: str) -> UserError:
        return UserError(f"{self.path}: {text}")

    def objects(self, key: str) -> list[Mapping[str, Any]]:
        value = self.content.get(key)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            cause = "has no" if value is None else "has another form of"
            raise self.error(f"{cause} list of objects {key!r}; expected COCO's format")
        return value

    def key(self, item: Mapping[str, Any], key: str, where: str) -> ImageId:
        value = item.get(key)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise self.error(f"{where}: {key!r} must be a number or text, got {value!r}")
        return value

    def side(self, item: Mapping[str, Any], key: str, where: str) -> int | None:
        """Return a width or height in pixels; None where it is missing, null or 0."""
        value = item.get(key)
        number = _number(0 if value is None else value)
        if number is None or not number.is_integer() or not 0 <= number <= MAX_PIXELS:
            raise self.error(f"{where}: {key} must be a number of pixels, got {value!r}")
        return int(number) or None

    def flag(self, item: Mapping[str, Any], key: str, where: str) -> bool:
        """Return a 0 or 1, also as JSON's booleans or as text; False where missing or null."""
        value = item.get(key)
        if value in (None, 0, "0"):
            return False
        if value in (1, "1"):
            return True
        raise self.error(f"{where}: {key} must be 0 or 1, got {value!r}")

    def corners(self, item: Mapping[str, Any], where: str) -> Corners:
        box = item.get("bbox")
        values = [_number(value) for value in box] if isinstance(box, list) else []
        known = [value for value in values if value is not None and abs(value) <= MAX_PIXELS]
        if len(values) != 4 or len(known) != 4:
            raise self.error(f"{where}: bbox must be [x, y, width, height] in pixels, got {box!r}")
        x, y, width, height = known
        return x, y, x + width, y + height


def _number(value: object) -> float | None:
    """Return a JSON number as a float; None if it is none, or not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
