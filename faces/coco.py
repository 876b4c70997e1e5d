"""COCO json → checked ground truth of faces, and COCO result files of other packages."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faces.command import UserError
from faces.types import Box

ImageId = int | str

MAX_PIXELS = 1e9
"""Coordinates beyond this are refused as damaged."""


@dataclass(frozen=True, slots=True)
class GroundTruthFace:
    """One annotated face.

    Attributes:
        box: in pixels of the upright picture.
        category: name of its category, as in the file.
        ignored: need not be found; detections on it do not count (``iscrowd``, or set aside).
        doubtful: people may argue about its category (the key ``doubtful`` of some sets).
    """

    box: Box
    category: str
    ignored: bool
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """One annotated picture.

    Attributes:
        id: as in the file.
        file_name: as in the file.
        size: (width, height) in pixels, or None where the file does not say.
        unlabelled_faces: the picture shows faces that are not annotated: none of its detections is
            known to be false.
        faces: possibly none.
    """

    id: ImageId
    file_name: str
    size: tuple[int, int] | None
    unlabelled_faces: bool
    faces: tuple[GroundTruthFace, ...]

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
        scenes: its pictures, in the file's order.
        fingerprint: SHA-256 (hex) of the file.
        faults: what was passed over, one line each.
        limits: what the file's ``info`` says that figures on it cannot show, or nothing.
    """

    path: Path
    scenes: tuple[AnnotatedImage, ...]
    fingerprint: str
    faults: tuple[str, ...] = field(default=())
    limits: str = ""

    @property
    def faces(self) -> int:
        """How many faces are to be found."""
        return sum(not face.ignored for scene in self.scenes for face in scene.faces)


def load_coco(path: Path) -> GroundTruth:
    """Read and check COCO ground truth; boxes without area are passed over and reported as faults.

    Raises:
        UserError: the file is no COCO ground truth, or contradicts itself.
    """
    text, document = _read_json(path)
    if not isinstance(document, dict) or "images" not in document:
        hint = "; is it a result file (--results)?" if isinstance(document, list) else ""
        raise UserError(
            f"{path}: not COCO ground truth: expected an object with images, annotations, "
            f"categories{hint}"
        )
    images = _objects(path, document, "images")
    annotations = _objects(path, document, "annotations")
    names = {
        _key(path, c, "id", "category"): str(c.get("name", ""))
        for c in _objects(path, document, "categories")
    }
    faces: dict[ImageId, list[GroundTruthFace]] = {}
    for image in images:
        identity = _key(path, image, "id", "image")
        if identity in faces:
            raise UserError(f"{path}: the image id {identity!r} occurs twice; ids are unique")
        faces[identity] = []
    faults = []
    for annotation in annotations:
        where = f"annotation {annotation.get('id', '?')}"
        identity = _key(path, annotation, "image_id", where)
        category = _key(path, annotation, "category_id", where)
        if identity not in faces:
            raise UserError(f"{path}: {where} is of image {identity!r}, which images lacks")
        if category not in names:
            raise UserError(f"{path}: {where} has category {category!r}, not in categories")
        corners = _bbox(path, annotation, where)
        if not _has_area(corners):
            faults.append(f"{where} passed over: its box {annotation['bbox']} has no area")
            continue
        crowd = bool(annotation.get("iscrowd", 0))
        doubtful = bool(annotation.get("doubtful", False))
        faces[identity].append(GroundTruthFace(Box(*corners), names[category], crowd, doubtful))
    scenes = tuple(_scene(path, image, faces) for image in images)
    if not scenes:
        raise UserError(f"{path}: its list of images is empty; there is nothing to measure")
    info = document.get("info")
    limits = str(info.get("limits", "")) if isinstance(info, dict) else ""
    return GroundTruth(path, scenes, hashlib.sha256(text).hexdigest(), tuple(faults), limits)


def _scene(
    path: Path, image: Mapping[str, Any], faces: Mapping[ImageId, list[GroundTruthFace]]
) -> AnnotatedImage:
    identity: ImageId = image["id"]
    name, width, height = image.get("file_name"), image.get("width"), image.get("height")
    if not isinstance(name, str) or not name:
        raise UserError(f"{path}: image {identity!r} has no file_name")
    sized = isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0
    return AnnotatedImage(
        identity,
        name,
        (int(width or 0), int(height or 0)) if sized else None,
        bool(image.get("unlabelled_faces", False)),
        tuple(faces[identity]),
    )


@dataclass(frozen=True)
class Detections:
    """The detections in one picture.

    Attributes:
        boxes: shape (N, 4), (x1, y1, x2, y2) in pixels.
        scores: shape (N,).
    """

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]

    @classmethod
    def of(cls, rows: Sequence[tuple[tuple[float, float, float, float], float]]) -> Detections:
        """Build from (box, score) pairs."""
        boxes = np.array([box for box, _ in rows], np.float64).reshape(-1, 4)
        return cls(boxes, np.array([score for _, score in rows], np.float64))

    def above(self, threshold: float) -> Detections:
        """Return those with a score of at least ``threshold``."""
        keep = self.scores >= threshold
        return Detections(self.boxes[keep], self.scores[keep])


