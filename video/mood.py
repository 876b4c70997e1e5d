"""Probabilities of one face over time → a smoothed curve, a mood, its changes, a summary."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from faces.emotions import EMOTIONS
from faces.types import EmotionProbabilities


@dataclass(frozen=True)
class SmoothingOptions:
    """The filter, a running median; chosen on composed clips (``eval.video``).

    Attributes:
        seconds: how far it looks to either side; 0 turns it off.
    """

    seconds: float = 0.4


class Smoother:
    """The median of what a face showed from ``2 · seconds`` ago until now.

    A median keeps the step of a change and drops what lasts for less than half of its window. It
    looks at the past only, so it comes late by ``seconds``; ``video.analyze.settled`` does not.
    """

    def __init__(self, options: SmoothingOptions | None = None) -> None:
        self._seconds = 2 * (options or SmoothingOptions()).seconds
        self._rows: deque[tuple[float, Sequence[float]]] = deque()

    def update(self, probabilities: Sequence[float], time: float) -> EmotionProbabilities:
        """Take in the seven probabilities at a time in seconds; returns the smoothed ones."""
        self._rows.append((time, probabilities))
        while self._rows[0][0] < time - self._seconds - SLACK:
            self._rows.popleft()
        return median([row for _, row in self._rows])


SLACK = 1e-6
"""Seconds by which times are rounded."""


def median(rows: Sequence[Sequence[float]]) -> EmotionProbabilities:
    """Return the median of each of seven probabilities over N rows, scaled to a sum of 1."""
    middle = np.median(np.asarray(rows, np.float64), axis=0)
    if not middle.sum():  # each row is sure of another emotion
        middle = np.mean(rows, axis=0)
    return EmotionProbabilities.from_row((middle / middle.sum()).tolist())


@dataclass
class Change:
    """The mood changes here.

    Attributes:
        time: in seconds.
        mood: from here on.
    """

    time: float
    mood: str


@dataclass
class Curve:
    """Smoothed probabilities over time in a bounded number of points, each a mean over a bin.

    When ``most`` bins are full, neighbours are joined and bins become twice as wide, so that a
    video of any length fits into the same memory.
    """

    most: int = 1000
    width: float = 0.1
    _bins: dict[int, tuple[int, NDArray[np.float64]]] = field(default_factory=dict)

    def add(self, time: float, probabilities: Sequence[float]) -> None:
        """Add the seven probabilities of a time in seconds."""
        self._put(int(time / self.width), 1, np.asarray(probabilities, np.float64))
        while len(self._bins) > self.most:
            bins, self._bins = self._bins, {}
            self.width *= 2
            for place, (count, total) in bins.items():
                self._put(place // 2, count, total)

    def _put(self, place: int, count: int, total: NDArray[np.float64]) -> None:
        had, before = self._bins.get(place, (0, np.zeros(len(EMOTIONS))))
        self._bins[place] = (had + count, before + total)

    def points(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return times (N,), the middles of the bins, and probabilities (N, 7)."""
        places = sorted(self._bins)
        times = np.array([(place + 0.5) * self.width for place in places])
        means = [self._bins[place][1] / self._bins[place][0] for place in places]
        return times, np.array(means).reshape(-1, len(EMOTIONS))


HOLDS = 0.4
"""A mood counts as a change from so many seconds on."""


@dataclass
class TrackSummary:
    """What a track came to, kept up frame by frame; memory grows with its minutes only.

    Attributes:
        number: of the track.
        first: time of its first frame, in seconds.
        last: time of its last frame.
        frames: in which its face was found.
        seconds: shown per mood; every frame stands for the time since the frame before it.
        minutes: minute → mean smoothed probabilities, as (frames, sums (7,)).
        changes: the moods that lasted for ``HOLDS`` seconds at least, the first one included.
        curve: the smoothed probabilities.
        best_score: quality of the best crop.
        best_frame: index of its frame.
        best_time: time of its frame, in seconds.
        best_crop: the crop as JPEG; None if none was kept.
    """

    number: int
    first: float
    last: float = 0.0
    frames: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(EMOTIONS, 0.0))
    minutes: dict[int, tuple[int, NDArray[np.float64]]] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    curve: Curve = field(default_factory=Curve)
    best_score: float = 0.0
    best_frame: int = 0
    best_time: float = 0.0
    best_crop: bytes | None = None
    _candidate: Change | None = None

    def add(self, time: float, passed: float, smoothed: EmotionProbabilities, mood: str) -> None:
        """Take in the next frame that shows the face.

        Args:
            time: of the frame, in seconds.
            passed: seconds since the video's frame before it.
            smoothed: from ``Smoother``.
            mood: from ``Smoother``.
        """
        self.last = time
        self.frames += 1
        self.seconds[mood] += passed
        row = smoothed.probabilities
        count, total = self.minutes.get(int(time // 60), (0, np.zeros(len(EMOTIONS))))
        self.minutes[int(time // 60)] = (count + 1, total + np.asarray(row))
        self.curve.add(time, row)
        self._follow(time, mood)

    def _follow(self, time: float, mood: str) -> None:
        if not self.changes:
            self.changes.append(Change(time, mood))
        elif mood == self.changes[-1].mood:
            self._candidate = None
        elif self._candidate is None or self._candidate.mood != mood:
            self._candidate = Change(time, mood)
        elif time - self._candidate.time >= HOLDS:
            self.changes.append(self._candidate)
            self._candidate = None

    def shares(self) -> dict[str, float]:
        """Return the share of its time that each mood was shown; they sum to 1."""
        total = sum(self.seconds.values())
        if total <= 0:
            return dict.fromkeys(EMOTIONS, 0.0)
        return {name: value / total for name, value in self.seconds.items()}

    def per_minute(self) -> list[dict[str, float]]:
        """Return the mean smoothed probabilities of each minute that shows the face."""
        return [
            {"minute": minute} | dict(zip(EMOTIONS, (total / count).tolist(), strict=True))
            for minute, (count, total) in sorted(self.minutes.items())
        ]
