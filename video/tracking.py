"""Detections of successive frames → tracks, in the manner of ByteTrack.

Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box" (ECCV 2022):
boxes with a high score are matched first, then those with a low score continue tracks that found
none. Each matching maximises the sum of IoU (Hungarian method). Between frames a Kalman filter with
constant velocity predicts each box; it works in seconds, so that frame rates may vary.

Beyond ByteTrack, a third pass matches enlarged boxes (Yang et al., "C-BIoU", WACV 2023), for faces
that moved further than their size between two frames; and tracks that were lost, or that a scene
cut separates, are found again by the looks of the face, if a description of faces is at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from faces.boxes import iou_matrix
from faces.pipeline import Image
from faces.types import Box, Detection

Describe = Callable[[Sequence[int]], NDArray[np.float32]]
"""Indices of detections of the current frame → their descriptions, (N, D), rows of length 1."""


@dataclass(frozen=True)
class TrackingOptions:
    """How faces are followed.

    Attributes:
        high: score from which a detection may start a track; lower ones only continue one.
        iou: minimum overlap of the first pass, and of the third with enlarged boxes.
        low_iou: minimum overlap with a detection of a low score.
        enlarged: by which fraction of its size each side of a box moves out in the third pass.
        lost_seconds: a track that was not seen for so long is not continued by its place.
        hits: frames after which a new track gets its number, unless it starts with the video or
            behind a cut; until then its faces have none.
        again_seconds: a track that was not seen for so long is not found again by looks either.
        looks: minimum cosine of two descriptions of one face.
        describe_seconds: time between two descriptions of a track.
    """

    high: float = 0.5
    iou: float = 0.2
    low_iou: float = 0.4
    enlarged: float = 0.4
    lost_seconds: float = 1.5
    hits: int = 2
    again_seconds: float = 600.0
    looks: float = 0.9
    describe_seconds: float = 1.0


@dataclass
class Motion:
    """Kalman filters of a box's centre x, centre y, width and height, each with its velocity.

    Attributes:
        mean: shape (4, 2): value in pixels, velocity in pixels per second.
        covariance: shape (4, 2, 2).
    """

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]

    NOISE = 0.06
    """Standard deviation of a detector's box, as a fraction of the face's height."""
    ACCELERATION = 4.0
    """Standard deviation of the acceleration, in heights per second squared."""
    SPEED = 1.5
    """Standard deviation of a new face's velocity, in heights per second."""

    @classmethod
    def start(cls, box: Box) -> Motion:
        """Return the filter of a face that was seen once."""
        mean = np.stack([_centre_size(box), np.zeros(4)], axis=1)
        variances = np.square(box.height * np.array([cls.NOISE, cls.SPEED]))
        return cls(mean, np.tile(np.diag(variances), (4, 1, 1)))

    def predict(self, seconds: float) -> None:
        """Move on in time."""
        step = np.array([[1.0, seconds], [0.0, 1.0]])
        push = np.array([seconds**2 / 2, seconds])
        force = (self.ACCELERATION * self.mean[3, 0]) ** 2
        self.mean = self.mean @ step.T
        self.mean[2:, 0] = np.maximum(self.mean[2:, 0], 1.0)
        self.covariance = step @ self.covariance @ step.T + force * np.outer(push, push)

    def update(self, box: Box) -> None:
        """Take in a detected box."""
        noise = (self.NOISE * box.height) ** 2
        gain = self.covariance[:, :, 0] / (self.covariance[:, :1, 0] + noise)
        surprise = _centre_size(box) - self.mean[:, 0]
        self.mean = self.mean + gain * surprise[:, None]
        self.covariance = self.covariance - gain[:, :, None] * self.covariance[:, None, 0, :]

    @property
    def box(self) -> Box:
        """The box as the filter sees it now."""
        x, y, width, height = self.mean[:, 0].tolist()
        return Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)


