"""Results → images: numbered boxes with the emotions that each face shows."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from faces.images import ImageError, read_image
from faces.types import DEFAULT_THRESHOLD, Box, Face, ImageResult

COLOURS: dict[str, tuple[int, int, int]] = {
    "angry": (213, 94, 0),
    "disgust": (0, 158, 115),
    "fear": (204, 121, 167),
    "happy": (240, 228, 66),
    "sad": (0, 114, 178),
    "surprise": (230, 159, 0),
    "neutral": (86, 180, 233),
}
"""Okabe and Ito's palette (2008), which people with any colour vision can tell apart.

The names are always written too: colour is never the only sign.
"""

SOFTWARE = "twostage analyze"
"""What annotated images say, as PNG text, of who wrote them."""

UNSURE_COLOUR = (220, 220, 220)
"""Of faces that show no emotion clearly."""

PREVIEW_SIDE = 800
"""Longer side in pixels of what a notebook shows of an image."""

_Area = tuple[int, int, int, int]
_Colour = tuple[int, int, int]
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw_faces(
    image: NDArray[np.uint8],
    result: ImageResult,
    threshold: float | Mapping[str, float] = DEFAULT_THRESHOLD,
    numbers: Sequence[int] | None = None,
) -> NDArray[np.uint8]:
    """Return a copy of an image with its faces boxed, numbered and labelled.

    Each box has the colour of its most likely label between two dark lines, and a filled label with
    every label and its percentage, or ``unsure``. Line and letters grow with the image; letters
    shrink down to a legible size where the image is too narrow. A label stands above, below, beside
    or inside its box, where it covers least of other labels and faces; inside the image, if that
    has the room.

    Args:
        image: the upright image, (H, W, 3) uint8 RGB, any size; so is what is returned.
        result: what was found in it; boxes may lie partly or wholly outside.
        threshold: from which probability on an emotion is a label.
        numbers: of the faces, in the order of ``result.faces``; None for ``result.numbers``, from
            left to right, as in the result files.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    canvas = Image.fromarray(np.ascontiguousarray(image))
    draw = ImageDraw.Draw(canvas)
    scale = _scale(canvas)
    line = max(1, round(2 * scale))
    numbers = result.numbers if numbers is None else numbers
    boxes = [_pixels(face.detection.box, canvas.size) for face in result.faces]
    for box, face in sorted(zip(boxes, result.faces, strict=True), key=lambda p: -_area(p[0])):
        _outline(draw, box, colour_of(face, threshold), line, canvas.size)
    faces = np.array(boxes, np.int64).reshape(-1, 4)
    taken = np.empty((0, 4), np.int64)
    for number, box, face in zip(numbers, boxes, result.faces, strict=True):
        lines = label_lines(number, face, threshold)
        font = _font(draw, lines, round(15 * scale), canvas.width)
        area = _place(_text_size(draw, lines, font), box, line, faces, taken, canvas.size)
        taken = np.vstack([taken, area])
        _label(draw, area, lines, font, colour_of(face, threshold))
    return np.array(canvas)


def label_lines(
    number: int, face: Face, threshold: float | Mapping[str, float] = DEFAULT_THRESHOLD
) -> list[str]:
    """Return the text beside a box: its number, then each label with its percentage, or unsure.

    An unsure face names what it may show, its most likely emotion at least, with question marks.
    """
    percent = {name: f"{100 * p:.0f}%" for name, p in face.emotions.as_dict().items()}
    labels = face.emotions.labels(threshold)
    if face.emotions.unsure(threshold):
        perhaps = labels or [face.emotions.top]
        return [f"{number} unsure", *(f"{name}? {percent[name]}" for name in perhaps)]
    first, *others = (f"{name} {percent[name]}" for name in labels)
    return [f"{number} {first}", *others]


def text_colour(background: _Colour) -> str:
    """Return ``black`` or ``white``, whichever reads better on a background."""
    return "black" if _luminance(background) > 0.179 else "white"


def colour_of(face: Face, threshold: float | Mapping[str, float]) -> _Colour:
    """Return the colour of a face's box: that of its most likely label, or of unsure faces."""
    if face.emotions.unsure(threshold):
        return UNSURE_COLOUR
    return COLOURS[face.emotions.labels(threshold)[0]]


def _scale(canvas: Image.Image) -> float:
    """Return how much larger than on a small image lines and letters are."""
    return max(1.0, math.sqrt(canvas.width * canvas.height) / 700)


def _pixels(box: Box, size: tuple[int, int]) -> _Area:
    """Return the first and last column and row that a box covers in the image, at least one."""
    spans = []
    for low, high, length in ((box.x1, box.x2, size[0]), (box.y1, box.y2, size[1])):
        first = round(min(max(low, 0), length - 1))
        spans.append((first, max(first, round(min(max(high, 0), length)) - 1)))
    (left, right), (top, bottom) = spans
    return left, top, right, bottom


def _area(area: _Area) -> int:
    return (area[2] - area[0]) * (area[3] - area[1])


def _outline(
    draw: ImageDraw.ImageDraw, box: _Area, colour: _Colour, line: int, size: tuple[int, int]
) -> None:
    """Draw a coloured frame between two dark ones, around the box as far as the image goes."""
    gap = _gap(line)
    left, top = max(0, box[0] - gap), max(0, box[1] - gap)
    right, bottom = min(size[0] - 1, box[2] + gap), min(size[1] - 1, box[3] + gap)
    for layer in range(gap):
        if left > right or top > bottom:
            break
        dark = layer < _edge(line) or layer >= gap - _edge(line)
        draw.rectangle((left, top, right, bottom), outline=(0, 0, 0) if dark else colour)
        left, top, right, bottom = left + 1, top + 1, right - 1, bottom - 1


