"""The joint figures against loops over faces, lists of pictures, and pycocotools by emotion."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.data.pairs import Answers, TrueFaces
from eval.metrics.average_precision import match_images
from eval.metrics.average_precision import summarise as ap_summary
from eval.metrics.bootstrap import Bootstrap
from eval.metrics.joint import collect, emotion_ap50, metrics_of, summarise
from faces.boxes import Verdict, match
from faces.coco import AnnotatedImage, Detections, GroundTruthFace
from faces.emotions import EMOTIONS
from faces.types import Box


def made(seed: int, pictures: int = 6) -> tuple[list[AnnotatedImage], TrueFaces, Answers]:
    """Random pictures, with faces in a row and detections on and beside them."""
    rng = np.random.default_rng(seed)
    scenes: list[AnnotatedImage] = []
    faces, answers = TrueFaces(), Answers("d", "c")
    image = np.zeros((100, 700, 3), np.uint8)
    for number in range(pictures):
        truth = [
            GroundTruthFace(
                Box(100 * i, 10, 100 * i + 50, 60),
                EMOTIONS[int(rng.integers(7))],
                bool(rng.random() < 0.15),
                bool(rng.random() < 0.2),
            )
            for i in range(int(rng.integers(0, 5)))
        ]
        scene = AnnotatedImage(
            number, f"{number}.png", None, bool(rng.random() < 0.3), tuple(truth)
        )
        count = int(rng.integers(0, 7))
        corners = rng.integers(0, 7, count) * 100.0 + rng.integers(-30, 30, count)
        boxes = np.stack([corners, np.full(count, 10), corners + 50, np.full(count, 60)], 1)
        found = Detections(boxes, rng.uniform(0.001, 1, count).round(3))
        shown = np.flatnonzero(found.scores >= 0.5)
        rows = rng.dirichlet(np.ones(7), count).astype(np.float32).reshape(-1, 7)
        scenes.append(scene)
        faces.add(number, scene, image)
        answers.detections.append(found)
        answers.probabilities.append(rows)
        answers.shown.append(shown)
        answers.matchings.append(
            match(boxes[shown], found.scores[shown], scene.boxes, scene.ignored)
        )
        counted = int((~scene.ignored).sum())
        answers.on_true_boxes.append(
            rng.dirichlet(np.ones(7), counted).astype(np.float32).reshape(-1, 7)
        )
    return scenes, faces, answers


def by_loops(scenes: list[AnnotatedImage], answers: Answers, drawn: list[int]) -> dict[str, float]:
    """Count face by face over a list of pictures, which may come several times."""
    n: Counter[str] = Counter()
    true: Counter[str] = Counter()
    hit: Counter[str] = Counter()
    named: Counter[str] = Counter()
    for number in drawn:
        scene, matching = scenes[number], answers.matchings[number]
        rows = answers.probabilities[number][answers.shown[number]]
        n["pictures"] += 1
        n["complete"] += not scene.unlabelled_faces
        through = iter(answers.on_true_boxes[number])
        for index, face in enumerate(scene.faces):
            if face.ignored:
                continue
            n["faces"] += 1
            true[face.category] += 1
            on_truth = EMOTIONS[int(next(through).argmax())] == face.category
            n["right on truth"] += on_truth
            for place in np.flatnonzero(matching.face == index):
                n["found"] += 1
                n["right on truth, found"] += on_truth
                if EMOTIONS[int(rows[place].argmax())] == face.category:
                    n["right"] += 1
                    hit[face.category] += 1
        for place, verdict in enumerate(matching.verdict):
            false = verdict == Verdict.FALSE_POSITIVE
            n["false"] += false and not scene.unlabelled_faces
            n["duplicates"] += verdict == Verdict.DUPLICATE
            if verdict != Verdict.IGNORED and not (false and scene.unlabelled_faces):
                named[EMOTIONS[int(rows[place].argmax())]] += 1

    def ratio(part: float, whole: float) -> float:
        return part / whole if whole else math.nan

    emotions = [e for e in EMOTIONS if true[e]]
    return {
        "coverage": ratio(n["found"], n["faces"]),
        "accuracy_on_matched": ratio(n["right"], n["found"]),
        "accuracy_on_true_boxes": ratio(n["right on truth"], n["faces"]),
        "true_box_accuracy_of_matched": ratio(n["right on truth, found"], n["found"]),
        "cascade_gap": ratio(n["right on truth"], n["faces"]) - ratio(n["right"], n["found"]),
        "joint_accuracy": ratio(n["right"], n["faces"]),
        "macro_joint_accuracy": ratio(sum(hit[e] / true[e] for e in emotions), len(emotions)),
        "macro_f1": ratio(sum(2 * hit[e] / (true[e] + named[e]) for e in emotions), len(emotions)),
        "false_per_image": ratio(n["false"], n["complete"]),
        "duplicates_per_image": ratio(n["duplicates"], n["pictures"]),
    }


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_metrics_equal_counting_by_loops(seed: int) -> None:
    scenes, faces, answers = made(seed)
    metrics = metrics_of(collect(scenes, faces, answers))
    whole = np.ones((1, len(scenes)))
    expected = by_loops(scenes, answers, list(range(len(scenes))))
    assert set(metrics) == set(expected)
    for name, metric in metrics.items():
        assert metric(whole)[0] == pytest.approx(expected[name], nan_ok=True), name


def test_intervals_equal_resampling_lists_of_images() -> None:
    scenes, faces, answers = made(1, pictures=12)
    [row] = summarise(scenes, faces, [answers])
    weights = Bootstrap.of(12).weights.astype(int)
    drawn = [by_loops(scenes, answers, np.repeat(np.arange(12), w).tolist()) for w in weights]
    for name in ("coverage", "joint_accuracy", "false_per_image", "cascade_gap"):
        expected = np.nanpercentile([figures[name] for figures in drawn], [2.5, 97.5])
        assert row[f"{name}_ci"] == pytest.approx(tuple(expected)), name


def test_differences_are_taken_on_the_same_images() -> None:
    scenes, faces, answers = made(2, pictures=12)
    _, other_faces, other = made(2, pictures=12)
    other.probabilities = [rows[:, ::-1] for rows in other.probabilities]
    one, two = summarise(scenes, faces, [answers, other])
    assert two["joint_accuracy_difference"] == pytest.approx(
        two["joint_accuracy"] - one["joint_accuracy"]
    )
    same = summarise(scenes, other_faces, [answers, answers])[1]
    assert same["joint_accuracy_difference_ci"] == (0, 0)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_ap50_of_an_emotion_equals_pycocotools_on_its_faces(seed: int) -> None:
    scenes, _, answers = made(seed)
    got = emotion_ap50(scenes, answers)
    complete = [s for s in scenes if not s.unlabelled_faces]
    for index, emotion in enumerate(EMOTIONS):
        truth, found = [], []
        for scene in complete:
            kept = tuple(f for f in scene.faces if f.category == emotion or f.ignored)
            truth.append(AnnotatedImage(scene.id, scene.file_name, None, False, kept))
            number = int(scene.id)
            scores = answers.detections[number].scores * answers.probabilities[number][:, index]
            found.append(Detections(answers.detections[number].boxes, scores))
        ap50 = ap_summary(match_images(truth, found))["ap50"]
        assert got[index] == pytest.approx(ap50, nan_ok=True)


def test_accuracy_on_true_boxes_is_nan_where_unknown() -> None:
    scenes, faces, answers = made(3)
    answers.on_true_boxes = [np.full_like(rows, np.nan) for rows in answers.on_true_boxes]
    [row] = summarise(scenes, faces, [answers])
    assert math.isnan(row["accuracy_on_true_boxes"]) and math.isnan(row["cascade_gap"])
    assert not math.isnan(row["joint_accuracy"])
