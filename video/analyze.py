"""A pipeline over the frames of a source: detect, follow, classify, smooth.

Networks run in ``look_at``; all that follows from their answers is computed by ``Follower``, which
gives the same results from answers that were noted before. So an analysis that was stopped goes on
from its notes (``video.notes``) as if it had never stopped.
"""

from __future__ import annotations

import os
import time as clock
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from faces.emotions import EMOTIONS
from faces.pipeline import Image, Pipeline
from faces.types import Box, Detection, EmotionProbabilities, Face
from video.frames import Frame, Frames, open_frames
from video.looks import Looks, describe
from video.mood import SLACK, Smoother, SmoothingOptions, median
from video.tracking import CutDetector, Track, Tracker, TrackingOptions

LOW_SCORE = 0.2
"""Detections from this score on may continue a track."""


@dataclass(frozen=True)
class VideoOptions:
    """How a video is analysed.

    Attributes:
        every: seconds between two analysed frames; None analyses all.
        detect_every: faces are detected in every n-th of these; between, their boxes are predicted.
        low_score: see ``LOW_SCORE``.
        tracking: see there; None takes the detector's ``score_threshold`` as ``high``.
        smoothing: see there.
    """

    every: float | None = None
    detect_every: int = 1
    low_score: float = LOW_SCORE
    tracking: TrackingOptions | None = None
    smoothing: SmoothingOptions = field(default_factory=SmoothingOptions)


@dataclass(frozen=True, slots=True)
class VideoFace:
    """One face in one frame.

    Attributes:
        track: number of the person's track, from 1; None where the face was seen too briefly.
        face: box, score and the probabilities of this frame alone.
        smoothed: the track's probabilities, smoothed over time.
        mood: the most likely of these.
    """

    track: int | None
    face: Face
    smoothed: EmotionProbabilities
    mood: str


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """What one frame of a video shows.

    Attributes:
        source: the video, as the user named it.
        index: among all frames of the video, from 0.
        time: in seconds from its start.
        passed: seconds since the analysed frame before it.
        width: in pixels.
        height: in pixels.
        cut: a new scene begins here.
        faces: in the order of the detections.
        image: upright, (H, W, 3) uint8 RGB; None where the answers come from notes.
        seconds: that detection and classification took.
    """

    source: str
    index: int
    time: float
    passed: float
    width: int
    height: int
    cut: bool
    faces: tuple[VideoFace, ...]
    image: Image | None = field(default=None, compare=False, repr=False)
    seconds: tuple[float, float] = field(default=(0.0, 0.0), compare=False)


class Look(Protocol):
    """The answers of the networks about one frame.

    Attributes:
        index: of the frame, see ``VideoFrame``; likewise ``time``, ``width``, ``height``, ``cut``.
        image: (H, W, 3) uint8 RGB; None if it is not at hand.
        detections: None where faces are not detected but predicted.
        looks: of the detections, see ``video.looks``.
    """

    index: int
    time: float
    width: int
    height: int
    cut: bool
    image: Image | None
    detections: list[Detection] | None
    looks: Looks

    def classify(self, boxes: Sequence[Box]) -> NDArray[np.float32]:
        """Return the probabilities of the faces in these boxes, (N, 7) float32."""
        ...


class LiveLook:
    """A frame that the networks look at now; remembers their answers for the notes."""

    def __init__(self, frame: Frame, cut: bool, pipeline: Pipeline, low: float | None) -> None:
        self.index, self.time = frame.index, frame.time
        self.image: Image | None = frame.image
        self.height, self.width = frame.image.shape[:2]
        self.cut = cut
        self.rows: NDArray[np.float32] = np.zeros((0, len(EMOTIONS)), np.float32)
        self._frame, self._pipeline = frame, pipeline
        start = clock.perf_counter()
        found = None if low is None else pipeline.locate(frame.image, low).detections
        self.detections: list[Detection] | None = None if found is None else list(found)
        self.seconds = (clock.perf_counter() - start, 0.0)
        self.looks: Looks = describe(frame.image, [one.box for one in found or ()])

    def classify(self, boxes: Sequence[Box]) -> NDArray[np.float32]:
        """Return the probabilities of the faces in these boxes; see ``Look``."""
        start = clock.perf_counter()
        self.rows = self._pipeline.classify_boxes(self._frame.image, boxes)
        self.seconds = (self.seconds[0], clock.perf_counter() - start)
        return self.rows