def _edge(line: int) -> int:
    return max(1, line // 2)


def _gap(line: int) -> int:
    """Return the width of the whole frame in pixels."""
    return line + 2 * _edge(line)


def _font(draw: ImageDraw.ImageDraw, lines: Sequence[str], size: int, width: int) -> _Font:
    """Return Pillow's own font, as large as wished or as fits the image's width."""
    while True:
        font = _font_of(size)
        if size <= 8 or _text_size(draw, lines, font)[0] <= width:
            return font
        size = max(8, size * 4 // 5)


@lru_cache(maxsize=32)
def _font_of(size: int) -> _Font:
    return ImageFont.load_default(size)


def _padding(font: _Font) -> int:
    return max(1, round(getattr(font, "size", 10) / 5))


def _line_height(font: _Font) -> int:
    return round(getattr(font, "size", 10) * 1.25)


def _text_size(draw: ImageDraw.ImageDraw, lines: Sequence[str], font: _Font) -> tuple[int, int]:
    width = max(draw.textlength(text, font=font) for text in lines)
    padding = _padding(font)
    return int(width + 1) + 2 * padding, _line_height(font) * len(lines) + 2 * padding


def _place(
    size: tuple[int, int],
    box: _Area,
    line: int,
    faces: NDArray[np.int64],
    taken: NDArray[np.int64],
    canvas: tuple[int, int],
) -> _Area:
    """Return where a label covers the fewest pixels: of other labels first, then of faces."""
    width, height = size
    left, top, right, bottom = box
    gap = _gap(line)
    columns = (left - gap, right + gap - width + 1, (left + right - width) // 2)
    candidates = [
        *((x, top - gap - height) for x in columns),
        *((x, bottom + gap + 1) for x in columns),
        *((right + gap + 1, y) for y in (top, bottom - height)),
        *((left - gap - width, y) for y in (top, bottom - height)),
        *((x, y) for y in (bottom - height, top) for x in (left, right - width)),
    ]
    corners = np.array(candidates).clip(0, np.maximum(np.array(canvas) - size, 0))
    areas = np.hstack([corners, corners + size - 1])
    covered = 100.0 * _overlaps(areas, taken) + 4.0 * _overlaps(areas, faces)
    order = np.arange(len(areas)) * 1e-3
    left, top, right, bottom = areas[np.argmin(covered / (width * height) + order)].tolist()
    return left, top, right, bottom


def _overlaps(areas: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many pixels each area shares with all others; shapes (A, 4), (N, 4) → (A,)."""
    low = np.maximum(areas[:, None, :2], others[None, :, :2])
    high = np.minimum(areas[:, None, 2:], others[None, :, 2:])
    shared: NDArray[np.int64] = (high - low + 1).clip(0).prod(axis=2).sum(axis=1)
    return shared


def _label(
    draw: ImageDraw.ImageDraw, area: _Area, lines: Sequence[str], font: _Font, colour: _Colour
) -> None:
    """Fill the label with its colour and write on it."""
    draw.rectangle(area, fill=colour, outline="black")
    text = text_colour(colour)
    padding = _padding(font)
    for index, line in enumerate(lines):
        y = area[1] + padding + round((index + 0.5) * _line_height(font))
        draw.text((area[0] + padding, y), line, fill=text, font=font, anchor="lm")


def _luminance(colour: _Colour) -> float:
    """Relative luminance after WCAG 2: black and white contrast equally with 0.179."""
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (value / 255 for value in colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def shrink(image: NDArray[np.uint8], side: int = PREVIEW_SIDE) -> NDArray[np.uint8]:
    """Return a copy of an image, scaled down if its longer side exceeds ``side`` pixels."""
    step = max(1, max(image.shape[:2]) // side)  # leaving out rows and columns is quick
    small = Image.fromarray(np.ascontiguousarray(image[::step, ::step]))
    small.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=1.0)
    return np.array(small)


def preview_png(result: ImageResult) -> bytes | None:
    """Return the annotated image of a result as a small PNG, for notebooks.

    The image is ``result.preview``; where there is none, ``result.source`` is read again, and None
    returned if that cannot be read or has another size by now.
    """
    small = result.preview
    if small is None:
        try:
            image = read_image(result.source)
        except ImageError:
            return None
        if image.shape[:2] != (result.height, result.width):
            return None
        small = shrink(image)
    x, y = small.shape[1] / result.width, small.shape[0] / result.height
    faces = []
    for face in result.faces:
        x1, y1, x2, y2 = face.box.as_tuple()
        box = Box(x1 * x, y1 * y, x2 * x, y2 * y)
        faces.append(replace(face, detection=replace(face.detection, box=box)))
    file = io.BytesIO()
    write_annotated(draw_faces(small, replace(result, faces=tuple(faces))), file)
    return file.getvalue()


def write_annotated(image: NDArray[np.uint8], file: Path | IO[bytes], origin: str = "") -> None:
    """Write an annotated image (H, W, 3) uint8 as PNG that says who wrote it.

    ``origin`` tells, for ``annotated_origin``, of which image this is.
    """
    made_by = PngInfo()
    made_by.add_text("Software", SOFTWARE)
    if origin:
        made_by.add_text("Origin", origin)
    Image.fromarray(image).save(file, format="png", compress_level=3, pnginfo=made_by)


def annotated_origin(path: Path) -> str | None:
    """Return the ``origin`` of an image of ``write_annotated``; None if a file is none of these."""
    if not path.is_file():
        return None
    try:
        with Image.open(path) as image:
            made_here = image.info.get("Software") == SOFTWARE
            return str(image.info.get("Origin", "")) if made_here else None
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
