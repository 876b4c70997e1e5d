"""Reading Dataturks' "Face Detection in Images": its json, with every fault it circulates with.

The file is JSON lines, one image a line, or one JSON array (blank lines or a byte order mark before
it are harmless). Boxes are two opposite corners in fractions of the image, so they fit the file
whatever size it was stored in; ``imageWidth`` and ``imageHeight`` are not used.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from faces.command import UserError
from faces.files import read_text

LABEL = "face"

PIXELS_FROM = 10.0
"""Coordinates beyond this are pixels: faces that stick out of an image do not reach so far."""


@dataclass(frozen=True, slots=True)
class DataturksImage:
    """One image of the set, annotated."""

    line: int  # of the file (JSON lines) or position in the array, counted from 1
    url: str  # where the image once lay
    name: str  # of the file, the part of ``url`` after the last slash
    # (x1, y1, x2, y2) of each face, fractions of the image in [0, 1], x1 < x2 and y1 < y2
    boxes: tuple[tuple[float, float, float, float], ...]

    def pixel_boxes(self, width: int, height: int) -> list[tuple[float, float, float, float]]:
        """Return the boxes in pixels of an image that is ``width`` × ``height``."""
        return [(x1 * width, y1 * height, x2 * width, y2 * height) for x1, y1, x2, y2 in self.boxes]


@dataclass(slots=True)
class Report:
    """Counts of what a file holds, and of what was corrected or dropped."""

    images: int = 0  # kept
    faces: int = 0  # kept
    without_faces: int = 0  # images with no box (``annotation`` null or empty among them)
    swapped: int = 0  # boxes whose corners came in another order; put in order
    clipped: int = 0  # boxes that reach beyond the image; cut at its edge
    pixels: int = 0  # boxes in pixels instead of fractions; dropped
    zero_area: int = 0  # boxes without area, after clipping; dropped
    malformed: int = 0  # annotations without two finite corners; dropped
    other_labels: Counter[str] = field(default_factory=Counter)  # dropped
    duplicates: int = 0  # images that appear again; the later ones are dropped

    def lines(self) -> list[str]:
        """Return the counts and the faults, as sentences."""
        counts = f"{self.images} images, {self.faces} faces, "
        return [f"{counts}{self.without_faces} images without faces", *self.faults()]

    def faults(self) -> list[str]:
        """Return what was corrected or dropped, one sentence each."""
        faults = {
            "boxes with swapped corners, put in order": self.swapped,
            "boxes that reach beyond the image, clipped": self.clipped,
            "boxes in pixels instead of fractions, dropped": self.pixels,
            "boxes without area, dropped": self.zero_area,
            "annotations without two corners, dropped": self.malformed,
            "repeated images, dropped": self.duplicates,
        }
        return [f"{count} {what}" for what, count in faults.items() if count] + [
            f"{n} annotations labelled {name!r}, dropped" for name, n in self.other_labels.items()
        ]


def read_dataturks(path: str | Path) -> tuple[list[DataturksImage], Report]:
    """Read a Dataturks export; a ``UserError`` names the line that is none."""
    return parse_dataturks(read_text(Path(path)), str(path))


def parse_dataturks(text: str, source: str = "json") -> tuple[list[DataturksImage], Report]:
    """Parse the text of a Dataturks export, which messages call ``source``."""
    report = Report()
    images: dict[str, DataturksImage] = {}
    for line, item in _items(text.lstrip("\ufeff"), source):
        image = _image(item, line, source, report)
        if image.name in images:
            report.duplicates += 1
            continue
        images[image.name] = image
        report.images += 1
        report.faces += len(image.boxes)
        report.without_faces += not image.boxes
    if not images:
        raise UserError(f"{source}: no images in it; expected JSON lines or one JSON array")
    if report.pixels > report.faces:
        raise UserError(
            f"{source}: {report.pixels} boxes have coordinates above {PIXELS_FROM:g}: they are in "
            "pixels, but Dataturks' are fractions of the image; divide them by its width and height"
        )
    return list(images.values()), report


def _items(text: str, source: str) -> Iterator[tuple[int, Any]]:
    """Yield (line or position from 1, object)."""
    if text.lstrip().startswith("["):
        try:
            items = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{source}, {_where(error)}: broken JSON array: {_why(error)}"
            ) from error
        yield from enumerate(items, start=1)
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{source}, line {number}: not a JSON object: {_why(error)}. "
                "Expected one image per line, or one JSON array"
            ) from error


def _where(error: Exception) -> str:
    return f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "line 1"


def _why(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)


def _image(item: Any, line: int, source: str, report: Report) -> DataturksImage:
    where = f"{source}, line {line}"
    if not isinstance(item, dict):
        raise UserError(f"{where}: expected a JSON object per image, got {type(item).__name__}")
    url = item.get("content")
    if not isinstance(url, str) or not file_name(url):
        raise UserError(f'{where}: no "content" with the address of the image')
    annotations = item.get("annotation")
    if annotations is not None and not isinstance(annotations, list):
        raise UserError(f'{where}: "annotation" must be a list or null')
    boxes = [_box(annotation, report) for annotation in annotations or []]
    return DataturksImage(line, url, file_name(url), tuple(box for box in boxes if box is not None))


def file_name(url: str) -> str:
    """Return what follows an address's last slash, without query, percent-decoded."""
    path = urlsplit(url).path if "://" in url else url
    return unquote(path).replace("\\", "/").rsplit("/", 1)[-1]


