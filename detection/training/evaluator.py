"""COCO's average precision for one class, faces, through pycocotools, as a Detectron2 evaluator."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from detectron2.data import DatasetCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detection.data.catalog import to_coco
from detection.modeling.suppression import contained

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
"""Names of the first six of COCO's twelve numbers, as Detectron2 prints them."""


class FaceEvaluator(DatasetEvaluator):
    """Detectron2's evaluator interface over pycocotools, with a least size of faces.

    Args:
        dataset: a registered data set.
        min_face: faces whose shorter side is below this, in pixels of the picture, are ignored, and
            so are detections on them.
        containment: see ``MODEL.CONTAINMENT``.
    """

    def __init__(self, dataset: str, min_face: float = 0.0, containment: float = 1.1) -> None:
        self.truth = [_ignoring_small(r, min_face) for r in DatasetCatalog.get(dataset)]
        self.containment = containment
        self.reset()

    def reset(self) -> None:
        """Forget all predictions."""
        self.results: list[dict[str, Any]] = []
        self.gathered: list[dict[str, Any]] = []

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Take over the predictions of some pictures."""
        for given, output in zip(inputs, outputs, strict=True):
            instances = output["instances"].to("cpu")
            instances = instances[instances.scores.argsort(descending=True, stable=True)]
            boxes = instances.pred_boxes.tensor.numpy()
            keep = ~contained(boxes, self.containment)
            for box, score in zip(boxes[keep], instances.scores[keep].tolist(), strict=True):
                self.results.append(result(given["image_id"], box.tolist(), score))

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """Collect the predictions of all processes, in ``gathered``, and measure them.

        Returns:
            ``{"bbox": {"AP": …, "AP50": …, …}}``, numbers 0–100 as Detectron2's; None on workers.
        """
        self.gathered = list(itertools.chain(*comm.gather(self.results, dst=0)))
        if not comm.is_main_process():
            return None
        return OrderedDict(bbox=average_precision(self.truth, self.gathered))


def result(image_id: int, box: Sequence[float], score: float) -> dict[str, Any]:
    """Return one detection in the form of a COCO result; ``box`` is (x1, y1, x2, y2) in pixels."""
    x1, y1, x2, y2 = box
    return {
        "image_id": image_id,
        "category_id": 1,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "score": score,
    }


def average_precision(
    truth: Sequence[dict[str, Any]], results: list[dict[str, Any]]
) -> dict[str, float]:
    """Return COCO's metrics, 0–100; nan where there is nothing to measure.

    Args:
        truth: Detectron2 records.
        results: COCO results for their pictures.
    """
    if not results:
        faces = any(not a["iscrowd"] for record in truth for a in record["annotations"])
        return dict.fromkeys(METRICS, 0.0 if faces else float("nan"))
    evaluation = _evaluated(truth, results)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.accumulate()
        evaluation.summarize()
    numbers = np.asarray(evaluation.stats[: len(METRICS)], dtype=float)
    numbers = np.where(numbers < 0, np.nan, numbers * 100)
    return dict(zip(METRICS, numbers.tolist(), strict=True))


def error_rates(
    truth: Sequence[dict[str, Any]], results: list[dict[str, Any]], threshold: float
) -> dict[str, float]:
    """Return what a threshold shows, at IoU 0.5, as ``eval.detection`` defines it.

    Args:
        truth: Detectron2 records.
        results: COCO results for their pictures.
        threshold: score from which on detections are shown.

    Returns:
        ``coverage`` (0–1, nan without faces), ``false_per_image``, ``duplicates_per_image``. A
        wrong one repeats a face that a better one has found, if their IoU is at least 0.5 or 70 %
        of it lie inside the face; else it is false.
    """
    shown = [row for row in results if row["score"] >= threshold]
    faces = sum(not a["iscrowd"] for record in truth for a in record["annotations"])
    hits = false = duplicates = 0
    if shown:
        evaluation = _evaluated(truth, shown, most=1000)
        pictures = evaluation.evalImgs[: len(evaluation.params.imgIds)]  # area range "all"
        for picture in filter(None, pictures):
            matched, counts = picture["dtMatches"][0] > 0, ~picture["dtIgnore"][0].astype(bool)
            hits += int((matched & counts).sum())
            wrong = np.flatnonzero(~matched & counts).tolist()
            repeats = sum(_repeats(evaluation.cocoDt, evaluation.cocoGt, picture, i) for i in wrong)
            duplicates += repeats
            false += len(wrong) - repeats
    return {
        "coverage": hits / faces if faces else float("nan"),
        "false_per_image": false / len(truth) if truth else float("nan"),
        "duplicates_per_image": duplicates / len(truth) if truth else float("nan"),
    }


def _repeats(found: Any, truth: Any, picture: dict[str, Any], index: int) -> bool:
    """Tell whether a wrong detection (by its rank in the picture) lies on a face found before."""
    rank = {number: i for i, number in enumerate(picture["dtIds"])}
    matches = zip(picture["gtIds"], picture["gtMatches"][0], picture["gtIgnore"], strict=True)
    before = [g for g, match, skip in matches if not skip and 0 <= rank.get(match, -1) < index]
    if not before:
        return False
    box = [found.anns[picture["dtIds"][index]]["bbox"]]
    faces = [truth.anns[number]["bbox"] for number in before]
    overlap = np.asarray(mask.iou(box, faces, [0] * len(faces)))
    # with a crowd, the intersection is divided by the detection's own area
    inside = np.asarray(mask.iou(box, faces, [1] * len(faces)))
    return bool((overlap >= 0.5).any() or (inside >= 0.7).any())


def _evaluated(
    truth: Sequence[dict[str, Any]], results: list[dict[str, Any]], most: int | None = None
) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = cast(Any, to_coco(truth))
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        if most is not None:
            evaluation.params.maxDets = [most]
        evaluation.evaluate()
    return evaluation


def choose_threshold(
    truth: Sequence[dict[str, Any]], results: list[dict[str, Any]]
) -> tuple[float, float]:
    """Choose the score from which on detections are shown: the one with the best F1 at IoU 0.5.

    Args:
        truth: Detectron2 records, of validation data.
        results: COCO results for their pictures.

    Returns:
        The threshold, in [0.05, 0.95], and the F1 it reaches; (0.5, 0.0) where there is nothing to
        choose by.
    """
    faces = sum(not a["iscrowd"] for record in truth for a in record["annotations"])
    if not faces or not results:
        return 0.5, 0.0
    scores, hits = [np.empty(0)], [np.empty(0, dtype=bool)]
    evaluation = _evaluated(truth, results)
    for picture in evaluation.evalImgs[: len(evaluation.params.imgIds)]:  # area range "all"
        if picture is not None:
            counts = ~picture["dtIgnore"][0].astype(bool)  # IoU 0.5
            scores.append(np.asarray(picture["dtScores"])[counts])
            hits.append(picture["dtMatches"][0][counts] > 0)
    score, hit = np.concatenate(scores), np.concatenate(hits)
    order = np.argsort(-score, kind="stable")
    score, hit = score[order], hit[order]
    if not len(score):
        return 0.5, 0.0
    f1 = 2 * hit.cumsum() / (np.arange(1, len(hit) + 1) + faces)
    best = int(f1.argmax())
    return round(float(np.clip(score[best], 0.05, 0.95)), 3), float(f1[best])


def _ignoring_small(record: dict[str, Any], min_face: float) -> dict[str, Any]:
    annotations = []
    for annotation in record["annotations"]:
        x1, y1, x2, y2 = annotation["bbox"]
        small = min(x2 - x1, y2 - y1) < min_face
        annotations.append(annotation | {"iscrowd": int(annotation["iscrowd"] or small)})
    return record | {"annotations": annotations}
