"""Photos and faces as the page shows them: JPEG and HTML, from pure functions.

The HTML needs ``style.css``.
"""

from __future__ import annotations

import base64
import html
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from demo.session import PREVIEW_SIDES, Analysis, preview_factor
from demo.session import jpeg as jpeg_of
from faces.draw import COLOURS, draw_faces, draw_suppressed
from faces.emotions import EMOTIONS
from faces.types import DEFAULT_THRESHOLD, Box, Detection, Face, ImageResult

Threshold = float | Mapping[str, float]
"""One probability for all emotions or one per emotion, as ``labels`` takes it."""

PREVIEW_HEIGHT = 560
"""Maximum height of a photo in CSS pixels: a photo and its faces fit a screen."""

PHOTOS_AT_ONCE = 5
"""Maximum number of photos below each other; more come in pages."""

FACES_AT_ONCE = 12
"""Maximum number of a photo's cards; more come in pages."""

LETTERS = 1.4
"""Factor by which the labels of a few faces are enlarged, as a page is narrower than a photo."""

FEW_FACES = 6
"""The labels of more faces are drawn at their usual size: enlarged, they would cover the photo."""

NO_FACE = (
    "No face found. Try a photo in which faces are larger (from about a twenty-fifth of its longer "
    "side on), upright, uncovered and well lit; or another detector; or lower the detection score "
    "under *Advanced*."
)


def preview_width(result: ImageResult) -> int:
    """Return the width in CSS pixels at which the page shows a photo, if it has the room."""
    factor = preview_factor(result.width, result.height)
    return max(1, round(result.width * min(factor, PREVIEW_HEIGHT / result.height)))


def cards_beside(result: ImageResult) -> bool:
    """Tell whether the photo is so narrow, and the cards so few, that both fit side by side."""
    return preview_width(result) <= PREVIEW_SIDES[0] and len(result.faces) <= 2


def annotated_preview(
    preview: bytes,
    analysis: Analysis,
    threshold: Threshold,
    suppressed: bool = False,
    notes: Mapping[int, str] | None = None,
) -> bytes:
    """Return a preview with its faces boxed and labelled, as JPEG.

    Args:
        preview: the photo as ``Session.preview`` gives it.
        analysis: what was found in the photo.
        threshold: from which probability on an emotion is a label.
        suppressed: also show the boxes that do not count as faces.
        notes: number of a face → one more line of its label.
    """
    with Image.open(io.BytesIO(preview)) as opened:
        image = np.array(opened)
    size = LETTERS if len(analysis.result.faces) <= FEW_FACES else 1.0
    if suppressed:
        image = draw_suppressed(image, suppressed_boxes(analysis, image.shape), size)
    result = scale_result(analysis.result, image.shape)
    return jpeg_of(draw_faces(image, result, threshold, notes, size))


def suppressed_boxes(analysis: Analysis, shape: Sequence[int]) -> list[tuple[Box, str]]:
    """Return (box, reason) of what does not count as a face.

    Of the boxes merged into one face, only the best has a reason. Among many faces reasons are
    short: ``= 2`` for the same face as 2, the score alone if that is low. Boxes are in pixels of an
    image of this shape, (height, width, …).
    """
    few = len(analysis.result.faces) <= FEW_FACES
    detections = [*(box.detection for box in analysis.merged), *analysis.weak]
    numbers = Counter(box.into for box in analysis.merged)
    reasons = []
    for box in analysis.merged:
        many = numbers.pop(box.into, 0)
        boxes = f" ({many} boxes)" if many > 1 else ""
        long, short = f"same face as {box.into + 1}{boxes}", f"= {box.into + 1}"
        reasons.append((long if few else short) if many else "")
    reasons += [f"{weak.score:.2f}{' low score' if few else ''}" for weak in analysis.weak]
    scaled = _scaled(detections, analysis.result, shape)
    return [(found.box, reason) for found, reason in zip(scaled, reasons, strict=True)]


def scale_result(result: ImageResult, shape: Sequence[int]) -> ImageResult:
    """Return the result in pixels of the same image at another shape, (height, width, …)."""
    detections = _scaled([face.detection for face in result.faces], result, shape)
    faces = (
        Face(detection, face.emotions)
        for detection, face in zip(detections, result.faces, strict=True)
    )
    return replace(result, width=shape[1], height=shape[0], faces=tuple(faces))


def _scaled(
    detections: Iterable[Detection], result: ImageResult, shape: Sequence[int]
) -> list[Detection]:
    across, down = shape[1] / result.width, shape[0] / result.height
    boxes = ((d.box.as_tuple(), d.score) for d in detections)
    return [
        Detection(Box(x1 * across, y1 * down, x2 * across, y2 * down), score)
        for (x1, y1, x2, y2), score in boxes
    ]


def cards_html(
    result: ImageResult, crops: Sequence[bytes], threshold: Threshold, shown: slice
) -> str:
    """Return a list with a card per face: crop, labels, seven bars with the threshold on them.

    Result and crops (JPEG) are of all faces, of which some are ``shown``.
    """
    numbered = list(enumerate(zip(result.faces, crops, strict=True), start=1))[shown]
    cards = (
        f'<li class="card">{head_html(number, face, crop, threshold)}'
        f'<dl class="bars">{_bars(face, threshold)}</dl></li>'
        for number, (face, crop) in numbered
    )
    return f'<ul class="faces">{"".join(cards)}</ul>'


