from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, Instances

from detection.training.evaluator import (
    FaceEvaluator,
    average_precision,
    choose_threshold,
    error_rates,
    result,
)
from eval import detection as detection_report
from faces.coco import AnnotatedImage, Detections, GroundTruthFace
from faces.types import Box


def picture(image_id: int, *boxes: tuple[float, ...], crowd: int = 0) -> dict[str, Any]:
    annotations = [{"bbox": list(b), "iscrowd": crowd} for b in boxes]
    return {
        "image_id": image_id,
        "file_name": f"{image_id}.jpg",
        "width": 200,
        "height": 200,
        "annotations": annotations,
    }


A, B, C = (10, 10, 50, 50), (100, 10, 160, 70), (20, 100, 60, 150)
FAR = (150, 150, 190, 190)


def test_perfect_detections() -> None:
    truth = [picture(1, A, B), picture(2, C)]
    results = [result(1, A, 0.9), result(1, B, 0.8), result(2, C, 0.7)]
    metrics = average_precision(truth, results)
    assert metrics["AP"] == metrics["AP50"] == pytest.approx(100)
    assert math.isnan(metrics["APl"])
    threshold, f1 = choose_threshold(truth, results)
    assert (threshold, f1) == (0.7, 1.0)


def test_average_precision_by_hand() -> None:
    # by score: hit, miss, hit; two faces. Precision 1 up to recall 1/2, then 2/3:
    # of COCO's 101 recall points 0, .01, … 1, 51 lie at or below 1/2
    truth = [picture(1, A, B)]
    results = [result(1, A, 0.9), result(1, FAR, 0.8), result(1, B, 0.7)]
    expected = 100 * (51 * 1 + 50 * 2 / 3) / 101
    assert average_precision(truth, results)["AP50"] == pytest.approx(expected)
    # F1 after one, two, three detections: 2/3, 1/2, 4/5
    assert choose_threshold(truth, results) == (0.7, pytest.approx(0.8))


def test_the_threshold_cuts_off_what_is_mostly_wrong() -> None:
    truth = [picture(1, A, B)]
    results = [result(1, A, 0.9), result(1, B, 0.6)]
    results += [result(1, (x, 150, x + 20, 180), 0.3) for x in range(0, 100, 10)]
    assert choose_threshold(truth, results) == (0.6, 1.0)


def test_ignored_regions_neither_help_nor_hurt() -> None:
    truth = [picture(1, A), picture(2, B, crowd=1)]
    results = [result(1, A, 0.5), result(2, B, 0.9), result(2, (105, 15, 150, 60), 0.9)]
    assert average_precision(truth, results)["AP50"] == pytest.approx(100)
    assert choose_threshold(truth, results) == (0.5, 1.0)


def test_nothing_to_measure() -> None:
    assert math.isnan(average_precision([picture(1)], [])["AP"])
    assert average_precision([picture(1, A)], [])["AP"] == 0
    assert math.isnan(average_precision([picture(1)], [result(1, A, 0.9)])["AP"])
    assert choose_threshold([picture(1)], [result(1, A, 0.9)]) == (0.5, 0.0)
    assert choose_threshold([picture(1, A)], []) == (0.5, 0.0)


def test_the_evaluator_ignores_small_faces_and_sees_what_it_is_given() -> None:
    name = "test_evaluator_set"
    small = (5.0, 5.0, 15.0, 40.0)
    if name not in DatasetCatalog.list():
        DatasetCatalog.register(name, lambda: [picture(1, A, small)])
    instances = Instances((200, 200))
    instances.pred_boxes = Boxes(torch.tensor([A, small], dtype=torch.float32))
    instances.scores = torch.tensor([0.5, 0.9])
    for least, expected in ((0, 100.0), (16, 100.0)):
        evaluator = FaceEvaluator(name, least)
        evaluator.reset()
        evaluator.process([{"image_id": 1}], [{"instances": instances}])
        metrics = evaluator.evaluate()
        assert metrics is not None and metrics["bbox"]["AP50"] == pytest.approx(expected)
        assert sum(a["iscrowd"] for a in evaluator.truth[0]["annotations"]) == (least > 10)
    evaluator.reset()
    assert evaluator.results == []


def test_error_rates_by_hand() -> None:
    truth = [picture(1, A, B), picture(2, C, crowd=1)]
    inside = (12, 12, 30, 30)
    results = [result(1, A, 0.9), result(1, inside, 0.8), result(1, FAR, 0.7), result(1, B, 0.4)]
    results.append(result(2, C, 0.9))
    assert error_rates(truth, results, 0.5) == {
        "coverage": 0.5,
        "false_per_image": 0.5,
        "duplicates_per_image": 0.5,
    }
    assert error_rates(truth, results, 0.3)["coverage"] == 1
    assert error_rates(truth, results, 0.95) == {
        "coverage": 0,
        "false_per_image": 0,
        "duplicates_per_image": 0,
    }
    assert math.isnan(error_rates([], [], 0.5)["false_per_image"])


@pytest.mark.parametrize("seed", range(4))
def test_error_rates_agree_with_eval_detections(seed: int) -> None:
    """Two implementations of one definition: over pycocotools here, in numpy there."""
    rng = np.random.default_rng(seed)
    truth, results, scenes, matchings = [], [], [], []
    for number in range(1, 13):
        corners = rng.uniform(0, 120, (int(rng.integers(0, 5)), 2))
        faces = np.hstack([corners, corners + rng.uniform(20, 70, (len(corners), 2))])
        crowd = rng.random(len(faces)) < 0.2
        record = picture(number, *map(tuple, faces.tolist()))
        for annotation, flag in zip(record["annotations"], crowd, strict=True):
            annotation["iscrowd"] = int(flag)
        truth.append(record)
        near = np.repeat(faces, 3, axis=0) + rng.uniform(-14, 14, (3 * len(faces), 4))
        parts = np.hstack([faces[:, :2] + 3, (faces[:, :2] + faces[:, 2:]) / 2])
        boxes = np.vstack([near, parts, [[150.0, 150, 190, 190]]])
        scores = rng.random(len(boxes))
        results += [result(number, b, s) for b, s in zip(boxes.tolist(), scores, strict=True)]
        made = zip(faces.tolist(), crowd.tolist(), strict=True)
        scene = AnnotatedImage(
            number,
            "x",
            None,
            False,
            tuple(GroundTruthFace(Box(*box), "face", flag) for box, flag in made),
        )
        scenes.append(scene)
        matchings.append(detection_report.match_shown(scene, Detections(boxes, scores), 0.3))
    expected = detection_report.error_rates(scenes, matchings)
    got = error_rates(truth, results, 0.3)
    assert got["false_per_image"] == pytest.approx(expected["false_per_image"])
    assert got["duplicates_per_image"] == pytest.approx(expected["duplicates_per_image"])
    assert got["duplicates_per_image"] > 0


def test_the_evaluator_drops_what_a_better_box_contains() -> None:
    name = "test_containment_set"
    if name not in DatasetCatalog.list():
        DatasetCatalog.register(name, lambda: [picture(1, A)])
    instances = Instances((200, 200))
    instances.pred_boxes = Boxes(torch.tensor([(15, 15, 40, 40), A], dtype=torch.float32))
    instances.scores = torch.tensor([0.5, 0.9])
    for containment, left in ((1.1, [0.9, 0.5]), (0.7, [0.9])):
        evaluator = FaceEvaluator(name, 0, containment)
        evaluator.process([{"image_id": 1}], [{"instances": instances}])
        assert [row["score"] for row in evaluator.results] == pytest.approx(left)
