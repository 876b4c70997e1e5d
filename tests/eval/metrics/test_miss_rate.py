"""Miss rate against false faces per picture: by hand, and by matching anew at every threshold."""

from __future__ import annotations

import math

import numpy as np
import pytest

from eval.metrics.miss_rate import AVERAGED, judge, log_average
from faces.boxes import Verdict, match
from faces.coco import AnnotatedImage, Detections, GroundTruthFace
from faces.types import Box

Corners = tuple[float, float, float, float]
A: Corners = (0, 0, 100, 100)
B: Corners = (200, 0, 300, 100)
FAR: Corners = (500, 500, 600, 600)


def scene(
    *faces: Corners, ignored: tuple[int, ...] = (), unlabelled: bool = False
) -> AnnotatedImage:
    made = (GroundTruthFace(Box(*b), "face", i in ignored) for i, b in enumerate(faces))
    return AnnotatedImage(1, "1.png", None, unlabelled, tuple(made))


def found(*rows: tuple[Corners, float]) -> Detections:
    return Detections.of(list(rows))


def test_by_hand() -> None:
    # by score: hit .9, duplicate .8, false .7, hit .6, over two pictures and three faces
    scenes = [scene(A, B), scene(A)]
    detections = [found((A, 0.9), (A, 0.8), (B, 0.6)), found((FAR, 0.7))]
    judged = judge(scenes, detections)
    assert judged.scores.tolist() == [0.9, 0.8, 0.7, 0.6]
    assert judged.wrong_per_image().tolist() == [0, 0.5, 1, 1]
    assert judged.duplicates_per_image().tolist() == [0, 0.5, 0.5, 0.5]
    assert judged.f1() == pytest.approx([2 / 4, 2 / 5, 2 / 6, 4 / 7])
    assert judged.miss_rate(np.array([0.01, 0.5, 0.99, 1.0, 9])) == pytest.approx(
        [2 / 3, 2 / 3, 2 / 3, 1 / 3, 1 / 3]
    )


def test_equal_scores_are_shown_together() -> None:
    judged = judge([scene(A)], [found((A, 0.5), (FAR, 0.5))])
    assert judged.miss_rate(np.array([0.5, 1.0])).tolist() == [1, 0]


def test_ignored_ones_and_unlabelled_pictures() -> None:
    scenes = [scene(A, B, ignored=(1,)), scene(A, unlabelled=True)]
    judged = judge(scenes, [found((B, 0.9), (A, 0.8)), found((FAR, 0.7), (A, 0.6))])
    assert (judged.faces, judged.pictures, judged.pictures_for_false) == (2, 2, 1)
    assert judged.scores.tolist() == [0.8, 0.7, 0.6]
    assert judged.miss_rate(np.array([0.01])).tolist() == [0]


def test_nothing() -> None:
    assert np.isnan(judge([scene()], [found((A, 0.5))]).miss_rate(AVERAGED)).all()
    assert judge([scene(A)], [found()]).miss_rate(AVERAGED).tolist() == [1] * 9
    assert judge([scene(A)], [found()]).f1().size == 0


def test_the_log_average() -> None:
    assert log_average(np.full(9, 0.25)) == pytest.approx(0.25)
    assert log_average(np.array([1.0, 0.25])) == pytest.approx(0.5)
    assert math.isnan(log_average(np.array([math.nan] * 9)))


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_matching_at_each_threshold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scenes, detections = [], []
    for _ in range(6):
        truth = [(x, y, x + 40, y + 40) for x, y in rng.uniform(0, 200, (4, 2))]
        rows = [
            (tuple((np.array(box) + rng.uniform(-15, 15, 4)).tolist()), float(rng.integers(1, 9)))
            for box in truth * 2
        ]
        rows += [((x, 300.0, x + 30, 330.0), float(rng.integers(1, 9))) for x in (1.0, 90.0)]
        scenes.append(scene(*truth, ignored=(3,)))  # type: ignore[arg-type]
        detections.append(Detections.of(rows))  # type: ignore[arg-type]
    judged = judge(scenes, detections)
    points = []
    for threshold in range(1, 9):
        shown = [d.above(threshold) for d in detections]
        verdicts = np.concatenate(
            [
                match(d.boxes, d.scores, s.boxes, s.ignored).verdict
                for s, d in zip(scenes, shown, strict=True)
            ]
        )
        wrong = np.isin(verdicts, [Verdict.FALSE, Verdict.DUPLICATE]).sum() / 6
        points.append((wrong, 1 - (verdicts == Verdict.MATCHED).sum() / 18))
    for price in (0.1, 0.5, 1.0, 2.0, 5.0):
        expected = min([1.0, *(miss for wrong, miss in points if wrong <= price)])
        assert judged.miss_rate(np.array([price]))[0] == pytest.approx(expected)