def head_html(number: int, face: Face, crop: bytes, threshold: Threshold) -> str:
    """Return the head of a face's card: its crop, number, score and labels."""
    return (
        f'<div class="head">{image_html(crop, f"face {number}")}'
        f'<div><p class="number">Face {number}</p>'
        f'<div class="score">detection score {face.detection.score:.2f}</div>'
        f"{labels_html(face, threshold)}</div></div>"
    )


def labels_html(face: Face, threshold: Threshold) -> str:
    """Return the emotions that a face shows, or ``unsure``, as a row of pills."""
    labels = face.emotions.labels(threshold)
    unsure = face.emotions.unsure(threshold)
    pills = ['<span class="label unsure">unsure</span>'] if unsure else []
    for label in labels:
        mark = "?" if unsure else ""
        pills.append(
            f'<span class="label"><i style="background:{css(label)}"></i>'
            f"{html.escape(label)}{mark}</span>"
        )
    return f'<div class="labels">{"".join(pills)}</div>'


def image_html(jpeg: bytes, alt: str) -> str:
    """Return an image element that carries a JPEG."""
    return f'<img alt="{html.escape(alt)}" src="{data_uri(jpeg)}">'


def data_uri(jpeg: bytes) -> str:
    """Return an address that carries a JPEG itself: nobody else can ask the server for it."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"


def title_html(name: str) -> str:
    """Return a photo's name as a heading."""
    return f'<h3 class="title">{html.escape(name)}</h3>'


def describe(name: str, result: ImageResult, threshold: Threshold) -> str:
    """Return an annotated photo in words, for those who cannot see it."""
    shown = [
        f"face {number} {shows(face, threshold)}"
        for number, face in enumerate(result.faces, start=1)
    ]
    return ", ".join([f"{name} with {count(len(shown), 'face')}", *shown])


def shows(face: Face, threshold: Threshold) -> str:
    """Return ``happy and surprise``, ``unsure (happy?)`` or ``unsure``."""
    text = " and ".join(face.emotions.labels(threshold))
    if face.emotions.unsure(threshold):
        return f"unsure ({text}?)" if text else "unsure"
    return text


def limits(threshold: Threshold) -> dict[str, float]:
    """Return the threshold of each emotion."""
    if isinstance(threshold, Mapping):
        return {name: threshold.get(name, DEFAULT_THRESHOLD) for name in EMOTIONS}
    return dict.fromkeys(EMOTIONS, threshold)


def count(number: int, noun: str, many: str | None = None) -> str:
    """Return ``1 face``, ``2 faces``."""
    return f"{number} {noun}" if number == 1 else f"{number} {many or noun + 's'}"


def plain(text: str) -> str:
    """Return Markdown that shows a text as it stands, but for shortcodes such as ``:smile:``."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(text.split()))


def code(name: str) -> str:
    """Return Markdown that shows a name exactly as it stands, in the letters of code."""
    name = " ".join(name.split()) or " "
    runs = {len(run) for run in re.findall("`+", name)}
    fence = "`" * next(length for length in itertools.count(1) if length not in runs)
    space = " " if name.startswith("`") or name.endswith("`") else ""
    return f"{fence}{space}{name}{space}{fence}"


def sent_name(name: str) -> str:
    """Return a file's own name from the one that a browser sends.

    Browsers write ``%22``, ``%0D`` and ``%0A`` for a quotation mark and line ends, and leave a
    percent sign as it is (HTML standard, multipart/form-data): a name that holds one of the three
    itself cannot be told apart.
    """
    for sent, meant in (("%22", '"'), ("%0D", "\r"), ("%0A", "\n")):
        name = name.replace(sent, meant)
    return name


def camera_allowed(url: str) -> bool:
    """Tell whether browsers let a page of this address use the camera (a secure context)."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    local = host == "localhost" or host.endswith(".localhost") or host in ("127.0.0.1", "::1")
    return parts.scheme != "http" or local


def percent(fraction: float) -> str:
    """Return ``61%``."""
    return f"{100 * fraction:.0f}%"


def css(emotion: str) -> str:
    """Return an emotion's colour."""
    red, green, blue = COLOURS[emotion]
    return f"rgb({red} {green} {blue})"


def _bars(face: Face, threshold: Threshold) -> str:
    labels = face.emotions.labels(threshold)
    rows = []
    for emotion, probability in face.emotions.as_dict().items():
        shown = " shown" if emotion in labels else ""
        colour = f";background:{css(emotion)}" if shown else ""
        rows.append(
            f'<dt class="name{shown}">{html.escape(emotion)}</dt>'
            f'<dd class="track{shown}" aria-hidden="true"><b></b>'
            f'<i style="width:{100 * probability:.1f}%{colour}"></i>'
            f'<s style="left:{100 * limits(threshold)[emotion]:.1f}%"></s></dd>'
            f'<dd class="share{shown}">{percent(probability)}</dd>'
        )
    return "".join(rows)
