"""Smoothing, moods, changes, curves of bounded size."""

from __future__ import annotations

import math

import numpy as np
import pytest

from faces.emotions import EMOTIONS
from faces.types import EmotionProbabilities
from tests.stand_ins import probabilities
from video.mood import Curve, Smoother, SmoothingOptions, TrackSummary

HAPPY, SAD = probabilities(happy=0.9), probabilities(sad=0.9)


def test_a_step_is_answered_by_the_filters_exponential() -> None:
    smoother = Smoother(SmoothingOptions(seconds=0.5))
    smoother.update(HAPPY, 0.0)
    for time in (0.1, 0.25, 1.0):
        found = smoother.update(SAD, time)["happy"]
        low, high = SAD[EMOTIONS.index("happy")], HAPPY[EMOTIONS.index("happy")]
        assert found == pytest.approx(low + (high - low) * math.exp(-time / 0.5))


def test_the_filter_does_not_depend_on_the_frame_rate() -> None:
    answers = []
    for rate in (10, 50):
        smoother = Smoother(SmoothingOptions(seconds=0.3))
        smoother.update(HAPPY, 0.0)
        for step in range(1, rate + 1):
            last = smoother.update(SAD, step / rate)
        answers.append(last.probabilities)
    assert answers[0] == pytest.approx(answers[1])


def test_smoothed_probabilities_sum_to_one() -> None:
    rng = np.random.default_rng(0)
    smoother = Smoother()
    for step in range(200):
        found = smoother.update(rng.dirichlet(np.ones(7)), step / 25)
        assert sum(found.probabilities) == pytest.approx(1)


def test_a_single_different_frame_does_not_change_the_mood() -> None:
    smoother = Smoother()
    moods = []
    for step in range(20):
        smoother.update(SAD if step == 10 else HAPPY, step / 25)
        moods.append(smoother.mood)
    assert moods == ["happy"] * 20


def test_a_lasting_change_becomes_the_mood() -> None:
    smoother = Smoother()
    for step in range(50):
        smoother.update(HAPPY if step < 25 else SAD, step / 25)
    assert smoother.mood == "sad"


def test_after_a_long_gap_the_filter_starts_again() -> None:
    smoother = Smoother(SmoothingOptions(gap=2.0))
    smoother.update(HAPPY, 0.0)
    assert smoother.update(SAD, 2.5).probabilities == pytest.approx(SAD)
    assert smoother.mood == "sad"


def test_without_smoothing_each_frame_stands_alone() -> None:
    smoother = Smoother(SmoothingOptions(seconds=0, lead=0))
    smoother.update(HAPPY, 0.0)
    assert smoother.update(SAD, 0.04).probabilities == pytest.approx(SAD)


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