class Follower:
    """Networks' answers, frame by frame → faces with tracks and emotions smoothed until now."""

    def __init__(self, source: str, tracking: TrackingOptions, smoothing: SmoothingOptions) -> None:
        self._source = source
        self._tracker = Tracker(tracking)
        self._smoothing = smoothing
        self._smoothers: WeakKeyDictionary[Track, Smoother] = WeakKeyDictionary()
        self._before: float | None = None

    def take(self, look: Look) -> VideoFrame:
        """Take in the next frame."""
        detections, tracks = self._follow(look)
        rows = look.classify([detection.box for detection in detections])
        faces = []
        for detection, track, row in zip(detections, tracks, rows, strict=True):
            face = Face(detection, EmotionProbabilities.from_row(row.tolist()))
            smoother = self._smoothers.setdefault(track, Smoother(self._smoothing))
            smoothed = smoother.update(face.emotions.probabilities, look.time)
            faces.append(VideoFace(track.number, face, smoothed, smoothed.top))
        passed = 0.0 if self._before is None else look.time - self._before
        self._before = look.time
        seconds = getattr(look, "seconds", (0.0, 0.0))
        return VideoFrame(
            self._source, look.index, look.time, passed, look.width, look.height, look.cut,
            tuple(faces), look.image, seconds,
        )  # fmt: skip

    def _follow(self, look: Look) -> tuple[list[Detection], list[Track]]:
        if look.detections is None:
            tracks = self._tracker.coast(look.time)
            inside = [track for track in tracks if _inside(track.motion.box, look)]
            return [Detection(track.motion.box, track.score) for track in inside], inside
        found = look.detections
        answers = self._tracker.update(found, look.time, cut=look.cut, looks=look.looks)
        kept = [(d, track) for d, track in zip(found, answers, strict=True) if track is not None]
        return [d for d, _ in kept], [track for _, track in kept]


class Settler:
    """Smooths with what follows, too: frames come out once ``seconds`` more have been seen."""

    def __init__(self, options: SmoothingOptions) -> None:
        self._seconds = options.seconds + SLACK
        self._seen: deque[VideoFrame] = deque()
        self._settled = 0
        """How many of ``_seen`` have come out."""

    def take(self, frame: VideoFrame) -> Iterator[VideoFrame]:
        """Take in the next frame; yields those that are settled now."""
        self._seen.append(frame)
        while self._seen[self._settled].time < frame.time - self._seconds:
            yield self._next()

    def finish(self) -> Iterator[VideoFrame]:
        """Yield the frames that are left when no more follow."""
        while self._settled < len(self._seen):
            yield self._next()

    def _next(self) -> VideoFrame:
        frame = self._seen[self._settled]
        # what came out long ago is not looked at any more
        while self._seen[0].time < frame.time - self._seconds:
            self._seen.popleft()
            self._settled -= 1
        self._seen[self._settled] = replace(frame, image=None)
        self._settled += 1
        rows: dict[int | None, list[Sequence[float]]] = {}
        for near in self._seen:
            if near.time <= frame.time + self._seconds:
                for one in near.faces:
                    rows.setdefault(one.track, []).append(one.face.emotions.probabilities)
        faces = []
        for one in frame.faces:
            smoothed = median(rows[one.track]) if one.track is not None else one.face.emotions
            faces.append(replace(one, smoothed=smoothed, mood=smoothed.top))
        return replace(frame, faces=tuple(faces))


def settled(frames: Iterable[VideoFrame], options: SmoothingOptions) -> Iterator[VideoFrame]:
    """Smooth frames with what follows, too; see ``Settler``."""
    settler = Settler(options)
    for frame in frames:
        yield from settler.take(frame)
    yield from settler.finish()


def look_at(
    pipeline: Pipeline,
    frames: Iterable[Frame],
    options: VideoOptions,
    resumed: int | None = None,
) -> Iterator[LiveLook]:
    """Run the networks over the frames of a source.

    Args:
        pipeline: both stages.
        frames: of the source.
        options: how it is analysed.
        resumed: so many frames were looked at before; the first of ``frames`` is the last of them,
            which is needed to see whether a scene begins with the second.
    """
    cuts = CutDetector()
    count = 0 if resumed is None else resumed - 1
    low = min(options.low_score, pipeline.detector.score_threshold)
    for number, frame in enumerate(frames, start=count):
        cut = cuts(frame.image)
        if resumed is not None and number < resumed:
            continue
        detect = cut or number % options.detect_every == 0
        yield LiveLook(frame, cut, pipeline, low if detect else None)


def tracking_options(pipeline: Pipeline, options: VideoOptions) -> TrackingOptions:
    """Return how faces are followed: by default from the detector's own threshold on."""
    return options.tracking or TrackingOptions(high=pipeline.detector.score_threshold)


def analyze_video(
    pipeline: Pipeline,
    source: str | os.PathLike[str] | Frames,
    options: VideoOptions | None = None,
) -> Iterator[VideoFrame]:
    """Run both stages over a video, and yield its frames as they are analysed.

    Args:
        pipeline: both stages.
        source: see ``video.frames.open_frames``.
        options: how it is analysed.

    Raises:
        UserError: the source cannot be read.
    """
    options = options or VideoOptions()
    frames = source if isinstance(source, Frames) else open_frames(source, options.every)
    return _analyze(pipeline, frames, options)


def _analyze(pipeline: Pipeline, frames: Frames, options: VideoOptions) -> Iterator[VideoFrame]:
    follower = Follower(frames.name, tracking_options(pipeline, options), options.smoothing)
    found = (follower.take(look) for look in look_at(pipeline, frames, options))
    return found if frames.live else settled(found, options.smoothing)


def _inside(box: Box, look: Look) -> bool:
    """Tell whether a box lies at least by half inside the frame."""
    return box.intersection(Box(0, 0, look.width, look.height)) >= 0.5 * box.area
