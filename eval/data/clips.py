"""Clips whose labelled faces move, scale, cross, leave and come back, and change their emotion.

Face crops (``eval.scenes``) glide over a drawn background on sums of sines. A *person* is a place
that moves: each emotion of a person is another crop, so another individual.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from eval.data.composing import blend, resize
from faces.command import UserError
from faces.emotions import EMOTIONS
from faces.pipeline import Image
from faces.types import Box

LIMITS = (
    "These clips move face crops over a drawn background. They show whether faces keep their "
    "number when they move, change size, cross, leave and come back, and how smoothing trades "
    "delay for calm. They cannot show how faces turn, blur or change expression gradually, nor "
    "whether a person is known again by looks: with the emotion, the individual changes too."
)

VISIBLE = 0.6
"""A face of which less is visible need not be found, and finding it does not count."""


@dataclass(frozen=True)
class ClipFace:
    """A face in one frame of a clip."""

    person: int  # from 0
    box: Box  # of the crop, in pixels
    emotion: int  # index into ``EMOTIONS``
    visible: float  # share of its area that is inside the frame and not covered by other faces


@dataclass(frozen=True)
class Clip:
    """A composed clip: its video, its frames per second, and the faces of each frame."""

    path: Path
    rate: float
    frames: list[list[ClipFace]]


@dataclass(frozen=True)
class ClipOptions:
    """What clips look like."""

    size: tuple[int, int] = (640, 480)  # width and height in pixels
    seconds: float = 8.0  # length
    rate: int = 24  # frames per second
    sides: tuple[int, int] = (80, 140)  # minimum and maximum side of a face, in pixels
    # minimum and maximum time that an emotion lasts, in seconds
    holds: tuple[float, float] = (1.5, 3.0)
    noise: float = 5.0  # standard deviation of each frame's noise, of 255


class Person:
    """A path over time, and the crops that it shows one after the other."""

    def __init__(
        self, options: ClipOptions, crops: Iterator[int], rng: np.random.Generator
    ) -> None:
        self._options = options
        self._phases = rng.uniform(0, 2 * np.pi, 6)
        self._speeds = rng.uniform(0.15, 0.4, 6) * 2 * np.pi
        self._centre = rng.uniform(0.3, 0.7, 2)
        # one in three leaves for a while, and is out of the frame then
        self._absent = (-1.0, -1.0)
        if rng.random() < 1 / 3:
            start = rng.uniform(0.3, 0.6) * options.seconds
            self._absent = (start, start + rng.uniform(0.5, 1.2))
        self._changes: list[tuple[float, int]] = []
        time = 0.0
        while time < options.seconds:
            self._changes.append((time, next(crops)))
            time += rng.uniform(*options.holds)

    def present(self, time: float) -> bool:
        """Tell whether the person is in the clip at a time in seconds."""
        return not self._absent[0] <= time < self._absent[1]

    def crop(self, time: float) -> int:
        """Return the index of the crop that is shown at a time."""
        return [crop for start, crop in self._changes if start <= time][-1]

    def box(self, time: float) -> Box:
        """Return the place at a time, a square of whole pixels."""
        width, height = self._options.size
        waves = np.sin(self._speeds * time + self._phases)
        low, high = self._options.sides
        side = round(low + (high - low) * (waves[4] + 1) / 2)
        x = (self._centre[0] + 0.22 * waves[0] + 0.1 * waves[1]) * width - side / 2
        y = (self._centre[1] + 0.12 * waves[2] + 0.05 * waves[3]) * height - side / 2
        return Box(round(x), round(y), round(x) + side, round(y) + side)


def compose_clip(
    background: NDArray[np.float64],
    crops: Sequence[Image],
    labels: Sequence[int],
    people: Sequence[Person],
    options: ClipOptions,
    rng: np.random.Generator,
) -> Iterator[tuple[Image, list[ClipFace]]]:
    """Yield frames, each (H, W, 3) uint8 RGB, with their faces; later people cover earlier ones."""
    width, height = options.size
    for number in range(round(options.seconds * options.rate)):
        time = number / options.rate
        canvas = background.copy()
        owner = np.full((height, width), -1, np.int64)
        shown = [(i, person) for i, person in enumerate(people) if person.present(time)]
        for index, person in shown:
            box = person.box(time)
            face = resize(crops[person.crop(time)], round(box.width))
            blend(canvas, face, round(box.x1), round(box.y1))
            x1, y1, x2, y2 = (max(0, round(v)) for v in box.as_tuple())
            owner[y1:y2, x1:x2] = index
        canvas += rng.normal(0, options.noise, canvas.shape)
        faces = [
            ClipFace(
                index,
                person.box(time),
                labels[person.crop(time)],
                float((owner == index).sum()) / person.box(time).area,
            )
            for index, person in shown
        ]
        yield np.clip(canvas, 0, 255).round().astype(np.uint8), faces


def write_clip(
    path: Path, frames: Iterator[tuple[Image, list[ClipFace]]], rate: int
) -> list[list[ClipFace]]:
    """Encode a clip as H.264; returns the faces of each frame."""
    found = []
    with av.open(str(path), "w") as container:
        stream: Any = None
        for image, faces in frames:
            if stream is None:
                stream = container.add_stream("libx264", Fraction(rate), options={"crf": "18"})
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            found.append(faces)
        if stream is not None:
            container.mux(stream.encode(None))
    return found


def clip_truth(name: str, rate: int, frames: Sequence[Sequence[ClipFace]]) -> dict[str, Any]:
    """Return a clip's entry in truth.json: per frame [person, x1, y1, x2, y2, emotion, visible]."""
    return {
        "file": name,
        "rate": rate,
        "frames": [
            [[f.person, *f.box.as_tuple(), EMOTIONS[f.emotion], round(f.visible, 4)] for f in faces]
            for faces in frames
        ],
    }


def read_clips(folder: Path) -> tuple[list[Clip], dict[str, Any]]:
    """Read the clips of ``eval.scenes --video`` and what its truth.json says of all of them."""
    path = folder / "truth.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        clips = [
            Clip(
                folder / clip["file"],
                float(clip["rate"]),
                [
                    [ClipFace(f[0], Box(*f[1:5]), EMOTIONS.index(f[5]), f[6]) for f in faces]
                    for faces in clip["frames"]
                ],
            )
            for clip in document["clips"]
        ]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(
            f"{path}: no truth of clips ({error}); make some: python -m eval.scenes --video"
        ) from error
    return clips, document["info"]
