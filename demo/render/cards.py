"""Photos and faces as the page shows them: JPEG and HTML, from pure functions.

The HTML needs ``faces.css``.
"""

from __future__ import annotations

import base64
import html
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urlsplit

from demo.corrections import NOT_A_FACE
from demo.session import preview_factor
from faces.draw import COLOURS
from faces.emotions import EMOTIONS
from faces.types import DEFAULT_THRESHOLD, Face, ImageResult

Threshold = float | Mapping[str, float]
"""One probability for all emotions or one per emotion, as ``labels`` takes it."""

PREVIEW_HEIGHT = 560
"""Maximum height of a photo in CSS pixels: a photo and its faces fit a screen."""

PHOTOS_AT_ONCE = 3
"""Maximum number of photos below each other; more are shown as thumbnails."""

THUMBNAILS_AT_ONCE = 24
"""Maximum number of thumbnails; more come in pages."""

BARS_AT_ONCE = 2
"""Bars of a card that are shown at once: those of the most likely emotions."""

FACES_AT_ONCE = 12
"""Maximum number of a photo's cards; more come in pages."""

NO_FACE = (
    "No face found. Try a photo in which faces are larger, upright, uncovered and well lit; or "
    "*More accurate* under *Settings*, or there a lower detection score."
)


def preview_width(result: ImageResult) -> int:
    """Return the width in CSS pixels at which the page shows a photo, if it has the room."""
    factor = preview_factor(result.width, result.height)
    return max(1, round(result.width * min(factor, PREVIEW_HEIGHT / result.height)))


def cards_beside(result: ImageResult) -> bool:
    """Tell whether the cards are so few that they fit beside the photo."""
    return len(result.faces) <= 4


def cards_html(
    result: ImageResult,
    crops: Sequence[bytes],
    threshold: Threshold,
    shown: slice = slice(None),
    corrected: Mapping[int, str] | None = None,
) -> str:
    """Return a list with a card per face: crop, labels, bars with the threshold on them.

    A card shows its two highest bars; the others come on demand.

    Args:
        result: of the whole photo.
        crops: of each face, as JPEG.
        threshold: from which probability on an emotion is a label.
        shown: of which faces.
        corrected: number of a face → what a visitor says that it shows; None where cards cannot be
            corrected.
    """
    numbered = list(enumerate(zip(result.faces, crops, strict=True), start=1))[shown]
    cards = []
    for number, (face, crop) in numbered:
        by_height = sorted(EMOTIONS, key=lambda name: -face.emotions[name])
        first, others = by_height[:BARS_AT_ONCE], by_height[BARS_AT_ONCE:]
        choice = "" if corrected is None else choice_html(number, corrected.get(number, ""))
        cards.append(
            f'<li class="card" data-face="{number}">'
            f'<div class="head">{image_html(crop, f"face {number}")}<div>'
            f'<p class="number">Face {number}</p>{labels_html(face, threshold)}</div></div>'
            f'<dl class="bars">{_bars(face, threshold, first)}</dl>'
            f"<details><summary>all seven</summary>"
            f'<dl class="bars">{_bars(face, threshold, others)}</dl></details>{choice}</li>'
        )
    return f'<ul class="faces">{"".join(cards)}</ul>'


def choice_html(number: int, said: str) -> str:
    """Return the list from which a visitor corrects what a face shows."""
    options = "".join(
        f"<option{' selected' if name == said else ''}>{name}</option>"
        for name in (*EMOTIONS, NOT_A_FACE)
    )
    first = f'<option value="">{"As the model says" if said else "Wrong? Correct it"}</option>'
    state = ' class="said"' if said else ""
    label = f"What face {number} really shows"
    return f'<select{state} aria-label="{label}">{first}{options}</select>'


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
    return f'<h2 class="title">{html.escape(name)}</h2>'


def describe(name: str, result: ImageResult) -> str:
    """Return a photo in words, for those who cannot see it; the cards tell the rest."""
    return f"{name} with {count(len(result.faces), 'face')}"


def summary(results: Sequence[ImageResult], threshold: Threshold) -> str:
    """Return the answer in a line: ``3 faces: 2 happy, 1 neutral, none unsure``.

    A face with several labels counts for each; an unsure one counts as that alone.
    """
    faces = [face for result in results for face in result.faces]
    text = count(len(faces), "face")
    if len(results) > 1:
        text += f" in {len(results)} photos"
    if not faces:
        return text
    sure = [face for face in faces if not face.unsure(threshold)]
    shown = Counter(label for face in sure for label in face.labels(threshold))
    parts = [f"{number} {name}" for name, number in shown.most_common()]
    parts.append(f"{len(faces) - len(sure) or 'none'} unsure")
    return f"{text}: {', '.join(parts)}"


def summary_html(text: str) -> str:
    """Return the answer as the line that readers of the screen announce when it changes."""
    return f'<p class="summary" role="status">{html.escape(text)}</p>'


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


def _bars(face: Face, threshold: Threshold, emotions: Iterable[str]) -> str:
    labels = face.emotions.labels(threshold)
    rows = []
    for emotion in emotions:
        probability = face.emotions[emotion]
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
