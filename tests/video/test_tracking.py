"""Tracks: numbers that stay, faces that cross, leave, return; cuts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from faces.types import Box, Detection
from video.tracking import CutDetector, Motion, Tracker, TrackingOptions


def face(x: float, y: float = 50, side: float = 40, score: float = 0.9) -> Detection:
    return Detection(Box(x, y, x + side, y + side), score)


def numbers(tracker: Tracker, faces: Sequence[Detection], time: float) -> list[int | None]:
    return [track and track.number for track in tracker.update(faces, time)]


def test_moving_faces_keep_their_numbers() -> None:
    tracker = Tracker()
    for step in range(30):
        found = numbers(tracker, [face(4 * step), face(300 - 4 * step, 150)], step / 25)
        assert found == [1, 2]


def test_the_order_of_the_detections_does_not_matter() -> None:
    tracker = Tracker()
    assert numbers(tracker, [face(0), face(200)], 0.0) == [1, 2]
    assert numbers(tracker, [face(200), face(0)], 0.04) == [2, 1]


def test_faces_that_cross_keep_their_numbers_though_one_is_hidden() -> None:
    tracker = Tracker()
    for step in range(60):
        left, right = face(5 * step, 50), face(295 - 5 * step, 58)
        hidden = abs(left.box.x1 - right.box.x1) < 25
        found = numbers(tracker, [left] if hidden else [left, right], step / 25)
        assert found == ([1] if hidden else [1, 2])


def test_a_low_score_continues_a_track_but_starts_none() -> None:
    tracker = Tracker(TrackingOptions(high=0.5))
    assert numbers(tracker, [face(0)], 0.0) == [1]
    assert numbers(tracker, [face(2, score=0.3), face(200, score=0.3)], 0.04) == [1, None]


def test_a_new_face_gets_its_number_with_its_second_frame() -> None:
    tracker = Tracker()
    assert numbers(tracker, [face(0)], 0.0) == [1]
    found = tracker.update([face(0), face(200)], 0.04)
    assert found[1] is not None and found[1].number is None
    assert numbers(tracker, [face(0), face(200)], 0.08) == [1, 2]


def test_a_short_gap_keeps_the_number_and_a_long_one_does_not() -> None:
    for gap, expected in ((0.8, 1), (3.0, 2)):
        tracker = Tracker(TrackingOptions(hits=1))
        numbers(tracker, [face(0)], 0.0)
        for step in range(1, round(gap * 10)):
            numbers(tracker, [], step / 10)
        assert numbers(tracker, [face(0)], gap) == [expected]


def test_few_frames_a_second_are_followed_too() -> None:
    tracker = Tracker()
    for step in range(8):
        assert numbers(tracker, [face(20 * step)], 2.0 * step) == [1]


def looks_of(*who: int) -> np.ndarray:
    """Descriptions that tell people apart exactly."""
    return np.eye(4, dtype=np.uint8)[list(who)]


def test_looks_find_a_face_again_after_a_cut() -> None:
    tracker = Tracker()
    tracker.update([face(0), face(200)], 0.0, looks=looks_of(0, 1))
    tracker.update([face(100)], 0.04, cut=True, looks=looks_of(2))
    found = tracker.update([face(10), face(150)], 5.0, cut=True, looks=looks_of(1, 0))
    assert [track and track.number for track in found] == [2, 1]


def test_a_cut_without_looks_starts_new_tracks_at_the_same_place() -> None:
    tracker = Tracker()
    numbers(tracker, [face(0)], 0.0)
    found = tracker.update([face(0)], 0.04, cut=True)
    assert [track and track.number for track in found] == [2]


def test_coasting_moves_faces_on_at_their_speed() -> None:
    tracker = Tracker()
    for step in range(20):
        tracker.update([face(3 * step)], step / 25)
    (track,) = tracker.coast(20 / 25)
    assert track.motion.box.x1 == pytest.approx(60, abs=1.5)


def test_the_filter_is_a_kalman_filter() -> None:
    """One coordinate against the textbook's matrices."""
    motion = Motion.start(Box(0, 0, 10, 10))
    mean, cov = motion.mean[0].copy(), motion.covariance[0].copy()
    motion.predict(0.1)
    step = np.array([[1, 0.1], [0, 1]])
    push = np.array([0.005, 0.1])
    mean, cov = step @ mean, step @ cov @ step.T + 40.0**2 * np.outer(push, push)
    motion.update(Box(3, 0, 13, 10))
    observe = np.array([[1.0, 0.0]])
    gain = cov @ observe.T / (observe @ cov @ observe.T + 0.6**2)
    mean = mean + (gain * (8 - mean[0])).ravel()
    assert motion.mean[0] == pytest.approx(mean)
    assert motion.covariance[0] == pytest.approx((np.eye(2) - gain @ observe) @ cov)


def test_lost_tracks_are_forgotten() -> None:
    tracker = Tracker()
    for step in range(500):
        tracker.update([face(100 * (step % 7), 300 * (step % 3))], 10.0 * step)
    assert len(tracker._tracks) < 5


def test_a_cut_is_seen_and_motion_and_light_are_not() -> None:
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 100, (9, 16, 3)).repeat(20, 0).repeat(20, 1).astype(np.uint8)
    other = (255 - rng.integers(0, 100, (9, 16, 3)).repeat(20, 0).repeat(20, 1)).astype(np.uint8)
    brighter = np.minimum(scene.astype(int) + 20, 255).astype(np.uint8)
    cuts = CutDetector()
    frames = [scene, np.roll(scene, 8, axis=1), scene, brighter, other, other]
    assert [cuts(image) for image in frames] == [False, False, False, False, True, False]


def test_a_cut_between_scenes_of_like_colours_is_seen() -> None:
    rng = np.random.default_rng(1)
    blocks = rng.integers(0, 250, (144, 3))
    other = rng.permutation(blocks)
    other[:43] = 255 - other[:43] // 2  # seven in ten blocks are only elsewhere
    frames = [
        one.reshape(9, 16, 3).repeat(20, 0).repeat(20, 1).astype(np.uint8)
        for one in (blocks, other)
    ]
    cuts = CutDetector()
    assert [cuts(image) for image in frames] == [False, True]


def test_looks_keep_faces_apart_that_cross() -> None:
    for looks in (None, looks_of(0, 1)):
        tracker = Tracker()
        tracker.update([face(0), face(30)], 0.0, looks=looks)
        # both have moved so that overlap alone would swap them
        found = tracker.update([face(22), face(8)], 0.04, looks=looks)
        numbers = [track and track.number for track in found]
        assert numbers == ([2, 1] if looks is None else [1, 2])
