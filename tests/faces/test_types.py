"""The value types, the several-emotions rule, the names of emotions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faces.emotions import ALIASES, EMOTIONS, canonical_emotion
from faces.types import (
    DEFAULT_THRESHOLD,
    UNSURE_BELOW,
    Box,
    Detection,
    EmotionProbabilities,
    Face,
    ImageResult,
)

whole = st.integers(-50, 50)
spans = st.integers(1, 40)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    x, y = draw(whole), draw(whole)
    return Box(x, y, x + draw(spans), y + draw(spans))


@st.composite
def probabilities(draw: st.DrawFn) -> tuple[float, ...]:
    weights = draw(st.lists(st.integers(0, 20), min_size=7, max_size=7).filter(any))
    return tuple(w / sum(weights) for w in weights)


def test_order_is_fer2013s() -> None:
    assert EMOTIONS == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


@pytest.mark.parametrize("name", [*EMOTIONS, *ALIASES])
def test_names_in_any_spelling(name: str) -> None:
    expected = ALIASES.get(name, name)
    assert expected in EMOTIONS
    for spelling in (name, name.upper(), f"  {name.title()} "):
        assert canonical_emotion(spelling) == expected


def test_unknown_emotion() -> None:
    with pytest.raises(ValueError, match=r"'contempt'.*angry.*anger"):
        canonical_emotion("contempt")


@given(boxes(), boxes())
def test_overlap_by_counting_pixels(first: Box, second: Box) -> None:
    def pixels(box: Box) -> set[tuple[int, int]]:
        xs, ys = range(int(box.x1), int(box.x2)), range(int(box.y1), int(box.y2))
        return {(x, y) for x in xs for y in ys}

    a, b = pixels(first), pixels(second)
    assert first.area == len(a)
    assert first.intersection(second) == len(a & b)
    assert first.iou(second) == second.iou(first) == pytest.approx(len(a & b) / len(a | b))
    assert first.iou(first) == 1


@pytest.mark.parametrize(
    "corners",
    [(0, 0, 0, 1), (0, 0, 1, 0), (2, 0, 1, 1), (math.nan, 0, 1, 1), (0, 0, math.inf, 1)],
)
def test_boxes_that_are_none(corners: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match="box"):
        Box(*corners)


@pytest.mark.parametrize("score", [-0.1, 1.1, math.nan])
def test_scores_out_of_range(score: float) -> None:
    with pytest.raises(ValueError, match="score"):
        Detection(Box(0, 0, 1, 1), score)


@pytest.mark.parametrize(
    "values",
    [
        (1.0,),
        (1.0, 0, 0, 0, 0, 0, 0, 0),
        (0.5, 0, 0, 0, 0, 0, 0),
        (1.5, -0.5, 0, 0, 0, 0, 0),
        (math.nan, 0, 0, 0, 0, 0, 1),
        (0,) * 7,
    ],
)
def test_probabilities_that_are_none(values: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="probabilities"):
        EmotionProbabilities(values)
    with pytest.raises(ValueError, match="probabilities"):
        EmotionProbabilities.from_row(values)


def test_rounding_of_float32_is_tolerated() -> None:
    row = np.float32([1.0000001, -1e-9, 0, 0, 0, 0, 0])
    assert EmotionProbabilities.from_row(row).probabilities[:2] == (1.0, 0.0)


@given(probabilities(), st.floats(0, 1))
def test_labels_are_those_at_or_above_the_threshold(
    values: tuple[float, ...], threshold: float
) -> None:
    scores = EmotionProbabilities(values)
    labels = scores.labels(threshold)
    assert set(labels) == {e for e, p in zip(EMOTIONS, values, strict=True) if p >= threshold}
    shares = [scores.as_dict()[label] for label in labels]
    assert shares == sorted(shares, reverse=True)
    assert scores.unsure(threshold) == (not labels or max(values) < UNSURE_BELOW)
    if labels:
        assert labels[0] == scores.top
    assert labels == scores.labels(dict.fromkeys(EMOTIONS, threshold))


def test_labels_by_hand() -> None:
    scores = EmotionProbabilities((0.3, 0.3, 0.0, 0.25, 0.05, 0.05, 0.05))
    assert DEFAULT_THRESHOLD == 0.3
    assert scores.labels() == ["angry", "disgust"]
    assert scores.labels({"happy": 0.2, "angry": 0.31}) == ["disgust", "happy"]
    assert scores.labels(1.0) == []
    assert scores.top == "angry"


def test_faces_are_numbered_from_left_to_right_whatever_their_order() -> None:
    emotions = EmotionProbabilities((1.0, 0, 0, 0, 0, 0, 0))
    boxes = [(50, 0, 60, 9), (0, 0, 10, 9), (40, 30, 70, 39), (20, 0, 29, 9)]
    faces = tuple(Face(Detection(Box(*box), 0.9), emotions) for box in boxes)
    assert ImageResult("a", 100, 50, 0.0, faces).numbers == (3, 1, 4, 2)
    assert ImageResult("a", 100, 50, 0.0, ()).numbers == ()
