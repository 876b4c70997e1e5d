"""Miss rate against FPPI: by hand, and by matching again at every threshold."""

from __future__ import annotations

import math

import numpy as np
import pytest

from eval.metrics.miss_rate import REFERENCE_FPPI, log_average
from faces.boxes import Verdict, match
from faces.coco import AnnotatedImage, Detections, GroundTruthFace
from faces.ranking import rank
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


def test_rates_equal_counting_by_hand() -> None:
    # by score: hit .9, duplicate .8, false .7, hit .6, over two images and three faces
    scenes = [scene(A, B), scene(A)]
    detections = [found((A, 0.9), (A, 0.8), (B, 0.6)), found((FAR, 0.7))]
    ranked = rank(scenes, detections)
    assert ranked.scores.tolist() == [0.9, 0.8, 0.7, 0.6]
    assert ranked.false_positives_per_image().tolist() == [0, 0.5, 1, 1]
    assert ranked.duplicates_per_image().tolist() == [0, 0.5, 0.5, 0.5]
    assert ranked.f1() == pytest.approx([2 / 4, 2 / 5, 2 / 6, 4 / 7])
    assert ranked.miss_rate(np.array([0.01, 0.5, 0.99, 1.0, 9])) == pytest.approx(
        [2 / 3, 2 / 3, 2 / 3, 1 / 3, 1 / 3]
    )


def test_detections_of_equal_score_are_shown_together() -> None:
    ranked = rank([scene(A)], [found((A, 0.5), (FAR, 0.5))])
    assert ranked.miss_rate(np.array([0.5, 1.0])).tolist() == [1, 0]


def test_ignored_detections_and_images_with_unlabelled_faces_do_not_count() -> None:
    scenes = [scene(A, B, ignored=(1,)), scene(A, unlabelled=True)]
    ranked = rank(scenes, [found((B, 0.9), (A, 0.8)), found((FAR, 0.7), (A, 0.6))])
    assert (ranked.faces, ranked.images, ranked.images_for_false) == (2, 2, 1)
    assert ranked.scores.tolist() == [0.8, 0.7, 0.6]
    assert ranked.miss_rate(np.array([0.01])).tolist() == [0]


def test_without_faces_or_detections_rates_are_undefined_or_one() -> None:
    assert np.isnan(rank([scene()], [found((A, 0.5))]).miss_rate(REFERENCE_FPPI)).all()
    assert rank([scene(A)], [found()]).miss_rate(REFERENCE_FPPI).tolist() == [1] * 9
    assert rank([scene(A)], [found()]).f1().size == 0


def test_log_average_is_the_geometric_mean() -> None:
    assert log_average(np.full(9, 0.25)) == pytest.approx(0.25)
    assert log_average(np.array([1.0, 0.25])) == pytest.approx(0.5)
    assert math.isnan(log_average(np.array([math.nan] * 9)))


@pytest.mark.parametrize("seed", range(3))
def test_miss_rate_agrees_with_matching_at_each_threshold(seed: int) -> None:
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
    ranked = rank(scenes, detections)
    points = []
    for threshold in range(1, 9):
        shown = [d.above(threshold) for d in detections]
        verdicts = np.concatenate(
            [
                match(d.boxes, d.scores, s.boxes, s.ignored).verdict
                for s, d in zip(scenes, shown, strict=True)
            ]
        )
        wrong = np.isin(verdicts, [Verdict.FALSE_POSITIVE, Verdict.DUPLICATE]).sum() / 6
        points.append((wrong, 1 - (verdicts == Verdict.MATCHED).sum() / 18))
    for fppi in (0.1, 0.5, 1.0, 2.0, 5.0):
        expected = min([1.0, *(miss for wrong, miss in points if wrong <= fppi)])
        assert ranked.miss_rate(np.array([fppi]))[0] == pytest.approx(expected)
