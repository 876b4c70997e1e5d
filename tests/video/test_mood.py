"""Smoothing, moods, changes, curves of bounded size."""

from __future__ import annotations

import numpy as np
import pytest

from faces.emotions import EMOTIONS
from faces.types import Box, Detection, EmotionProbabilities, Face
from tests.stand_ins import probabilities
from video.analyze import Settler, VideoFace, VideoFrame, settled
from video.mood import Curve, Smoother, SmoothingOptions, TrackSummary, median

HAPPY, SAD = probabilities(happy=0.9), probabilities(sad=0.9)


def test_smoothed_is_the_median_of_what_was_just_seen() -> None:
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.ones(7), 60)
    smoother = Smoother(SmoothingOptions(seconds=0.1))
    for step, row in enumerate(rows):
        found = smoother.update(row.tolist(), step / 25)
        window = np.median(rows[max(step - 5, 0) : step + 1], axis=0)
        assert found.probabilities == pytest.approx(tuple(window / window.sum()))


def test_rows_that_are_each_sure_of_another_emotion_give_their_mean() -> None:
    found = median(np.eye(7)[:3].tolist())
    assert found.probabilities == pytest.approx((1 / 3, 1 / 3, 1 / 3, 0, 0, 0, 0))


def test_a_lasting_change_becomes_the_mood_and_a_flash_does_not() -> None:
    smoother = Smoother(SmoothingOptions(seconds=0.2))
    moods = ""
    for step in range(60):
        row = SAD if step == 10 or step >= 30 else HAPPY
        moods += smoother.update(row, step / 25).top[0]
    assert moods == "h" * 35 + "s" * 25  # late by the filter's 0.2 s


def test_after_a_gap_the_filter_starts_again() -> None:
    smoother = Smoother()
    smoother.update(HAPPY, 0.0)
    assert smoother.update(SAD, 2.5).probabilities == pytest.approx(SAD)


def test_without_smoothing_each_frame_stands_alone() -> None:
    smoother = Smoother(SmoothingOptions(seconds=0))
    smoother.update(HAPPY, 0.0)
    assert smoother.update(SAD, 0.04).probabilities == pytest.approx(SAD)


def shown(emotions: str, track: int | None = 1) -> list[VideoFrame]:
    """Frames, 10 a second, of one face."""
    frames = []
    for step, letter in enumerate(emotions):
        row = EmotionProbabilities.from_row(HAPPY if letter == "h" else SAD)
        one = VideoFace(track, Face(Detection(Box(0, 0, 9, 9), 0.9), row), row, row.top)
        frames.append(VideoFrame("a", step, step / 10, 0.1, 9, 9, False, (one,)))
    return frames


def test_what_follows_settles_a_change_where_it_is() -> None:
    found = list(settled(shown("hhhhshhhhssssssshhhhh"), SmoothingOptions(seconds=0.2)))
    assert [frame.index for frame in found] == list(range(21))
    assert "".join(frame.faces[0].mood[0] for frame in found) == "hhhhhhhhhssssssshhhhh"


def test_a_face_without_a_track_keeps_its_own_answer() -> None:
    found = list(settled(shown("hhshh", track=None), SmoothingOptions(seconds=0.2)))
    assert "".join(frame.faces[0].mood[0] for frame in found) == "hhshh"


def test_frames_come_out_as_soon_as_they_are_settled() -> None:
    settler = Settler(SmoothingOptions(seconds=0.2))
    came = [[ready.index for ready in settler.take(frame)] for frame in shown("hhhhhh")]
    assert came == [[], [], [], [0], [1], [2]]
    assert [ready.index for ready in settler.finish()] == [3, 4, 5]


def summary(moods: str, rate: int = 10) -> TrackSummary:
    track = TrackSummary(1, 0.0)
    names = {"h": "happy", "s": "sad"}
    rows = {"h": EmotionProbabilities(HAPPY), "s": EmotionProbabilities(SAD)}
    for index, letter in enumerate(moods):
        track.add(index / rate, 1 / rate, rows[letter], names[letter])
    return track


def test_changes_are_those_that_last() -> None:
    track = summary("h" * 10 + "s" * 2 + "h" * 10 + "s" * 10)
    assert [(one.time, one.mood) for one in track.changes] == [(0.0, "happy"), (2.2, "sad")]


def test_shares_sum_to_one() -> None:
    shares = summary("h" * 30 + "s" * 10).shares()
    assert shares["happy"] == pytest.approx(0.75) and shares["sad"] == pytest.approx(0.25)
    assert sum(shares.values()) == pytest.approx(1)


def test_each_minute_has_its_means() -> None:
    track = summary("h" * 600 + "s" * 300)
    minutes = track.per_minute()
    assert [one["minute"] for one in minutes] == [0, 1]
    assert minutes[0]["happy"] == pytest.approx(0.9) and minutes[1]["sad"] == pytest.approx(0.9)


def test_a_curve_stays_small_and_keeps_its_mean() -> None:
    curve = Curve(most=50, width=0.1)
    for step in range(20_000):
        curve.add(step / 25, HAPPY if step < 10_000 else SAD)
    times, rows = curve.points()
    assert len(times) <= 50 and times[-1] == pytest.approx(800, abs=20)
    happy = rows[:, EMOTIONS.index("happy")]
    assert happy[0] == pytest.approx(0.9) and happy[-1] == pytest.approx(SAD[3])