def _box(annotation: Any, report: Report) -> tuple[float, float, float, float] | None:
    """Return a face's (x1, y1, x2, y2) in [0, 1], or None; count the faults."""
    if not isinstance(annotation, dict):
        report.malformed += 1
        return None
    labels = annotation.get("label")
    names = [str(name) for name in labels] if isinstance(labels, list) else [str(labels)]
    if LABEL not in (name.strip().lower() for name in names):
        report.other_labels[" ".join(names) or "(none)"] += 1
        return None
    points = annotation.get("points")
    corners = [_corner(point) for point in points] if isinstance(points, list) else []
    if len(corners) < 2 or None in corners:
        report.malformed += 1
        return None
    xs, ys = zip(*(corner for corner in corners if corner is not None), strict=True)
    x1, x2, y1, y2 = min(xs), max(xs), min(ys), max(ys)
    if max(x2, y2) > PIXELS_FROM:
        report.pixels += 1
        return None
    report.swapped += len(corners) == 2 and (xs[0] > xs[1] or ys[0] > ys[1])
    inside = (_clip(x1), _clip(y1), _clip(x2), _clip(y2))
    report.clipped += inside != (x1, y1, x2, y2)
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        report.zero_area += 1
        return None
    return inside


def _corner(point: Any) -> tuple[float, float] | None:
    """Return (x, y) of ``{"x": …, "y": …}`` or ``[x, y]``; None unless two finite numbers."""
    if isinstance(point, dict):
        point = [point.get("x"), point.get("y")]
    if not isinstance(point, list) or len(point) != 2:
        return None
    for value in point:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
    try:
        x, y = float(point[0]), float(point[1])
    except OverflowError:
        return None
    return (x, y) if math.isfinite(x) and math.isfinite(y) else None


def _clip(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def find_images(
    images: Sequence[DataturksImage], folder: str | Path
) -> tuple[list[tuple[DataturksImage, Path]], list[DataturksImage]]:
    """Find the files of images in a folder, by name: those that are there, and what is missing.

    A ``UserError`` says that the folder does not exist, or holds none of the images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; --images names the one with the images")
    files = {file.name: file for file in folder.iterdir() if file.is_file()}
    found = [(image, files[image.name]) for image in images if image.name in files]
    if not found:
        raise UserError(
            f"{folder}: holds none of the {len(images)} images of the json "
            f"(for instance {images[0].name})"
        )
    return found, [image for image in images if image.name not in files]
