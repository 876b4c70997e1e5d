"""Clips whose labelled faces move, scale, cross, leave and come back, and change their emotion.

Cut-out faces (``eval.scenes``) glide over a drawn background on sums of sines. A *person* is a
place that moves: each emotion of a person is another cut-out, so another individual. Who leaves, by
the nearest side, or is hidden comes back as the same individual; so do all behind a scene cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.data.composing import blend, blend_mask, resize
from faces.coco import load_coco
from faces.command import UserError
from faces.crops import crop_face
from faces.emotions import EMOTIONS
from faces.files import read_json
from faces.images import read_image
from faces.pipeline import Image
from faces.types import Box
from video.frames import import_av

LIMITS = (
    "These clips move still faces over a drawn background. They show whether faces keep their "
    "number when they move, change size, cross, leave and come back, and how smoothing trades "
    "delay for calm. They cannot show how faces turn, blur or change expression gradually; and who "
    "comes back looks as before, so they flatter recognition by looks."
)

VISIBLE = 0.6
"""A face of which less is visible need not be found, and finding it does not count."""


@dataclass(frozen=True)
class Cutout:
    """A face to compose clips of."""

    image: Image  # square, (S, S, 3) uint8 RGB
    face: Box  # the face's box, in fractions of the image's side
    emotion: int  # index into ``EMOTIONS``


WHOLE = Box(0, 0, 1, 1)
"""Stands for the face's box where crops have none: detectors draw it smaller."""

LOOSE_IOU = 0.3
"""From this overlap on a box counts as found where ``WHOLE`` stands for the face's box."""

AROUND = 0.35
"""What is cut out around an annotated face, as a fraction of its longer side."""

SMALLEST = 48
"""Annotated faces with a shorter side below this are not cut out, in pixels."""


@dataclass(frozen=True)
class ClipFace:
    """A face in one frame of a clip."""

    person: int  # from 0
    box: Box  # in pixels
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
    cut: float = 0.3  # share of the clips that have a scene cut


class Person:
    """A path over time, and the cut-outs that it shows one after the other.

    Attributes:
        cutout: index of the cut-out that is shown now.
    """

    LEAVES = 1.0
    """Seconds from a place inside to one outside the frame, and back."""

    def __init__(
        self,
        options: ClipOptions,
        cutouts: Iterator[int],
        cut: float | None,
        rng: np.random.Generator,
    ) -> None:
        self._options, self._cut = options, cut
        self._phases = rng.uniform(0, 2 * np.pi, (2, 6))  # before and behind the cut
        self._speeds = rng.uniform(0.15, 0.4, 6) * 2 * np.pi
        self._centres = rng.uniform(0.3, 0.7, (2, 2))
        # one in three is out of the frame for a while
        self._absent = (np.inf, np.inf)
        if rng.random() < 1 / 3:
            start = rng.uniform(0.25, 0.5) * options.seconds
            self._absent = (start, start + rng.uniform(0.5, 2.5))
        self.cutout = next(cutouts)
        self._cutouts = cutouts
        self._holds = options.holds
        self._change = rng.uniform(*options.holds)
        self._rng = rng

    def side(self, time: float) -> float:
        """Return the height of the face at a time, in pixels."""
        low, high = self._options.sides
        return float(low + (high - low) * (self._waves(time)[4] + 1) / 2)

    def centre(self, time: float) -> tuple[float, float]:
        """Return the place at a time, in pixels; while the person is absent, outside the frame."""
        width, height = self._options.size
        waves, scene = self._waves(time), self._scene(time)
        x = (self._centres[scene, 0] + 0.22 * waves[0] + 0.1 * waves[1]) * width
        y = (self._centres[scene, 1] + 0.12 * waves[2] + 0.05 * waves[3]) * height
        away = self._away(time)
        reach = self._options.sides[1]
        outside = -reach if self._centres[scene, 0] < 0.5 else width + reach
        return float((1 - away) * x + away * outside), float(y)

    def change(self, time: float, visible: float) -> None:
        """Show the next emotion if it is time; who is hidden, or behind a cut just now, waits."""
        cut = self._cut is not None and abs(time - self._cut) < 1.0
        if time >= self._change and visible >= VISIBLE and not cut:
            self.cutout = next(self._cutouts)
            self._change = time + self._rng.uniform(*self._holds)

    def _scene(self, time: float) -> int:
        return int(self._cut is not None and time >= self._cut)

    def _waves(self, time: float) -> NDArray[np.float64]:
        return np.asarray(np.sin(self._speeds * time + self._phases[self._scene(time)]))

    def _away(self, time: float) -> float:
        """Return how far the person has left: from 0, there, to 1, outside the frame."""
        start, end = self._absent
        outside = min((time - start) / self.LEAVES, (end - time) / self.LEAVES) + 1
        return float((1 - np.cos(np.pi * np.clip(outside, 0, 1))) / 2)


