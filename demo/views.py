"""What the page shows and hands out, as pure functions: photo in; pictures, HTML, rows, files out.

Nothing here knows Streamlit, and no photo is ever written to disk.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import re
import tempfile
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from faces.crops import crop_face
from faces.draw import COLOURS, draw_faces
from faces.images import read_image
from faces.pipeline import Detector, EmotionClassifier, analyze_image
from faces.sinks import open_sink, result_to_dict
from faces.types import Box, Detection, Face, ImageResult

PREVIEW_SIDES = (640, 1280)
"""The longer side of what the page shows, in pixels: at least, at most."""

CARD_SIDE = 192
"""Side of a face's picture on its card, in pixels, at most."""

PREVIEW_HEIGHT = 600
"""Height of a picture on the page, in CSS pixels, at most: a picture and its faces fit a screen."""

PHOTOS_AT_ONCE = 5
"""How many photos the page shows below each other, before there are further pages of them."""

DOWNLOADS = {"CSV": ".csv", "JSON": ".json", "COCO": ".coco.json"}
"""Kind of result file → its extension, which ``faces.sinks.open_sink`` knows."""

NO_FACE = (
    "No face found. Try a photo in which faces are larger (from about 20 pixels on), upright, "
    "uncovered and well lit; or another detector."
)


@dataclass(frozen=True)
class Photo:
    """A photo as it was uploaded.

    Attributes:
        name: its file's name.
        data: its file's bytes.
        digest: what tells its content from others'.
    """

    name: str
    data: bytes
    digest: str

    @classmethod
    def of(cls, name: str, data: bytes, digest: str | None = None) -> Photo:
        """Make a photo; its digest is taken here unless it is known from before."""
        return cls(name, data, digest or hashlib.blake2b(data, digest_size=16).hexdigest())


@dataclass(frozen=True)
class Analysis:
    """What the page keeps of a photo: some 0.3 MB, however large the photo is.

    Attributes:
        result: in pixels of the whole photo.
        preview: the photo as JPEG, scaled to ``PREVIEW_SIDES``.
        crops: what stage 2 saw of each face, as JPEG, scaled to ``CARD_SIDE`` if larger.
    """

    result: ImageResult
    preview: bytes
    crops: tuple[bytes, ...]


Key = tuple[str, str, str]
"""A photo's digest, the detector's name, the classifier's name."""


def analyze_photo(photo: Photo, detector: Detector, classifier: EmotionClassifier) -> Analysis:
    """Run both stages on a photo.

    Raises:
        ImageError: the photo cannot be read.
    """
    image = read_image(photo.data, photo.name)
    result = analyze_image(photo.name, image, detector, classifier)
    crops = []
    for face in result.faces:
        crop = crop_face(image, face.detection.box)
        crops.append(_jpeg(_resized(crop, min(1.0, CARD_SIDE / len(crop)))))
    preview = _jpeg(_resized(image, _preview_factor(result.width, result.height)))
    return Analysis(result, preview, tuple(crops))


def stale_keys(keys: Iterable[Key], photos: Iterable[Photo]) -> list[Key]:
    """Return the keys that belong to none of these photos."""
    present = {photo.digest for photo in photos}
    return [key for key in keys if key[0] not in present]


def preview_width(result: ImageResult) -> int:
    """Return the width in CSS pixels at which the page shows a picture, if it has the room."""
    factor = _preview_factor(result.width, result.height)
    return max(1, round(result.width * min(factor, PREVIEW_HEIGHT / result.height)))


def cards_beside(result: ImageResult) -> bool:
    """Tell whether the picture is so narrow, and the cards so few, that both fit side by side."""
    return preview_width(result) <= PREVIEW_SIDES[0] and len(result.faces) <= 2


def annotated_preview(analysis: Analysis, threshold: float) -> bytes:
    """Return the preview with its faces boxed and labelled, as JPEG."""
    with Image.open(io.BytesIO(analysis.preview)) as picture:
        image = np.array(picture)
    return _jpeg(draw_faces(image, scale_result(analysis.result, image.shape), threshold))


def annotated_png(photo: Photo, result: ImageResult, threshold: float) -> bytes:
    """Return the picture that ``twostage analyze --annotated`` writes, at the photo's full size."""
    image = draw_faces(read_image(photo.data, photo.name), result, threshold)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=3)
    return file.getvalue()


