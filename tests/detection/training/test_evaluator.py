from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, Instances
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detection.data.catalog import to_coco
from detection.training.evaluator import (
    FaceEvaluator,
    average_precision,
    error_rates,
    ranked,
    result,
    select_threshold,
)


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
    threshold, f1 = select_threshold(ranked(truth, results))
    assert (threshold, f1) == (0.7, 1.0)


def test_average_precision_by_hand() -> None:
    # by score: hit, miss, hit; two faces. Precision 1 up to recall 1/2, then 2/3:
    # of COCO's 101 recall points 0, .01, … 1, 51 lie at or below 1/2
    truth = [picture(1, A, B)]
    results = [result(1, A, 0.9), result(1, FAR, 0.8), result(1, B, 0.7)]
    expected = 100 * (51 * 1 + 50 * 2 / 3) / 101
    assert average_precision(truth, results)["AP50"] == pytest.approx(expected)
    # F1 after one, two, three detections: 2/3, 1/2, 4/5
    assert select_threshold(ranked(truth, results)) == (0.7, pytest.approx(0.8))


def test_the_threshold_cuts_off_what_is_mostly_wrong() -> None:
    truth = [picture(1, A, B)]
    results = [result(1, A, 0.9), result(1, B, 0.6)]
    results += [result(1, (x, 150, x + 20, 180), 0.3) for x in range(0, 100, 10)]
    assert select_threshold(ranked(truth, results)) == (0.6, 1.0)


def test_ignored_regions_neither_help_nor_hurt() -> None:
    truth = [picture(1, A), picture(2, B, crowd=1)]
    results = [result(1, A, 0.5), result(2, B, 0.9), result(2, (105, 15, 150, 60), 0.9)]
    assert average_precision(truth, results)["AP50"] == pytest.approx(100)
    assert select_threshold(ranked(truth, results)) == (0.5, 1.0)


def test_nothing_to_measure() -> None:
    assert math.isnan(average_precision([picture(1)], [])["AP"])
    assert average_precision([picture(1, A)], [])["AP"] == 0
    assert math.isnan(average_precision([picture(1)], [result(1, A, 0.9)])["AP"])
    assert select_threshold(ranked([picture(1)], [result(1, A, 0.9)])) == (0.5, 0.0)
    assert select_threshold(ranked([picture(1, A)], [])) == (0.5, 0.0)


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
    assert error_rates(ranked(truth, results), 0.5) == {
        "coverage": 0.5,
        "false_per_image": 0.5,
        "duplicates_per_image": 0.5,
    }
    assert error_rates(ranked(truth, results), 0.3)["coverage"] == 1
    assert error_rates(ranked(truth, results), 0.95) == {
        "coverage": 0,
        "false_per_image": 0,
        "duplicates_per_image": 0,
    }
    assert math.isnan(error_rates(ranked([], []), 0.5)["false_per_image"])


def scene(seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return faces, crowds among them, and boxes near, inside and far from them."""
    rng = np.random.default_rng(seed)
    truth, results = [], []
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
        scores = rng.random(len(boxes)).tolist()
        results += [result(number, b, s) for b, s in zip(boxes.tolist(), scores, strict=True)]
    return truth, results


def evaluated(truth: list[dict[str, Any]], results: list[dict[str, Any]]) -> Any:
    """Let pycocotools match the results with the faces at IoU 0.5."""
    coco = COCO()
    coco.dataset = cast(Any, to_coco(truth))
    coco.createIndex()
    evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
    evaluation.params.maxDets = [1000]
    evaluation.params.iouThrs = np.array([0.5])
    evaluation.evaluate()
    return evaluation


def repeats(evaluation: Any, picture: dict[str, Any], index: int) -> bool:
    """Tell whether an unmatched detection lies on a face that a better one has found."""
    place = {number: i for i, number in enumerate(picture["dtIds"])}
    matches = zip(picture["gtIds"], picture["gtMatches"][0], picture["gtIgnore"], strict=True)
    before = [g for g, match, skip in matches if not skip and 0 <= place.get(match, -1) < index]
    box = [evaluation.cocoDt.anns[picture["dtIds"][index]]["bbox"]]
    faces = [evaluation.cocoGt.anns[number]["bbox"] for number in before]
    if not faces:
        return False
    # with a crowd, the intersection is divided by the detection's own area
    overlap, inside = (np.asarray(mask.iou(box, faces, [n] * len(faces))) for n in (0, 1))
    return bool((overlap >= 0.5).any() or (inside >= 0.7).any())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_error_rates_are_those_of_pycocotools_matches(seed: int, threshold: float) -> None:
    truth, results = scene(seed)
    evaluation = evaluated(truth, [row for row in results if row["score"] >= threshold])
    hits = false = duplicates = 0
    for each in filter(None, evaluation.evalImgs[: len(truth)]):
        matched, counts = each["dtMatches"][0] > 0, ~each["dtIgnore"][0].astype(bool)
        hits += int((matched & counts).sum())
        again = [repeats(evaluation, each, i) for i in np.flatnonzero(~matched & counts)]
        duplicates += sum(again)
        false += len(again) - sum(again)
    faces = sum(not a["iscrowd"] for record in truth for a in record["annotations"])
    assert duplicates > 0 and false > 0
    assert error_rates(ranked(truth, results), threshold) == {
        "coverage": hits / faces,
        "false_per_image": false / len(truth),
        "duplicates_per_image": duplicates / len(truth),
    }


@pytest.mark.parametrize("seed", range(8))
def test_the_threshold_has_the_best_f1_of_pycocotools_matches(seed: int) -> None:
    truth, results = scene(seed)
    evaluation = evaluated(truth, results)
    scores, hits = [], []
    for each in filter(None, evaluation.evalImgs[: len(truth)]):
        counts = ~each["dtIgnore"][0].astype(bool)
        scores += np.asarray(each["dtScores"])[counts].tolist()
        hits += (each["dtMatches"][0][counts] > 0).tolist()
    order = np.argsort(-np.array(scores), kind="stable")
    faces = sum(not a["iscrowd"] for record in truth for a in record["annotations"])
    f1 = 2 * np.array(hits)[order].cumsum() / (np.arange(1, len(order) + 1) + faces)
    best = int(f1.argmax())
    threshold, reached = select_threshold(ranked(truth, results))
    assert reached == pytest.approx(f1[best])
    assert threshold == round(min(max(scores[order[best]], 0.05), 0.95), 3)


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