@dataclass(eq=False)
class Track:
    """One face over time.

    Attributes:
        number: from 1; None until the track is sure.
        motion: where it is.
        score: of its last detection.
        seen: time of its last detection.
        hits: number of its detections.
        cut_off: a scene cut lies between its last detection and now.
        looks: mean description, of length 1; None if there is none.
        described: when it was described last.
    """

    number: int | None
    motion: Motion
    score: float
    seen: float
    hits: int = 1
    cut_off: bool = False
    looks: NDArray[np.float32] | None = None
    described: float = field(default=-np.inf)


class Tracker:
    """Follows the faces of one video; call ``update`` frame by frame."""

    def __init__(self, options: TrackingOptions | None = None) -> None:
        self.options = options or TrackingOptions()
        self._tracks: list[Track] = []
        self._numbers = 0
        self._time: float | None = None
        self._lost_seconds = self.options.lost_seconds
        self._shown: list[Track] = []
        self._sure_at_once = True

    def update(
        self,
        detections: Sequence[Detection],
        time: float,
        *,
        cut: bool = False,
        describe: Describe | None = None,
    ) -> list[Track | None]:
        """Take in the detections of the next frame.

        Args:
            detections: of any score.
            time: of the frame, in seconds; must grow.
            cut: a new scene begins with this frame.
            describe: tells what faces look like; without it lost faces get new numbers.

        Returns:
            The track of each detection. None for one with a low score that continues no track:
            it is no face.
        """
        options = self.options
        self._predict(time)
        if cut:
            self._sure_at_once = True
            for track in self._tracks:
                track.cut_off = True
        near = [
            track
            for track in self._tracks
            if not track.cut_off and time - track.seen <= self._lost_seconds
        ]
        scores = np.array([detection.score for detection in detections])
        high = np.flatnonzero(scores >= options.high).tolist()
        low = np.flatnonzero(scores < options.high).tolist()
        found: dict[int, Track] = {}

        # by place: sure faces, doubtful ones, faces that moved far
        high, near = self._match(detections, high, near, options.iou, 0.0, found)
        _, near = self._match(detections, low, near, options.low_iou, 0.0, found)
        high, near = self._match(detections, high, near, options.iou, options.enlarged, found)
        # by looks: faces that were lost or lie behind a cut
        if describe is not None and high:
            self._find_again(high, time, describe, found)
            high = [index for index in high if index not in found]

        for index, track in found.items():
            self._continue(track, detections[index], time)
        for index in high:
            found[index] = self._start(detections[index], time)
        if found or high:
            self._sure_at_once = False
        if describe is not None:
            self._describe(found, time, describe)
        self._forget(time)
        self._shown = [track for track in found.values() if track.seen == time]
        return [found.get(index) for index in range(len(detections))]

    def coast(self, time: float) -> list[Track]:
        """Move on without looking for faces; returns the tracks that the last update showed.

        Their ``motion.box`` says where they should be.
        """
        self._predict(time)
        return self._shown

    def _predict(self, time: float) -> None:
        if self._time is not None:
            # where few frames are looked at, a face may be missing in one of them
            self._lost_seconds = max(self.options.lost_seconds, 2.5 * (time - self._time))
            for track in self._tracks:
                if not track.cut_off and time - track.seen <= self._lost_seconds:
                    track.motion.predict(time - self._time)
        self._time = time

    def _match(
        self,
        detections: Sequence[Detection],
        indices: list[int],
        tracks: list[Track],
        minimum: float,
        enlarged: float,
        found: dict[int, Track],
    ) -> tuple[list[int], list[Track]]:
        """Match by overlap, add the pairs to ``found``, and return what is left of both."""
        overlap = iou_matrix(
            [_enlarge(detections[index].box, enlarged) for index in indices],
            [_enlarge(track.motion.box, enlarged) for track in tracks],
        )
        pairs = _best_pairs(overlap, minimum)
        found.update((indices[i], tracks[j]) for i, j in pairs)
        taken, matched = {i for i, _ in pairs}, {j for _, j in pairs}
        return (
            [index for i, index in enumerate(indices) if i not in taken],
            [track for j, track in enumerate(tracks) if j not in matched],
        )

    def _find_again(
        self, indices: list[int], time: float, describe: Describe, found: dict[int, Track]
    ) -> None:
        taken = {id(track) for track in found.values()}
        lost = [
            track
            for track in self._tracks
            if track.looks is not None and track.number is not None and id(track) not in taken
        ]
        if not lost:
            return
        looks = describe(indices) @ np.stack([t.looks for t in lost if t.looks is not None]).T
        for i, j in _best_pairs(looks.astype(np.float64), self.options.looks):
            track = lost[j]
            found[indices[i]] = track
            track.hits = -1  # its motion starts again

    def _continue(self, track: Track, detection: Detection, time: float) -> None:
        if track.hits < 0:
            track.motion, track.hits = Motion.start(detection.box), self.options.hits
        else:
            track.motion.update(detection.box)
            track.hits += 1
        track.seen, track.score, track.cut_off = time, detection.score, False
        if track.number is None and track.hits >= self.options.hits:
            track.number = self._next_number()

    def _start(self, detection: Detection, time: float) -> Track:
        number = self._next_number() if self._sure_at_once or self.options.hits <= 1 else None
        track = Track(number, Motion.start(detection.box), detection.score, time)
        self._tracks.append(track)
        return track

    def _next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _describe(self, found: dict[int, Track], time: float, describe: Describe) -> None:
        due = [
            index
            for index, track in found.items()
            if track.score >= self.options.high
            and time - track.described >= self.options.describe_seconds
        ]
        if not due:
            return
        for index, row in zip(due, describe(due), strict=True):
            track = found[index]
            mean = row if track.looks is None else 0.7 * track.looks + 0.3 * row
            track.looks = np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-9), np.float32)
            track.described = time

    def _forget(self, time: float) -> None:
        """Drop the tracks that cannot come back, so that memory stays flat."""

        def may_return(track: Track) -> bool:
            gone = time - track.seen
            if gone <= self._lost_seconds and not track.cut_off:
                return track.number is not None or gone <= 0.3
            known = track.looks is not None and track.number is not None
            return known and gone <= self.options.again_seconds

        self._tracks = [track for track in self._tracks if may_return(track)]