def load_results(path: Path, scenes: Collection[AnnotatedImage]) -> dict[ImageId, Detections]:
    """Read detections made elsewhere.

    Args:
        path: a COCO result file, ``[{"image_id":…, "bbox":[x, y, width, height], "score":…}, …]``;
            or an object with ``images`` and scored ``annotations``, whose pictures are told by
            ``file_name`` (what ``twostage analyze --out NAME.coco.json`` writes). Categories are
            not told apart.
        scenes: the annotated pictures.

    Returns:
        Picture → detections, those without any included.

    Raises:
        UserError: the file has another form, or a detection is broken or of no known picture.
    """
    _, document = _read_json(path)
    by_name: dict[ImageId, ImageId] | None = None
    if isinstance(document, dict) and "annotations" in document and "images" in document:
        by_name = _match_names(path, _objects(path, document, "images"), scenes)
        rows = _objects(path, document, "annotations")
    elif isinstance(document, list):
        rows = _objects(path, {"results": document}, "results")
    else:
        raise UserError(f"{path}: not a COCO result file: expected a list of detections")
    found: dict[ImageId, list[tuple[tuple[float, float, float, float], float]]] = {
        scene.id: [] for scene in scenes
    }
    for number, row in enumerate(rows):
        where = f"detection {number}"
        identity = _key(path, row, "image_id", where)
        if by_name is not None:
            if identity not in by_name:
                raise UserError(
                    f"{path}: {where} is of image {identity!r}, which the file's own images lack"
                )
            identity = by_name[identity]
        if identity not in found:
            raise UserError(
                f"{path}: {where} is of image {identity!r}, which the ground truth lacks; "
                "was it made for another --coco file?"
            )
        score = _number(row.get("score"))
        if score is None:
            raise UserError(f"{path}: {where} has no finite score; a result file needs one")
        corners = _bbox(path, row, where)
        if _has_area(corners):
            found[identity].append((corners, score))
    return {identity: Detections.of(pairs) for identity, pairs in found.items()}


def _match_names(
    path: Path, images: Sequence[Mapping[str, Any]], scenes: Collection[AnnotatedImage]
) -> dict[ImageId, ImageId]:
    """Return their image id → our image id, by the end of the file name (folders may differ)."""
    exact = {scene.file_name: scene.id for scene in scenes}
    base: dict[str, list[ImageId]] = {}
    for scene in scenes:
        base.setdefault(PurePosixPath(scene.file_name).name, []).append(scene.id)
    matched: dict[ImageId, ImageId] = {}
    for image in images:
        identity, name = _key(path, image, "id", "image"), str(image.get("file_name", ""))
        candidates = [exact[name]] if name in exact else base.get(PurePosixPath(name).name, [])
        if len(candidates) != 1:
            cause = "names no picture" if not candidates else "may be one of several pictures"
            raise UserError(f"{path}: {name!r} {cause} of the ground truth")
        matched[identity] = candidates[0]
    if len(set(matched.values())) != len(matched):
        raise UserError(f"{path}: two of its images are the same picture of the ground truth")
    return matched


def _read_json(path: Path) -> tuple[bytes, Any]:
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give the json file")
    if not path.exists():
        raise UserError(f"{path}: no such file")
    data = path.read_bytes()
    try:
        return data, json.loads(data.decode("utf-8-sig"))
    except ValueError as error:  # JSON, UTF-8, or an endless number
        raise UserError(f"{path}: not valid JSON ({error}); is the file complete?") from error
    except RecursionError as error:
        raise UserError(f"{path}: not COCO: its JSON is nested too deeply") from error


def _objects(path: Path, document: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    value = document.get(key)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        cause = "has no" if value is None else "has another form of"
        raise UserError(f"{path}: {cause} list of objects {key!r}; expected COCO's format")
    return value


def _key(path: Path, item: Mapping[str, Any], key: str, where: str) -> ImageId:
    value = item.get(key)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise UserError(f"{path}: {where}: {key!r} must be a number or text, got {value!r}")
    return value


def _bbox(path: Path, item: Mapping[str, Any], where: str) -> tuple[float, float, float, float]:
    """Return (x1, y1, x2, y2)."""
    box = item.get("bbox")
    values = [_number(value) for value in box] if isinstance(box, list) else []
    known = [value for value in values if value is not None and abs(value) <= MAX_PIXELS]
    if len(values) != 4 or len(known) != 4:
        raise UserError(
            f"{path}: {where}: bbox must be [x, y, width, height] in pixels, got {box!r}"
        )
    x, y, width, height = known
    return x, y, x + width, y + height


def _has_area(corners: tuple[float, float, float, float]) -> bool:
    x1, y1, x2, y2 = corners
    return x1 < x2 and y1 < y2 and (x2 - x1) * (y2 - y1) > 0


def _number(value: object) -> float | None:
    """Return a JSON number as a float; None if it is none, or not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