def compose_clip(
    backgrounds: Sequence[NDArray[np.float64]],
    cutouts: Sequence[Cutout],
    people: Sequence[Person],
    cut: float | None,
    options: ClipOptions,
    rng: np.random.Generator,
) -> Iterator[tuple[Image, list[ClipFace]]]:
    """Yield the frames of a clip, each (H, W, 3) uint8 RGB, with its faces.

    Later people cover earlier ones.

    Args:
        backgrounds: before and behind the cut, (H, W, 3).
        cutouts: what people show.
        people: who moves.
        cut: when a new scene begins, in seconds; None for no cut.
        options: size, length and noise.
        rng: source of the noise.
    """
    width, height = options.size
    for number in range(round(options.seconds * options.rate)):
        time = number / options.rate
        canvas = backgrounds[int(cut is not None and time >= cut)].copy()
        owner = np.full((height, width), -1, np.int64)
        places = []
        for index, person in enumerate(people):
            cutout = cutouts[person.cutout]
            box = _lay(canvas, owner, index, cutout, person.centre(time), person.side(time))
            places.append((index, cutout, box))
        canvas += rng.normal(0, options.noise, canvas.shape)
        faces = []
        for index, cutout, box in places:
            x1, y1, x2, y2 = (max(0, round(v)) for v in box.as_tuple())
            seen = float((owner[y1:y2, x1:x2] == index).sum()) / box.area
            people[index].change(time, seen)
            if box.intersection(Box(0, 0, width, height)):
                faces.append(ClipFace(index, box, cutout.emotion, min(seen, 1.0)))
        yield np.clip(canvas, 0, 255).round().astype(np.uint8), faces


def _lay(
    canvas: NDArray[np.float64],
    owner: NDArray[np.int64],
    index: int,
    cutout: Cutout,
    centre: tuple[float, float],
    face_side: float,
) -> Box:
    """Blend a cut-out into a canvas (H, W, 3), soft at its rim; return the face's box there."""
    side = round(face_side / cutout.face.height)
    inside = cutout.face
    x = round(centre[0] - side * (inside.x1 + inside.x2) / 2)
    y = round(centre[1] - side * (inside.y1 + inside.y2) / 2)
    blend(canvas, resize(cutout.image, side), x, y)
    covered = np.ones((side, side), bool) if inside == WHOLE else blend_mask(side) > 0.5
    x1, y1 = max(x, 0), max(y, 0)
    x2, y2 = min(x + side, canvas.shape[1]), min(y + side, canvas.shape[0])
    if x1 < x2 and y1 < y2:
        owner[y1:y2, x1:x2][covered[y1 - y : y2 - y, x1 - x : x2 - x]] = index
    return Box(*(o + side * v for o, v in zip((x, y, x, y), inside.as_tuple(), strict=True)))


def read_cutouts(folder: Path) -> tuple[list[Cutout], str]:
    """Cut the faces out of annotated images: FOLDER/annotations.json and FOLDER/images.

    Doubtful, ignored and small faces are left out, and categories that are no emotion.

    Returns:
        The cut-outs, and a fingerprint of their annotations.

    Raises:
        UserError: there are none, or an image cannot be read.
    """
    truth = load_coco(folder / "annotations.json")
    found = []
    for annotated in truth.images:
        image = read_image(folder / "images" / annotated.file_name)
        for face in annotated.faces:
            box, emotion = face.box, face.category.lower()
            if face.ignored or face.doubtful or emotion not in EMOTIONS:
                continue
            if min(box.width, box.height) < SMALLEST:
                continue
            cutout = crop_face(image, box, AROUND)
            side = (1 + 2 * AROUND) * max(box.width, box.height)
            half = box.width / 2 / side, box.height / 2 / side
            inside = Box(0.5 - half[0], 0.5 - half[1], 0.5 + half[0], 0.5 + half[1])
            found.append(Cutout(cutout, inside, EMOTIONS.index(emotion)))
    if not found:
        raise UserError(f"{truth.path}: no face of {SMALLEST} pixels or more shows an emotion")
    return found, truth.fingerprint


def write_clip(
    path: Path, frames: Iterator[tuple[Image, list[ClipFace]]], rate: int
) -> list[list[ClipFace]]:
    """Encode a clip as H.264; returns the faces of each frame."""
    av = import_av()
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
        document = read_json(path)
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