class CutDetector:
    """Tells where a new scene begins, from the colours and the layout of successive frames.

    A frame starts a scene if it differs much from the one before it in both: more than ``LAYOUT``
    on average in a small copy (of 255), and less than ``COLOURS`` of their colour histograms in
    common. What moves keeps the colours, what brightens keeps the layout.
    """

    LAYOUT = 25.0
    COLOURS = 0.6
    _GRID = (18, 32)

    def __init__(self) -> None:
        self._before: tuple[NDArray[np.float32], NDArray[np.float64]] | None = None

    def __call__(self, image: Image) -> bool:
        """Take in the next frame, (H, W, 3) uint8 RGB, and tell whether a scene begins with it."""
        rows = np.linspace(0, image.shape[0] - 1, 4 * self._GRID[0]).round().astype(int)
        columns = np.linspace(0, image.shape[1] - 1, 4 * self._GRID[1]).round().astype(int)
        small = image[rows][:, columns]
        bins = (small >> 6).reshape(-1, 3).astype(np.int64) @ np.array([16, 4, 1])
        colours = np.bincount(bins, minlength=64) / len(bins)
        blocks = small.reshape(self._GRID[0], 4, self._GRID[1], 4, 3)
        layout = blocks.mean(axis=(1, 3), dtype=np.float32)
        before, self._before = self._before, (layout, colours)
        if before is None:
            return False
        differs = float(np.abs(layout - before[0]).mean())
        shared = float(np.minimum(colours, before[1]).sum())
        return differs > self.LAYOUT and shared < self.COLOURS


def _best_pairs(values: NDArray[np.float64], minimum: float) -> list[tuple[int, int]]:
    """Return the pairs (row, column) with the largest sum, those below ``minimum`` left out."""
    rows, columns = linear_sum_assignment(np.where(values >= minimum, values, 0.0), maximize=True)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if values[i, j] >= minimum]


def _centre_size(box: Box) -> NDArray[np.float64]:
    return np.array([(box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2, box.width, box.height])


def _enlarge(box: Box, by: float) -> tuple[float, float, float, float]:
    x, y = by * box.width, by * box.height
    return box.x1 - x, box.y1 - y, box.x2 + x, box.y2 + y
