"""Detections of successive frames → tracks, in the manner of ByteTrack.

Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box" (ECCV 2022):
boxes with a high score are matched first, then those with a low score continue tracks that found
none. Each matching maximises the sum of IoU (Hungarian method). Between frames a Kalman filter with
constant velocity predicts each box; it works in seconds, so that frame rates may vary.

Beyond ByteTrack, looks (``video.looks``) help overlap to tell faces apart that cross; a third pass
matches enlarged boxes (Yang et al., "C-BIoU", WACV 2023), for faces that moved further than their
size between two frames; and tracks that were lost, or that a scene cut separates, are found again
by looks alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from faces.boxes import iou_matrix
from faces.pipeline import Image
from faces.types import Box, Detection
from video.looks import Looks, unit


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
        again: from this likeness on (see ``video.looks.unit``) a face is known again.
        unlike: likeness up to which looks do not help a match by place.
        covered: looks are learnt from faces of which others cover no larger part than this.
    """

    high: float = 0.5
    iou: float = 0.2
    low_iou: float = 0.4
    enlarged: float = 0.4
    lost_seconds: float = 1.0
    hits: int = 2
    again_seconds: float = 600.0
    again: float = 0.8
    unlike: float = 0.7
    covered: float = 0.2


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
    COASTS = 0.4
    """A face that is not seen loses its velocity with this time constant, in seconds."""

    @classmethod
    def start(cls, box: Box) -> Motion:
        """Return the filter of a face that was seen once."""
        mean = np.stack([_centre_size(box), np.zeros(4)], axis=1)
        variances = np.square(box.height * np.array([cls.NOISE, cls.SPEED]))
        return cls(mean, np.tile(np.diag(variances), (4, 1, 1)))

    def predict(self, seconds: float, *, unseen: bool = False) -> None:
        """Move on in time; ``unseen`` says that the face was not found just before."""
        if unseen:
            self.mean[:, 1] *= math.exp(-seconds / self.COASTS)
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
    """

    number: int | None
    motion: Motion
    score: float
    seen: float
    hits: int = 1
    cut_off: bool = False
    looks: NDArray[np.float64] | None = None


class Tracker:
    """Follows the faces of one video; call ``update`` frame by frame."""

    def __init__(self, options: TrackingOptions | None = None) -> None:
        self.options = options or TrackingOptions()
        self._tracks: list[Track] = []
        self._numbers = 0
        self._time: float | None = None
        self._looked = -math.inf
        self._lost_seconds = self.options.lost_seconds
        self._shown: list[Track] = []
        self._sure_at_once = True

    def update(
        self,
        detections: Sequence[Detection],
        time: float,
        *,
        cut: bool = False,
        looks: Looks | None = None,
    ) -> list[Track | None]:
        """Take in the detections of the next frame.

        Args:
            detections: of any score.
            time: of the frame, in seconds; must grow.
            cut: a new scene begins with this frame.
            looks: of the detections (``video.looks.describe``); without them faces that were lost
                get new numbers.

        Returns:
            The track of each detection. None for one with a low score that continues no track:
            it is no face.
        """
        options = self.options
        self._predict(time)
        self._looked = time
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

        rows = None if looks is None else unit(looks)

        # by place: sure faces, doubtful ones, faces that moved far
        high, near = self._match(detections, rows, high, near, options.iou, 0.0, found)
        _, near = self._match(detections, rows, low, near, options.low_iou, 0.0, found)
        high, near = self._match(detections, rows, high, near, options.iou, options.enlarged, found)
        # by looks: faces that were lost or lie behind a cut
        if rows is not None:
            high = self._find_again(high, rows, found)

        for index, track in found.items():
            self._continue(track, detections[index], time)
        for index in high:
            found[index] = self._start(detections[index], time)
        if found:
            self._sure_at_once = False
        if rows is not None:
            self._learn(found, detections, rows)
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
                    unseen = track.seen < self._looked
                    track.motion.predict(time - self._time, unseen=unseen)
        self._time = time

    def _match(
        self,
        detections: Sequence[Detection],
        looks: NDArray[np.float64] | None,
        indices: list[int],
        tracks: list[Track],
        minimum: float,
        enlarged: float,
        found: dict[int, Track],
    ) -> tuple[list[int], list[Track]]:
        """Match by place, add the pairs to ``found``, and return what is left of both."""
        overlap = iou_matrix(
            [_enlarge(detections[index].box, enlarged) for index in indices],
            [_enlarge(track.motion.box, enlarged) for track in tracks],
        )
        values = overlap
        if looks is not None and indices and tracks:
            alike = looks[indices] @ _looks_of(tracks).T
            bonus = np.clip((alike - self.options.unlike) / (1 - self.options.unlike), 0, 1)
            values = (overlap + bonus) / 2
        pairs = _best_pairs(np.where(overlap >= minimum, values, 0.0), minimum / 2)
        found.update((indices[i], tracks[j]) for i, j in pairs)
        taken, matched = {i for i, _ in pairs}, {j for _, j in pairs}
        return (
            [index for i, index in enumerate(indices) if i not in taken],
            [track for j, track in enumerate(tracks) if j not in matched],
        )

    def _find_again(
        self, indices: list[int], looks: NDArray[np.float64], found: dict[int, Track]
    ) -> list[int]:
        """Match with any track by looks, add the pairs to ``found``, and return what is left."""
        taken = {id(track) for track in found.values()}
        lost = [t for t in self._tracks if t.number is not None and id(t) not in taken]
        if not lost or not indices:
            return indices
        for i, j in _best_pairs(looks[indices] @ _looks_of(lost).T, self.options.again):
            found[indices[i]] = lost[j]
            lost[j].hits = -1  # its motion starts again
        return [index for index in indices if index not in found]

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

    def _learn(
        self,
        found: dict[int, Track],
        detections: Sequence[Detection],
        looks: NDArray[np.float64],
    ) -> None:
        """Take the looks of faces that nobody covers into the means of their tracks."""
        for index, track in found.items():
            box = detections[index].box
            others = (box.intersection(detections[other].box) for other in found if other != index)
            covered = max(others, default=0.0) > self.options.covered * box.area
            if track.looks is None:
                track.looks = looks[index]
            elif track.score >= self.options.high and not covered:
                track.looks = unit(0.8 * track.looks + 0.2 * looks[index])

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
    COLOURS = 0.8
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


def _looks_of(tracks: Sequence[Track]) -> NDArray[np.float64]:
    """Return the looks of tracks, a row each; zeros for one that has none."""
    width = max(0 if track.looks is None else len(track.looks) for track in tracks)
    return np.array([np.zeros(width) if t.looks is None else t.looks for t in tracks])


def _centre_size(box: Box) -> NDArray[np.float64]:
    return np.array([(box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2, box.width, box.height])


def _enlarge(box: Box, by: float) -> tuple[float, float, float, float]:
    x, y = by * box.width, by * box.height
    return box.x1 - x, box.y1 - y, box.x2 + x, box.y2 + y