def scale_result(result: ImageResult, shape: Sequence[int]) -> ImageResult:
    """Return the result in pixels of the same picture at another size, (height, width, …)."""
    height, width = shape[:2]
    across, down = width / result.width, height / result.height
    faces = []
    for face in result.faces:
        x1, y1, x2, y2 = face.detection.box.as_tuple()
        box = Box(x1 * across, y1 * down, x2 * across, y2 * down)
        faces.append(Face(Detection(box, face.detection.score), face.emotions))
    return replace(result, width=width, height=height, faces=tuple(faces))


def result_file(results: Iterable[ImageResult], threshold: float, extension: str) -> bytes:
    """Return the file that ``twostage analyze --out`` writes, with an extension of ``DOWNLOADS``.

    It takes the way over a temporary folder, which holds results only and is removed at once.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"faces{extension}")
        with open_sink(path, threshold) as sink:
            for result in results:
                sink.write(result)
        return path.read_bytes()


def table_rows(results: Iterable[ImageResult], threshold: float) -> list[dict[str, Any]]:
    """Return a row per face of all photos: photo, face, shows, the seven in percent, score."""
    rows = []
    for result in results:
        for number, face in enumerate(result_to_dict(result, threshold)["faces"], start=1):
            shows = ", ".join(face["labels"]) or "unsure"
            percents = {name: 100 * p for name, p in face["emotions"].items()}
            rows.append(
                {"photo": result.source, "face": number, "shows": shows}
                | percents
                | {"detection score": face["score"]}
            )
    return rows


def cards_html(analysis: Analysis, threshold: float) -> str:
    """Return a list with a card per face: picture, labels, seven bars with the threshold on them.

    It needs ``style.css``.
    """
    pairs = zip(analysis.result.faces, analysis.crops, strict=True)
    cards = [
        _card(number, face, crop, threshold) for number, (face, crop) in enumerate(pairs, start=1)
    ]
    return f'<ul class="faces">{"".join(cards)}</ul>'


def describe(name: str, result: ImageResult, threshold: float) -> str:
    """Return the picture in words, for those who cannot see it."""
    shown = [
        f"face {number} {' and '.join(face.emotions.labels(threshold)) or 'unsure'}"
        for number, face in enumerate(result.faces, start=1)
    ]
    return ", ".join([f"{name} with {count(len(shown), 'face')}", *shown])


def count(number: int, noun: str) -> str:
    """Return ``1 face``, ``2 faces``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def plain(text: str) -> str:
    """Return Markdown that shows a text as it stands, a file's name for instance."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(text.split()))


def sorted_suffixes(suffixes: Collection[str]) -> list[str]:
    """Return suffixes for a file dialog, the usual ones first, without their dots."""
    usual = ["jpg", "jpeg", "png", "webp"]
    bare = sorted(suffix.lstrip(".") for suffix in suffixes)
    return [s for s in usual if s in bare] + [s for s in bare if s not in usual]


def _card(number: int, face: Face, crop: bytes, threshold: float) -> str:
    labels = face.emotions.labels(threshold)
    pills = "".join(
        f'<span class="label"><i style="background:{_css(label)}"></i>{html.escape(label)}</span>'
        for label in labels
    )
    unsure = '<span class="label unsure">unsure</span>'
    picture = base64.b64encode(crop).decode("ascii")
    return (
        f'<li><div class="head"><img alt="face {number}" src="data:image/jpeg;base64,{picture}">'
        f'<div><p class="number">Face {number}</p>'
        f'<div class="score">detection score {face.detection.score:.2f}</div>'
        f'<div class="labels">{pills or unsure}</div></div></div>'
        f'<dl class="bars">{"".join(_bars(face, labels, threshold))}</dl></li>'
    )


def _bars(face: Face, labels: Collection[str], threshold: float) -> Iterable[str]:
    for emotion, probability in face.emotions.as_dict().items():
        shown = " shown" if emotion in labels else ""
        colour = f";background:{_css(emotion)}" if shown else ""
        yield (
            f'<dt class="name{shown}">{html.escape(emotion)}</dt>'
            f'<dd class="track{shown}" aria-hidden="true"><b></b>'
            f'<i style="width:{100 * probability:.1f}%{colour}"></i>'
            f'<s style="left:{100 * threshold:.1f}%"></s></dd>'
            f'<dd class="share{shown}">{_percent(probability)}</dd>'
        )


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def _css(emotion: str) -> str:
    red, green, blue = COLOURS[emotion]
    return f"rgb({red} {green} {blue})"


def _preview_factor(width: int, height: int) -> float:
    low, high = PREVIEW_SIDES
    longer = max(width, height)
    return min(max(longer, low), high) / longer


def _resized(image: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    if factor == 1.0:
        return image
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    picture = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
    return np.array(picture)


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=92, subsampling=0)
    return file.getvalue()
