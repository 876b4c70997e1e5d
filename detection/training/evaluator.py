"""COCO's average precision for one class, faces, through pycocotools, as a Detectron2 evaluator."""

from __future__ import annotations

import contextlib
import io
import itertools
import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from detectron2.data import DatasetCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detection.data.catalog import to_coco
from detection.modeling.suppression import contained
from faces.boxes import Verdict
from faces.coco import AnnotatedImage, Corners, Detections, GroundTruthFace
from faces.ranking import RankedDetections, rank
from faces.types import Box

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
"""Names of the first six of COCO's twelve numbers, as Detectron2 prints them."""


class FaceEvaluator(DatasetEvaluator):
    """Detectron2's evaluator interface over pycocotools, with a minimum size of faces.

    Faces whose shorter side is below ``min_face`` pixels of the image are ignored, and so are
    detections on them. For ``containment``, see ``MODEL.CONTAINMENT``.
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
        """Add the predictions for some images."""
        for given, output in zip(inputs, outputs, strict=True):
            instances = output["instances"].to("cpu")
            instances = instances[instances.scores.argsort(descending=True, stable=True)]
            boxes = instances.pred_boxes.tensor.numpy()
            keep = ~contained(boxes, self.containment)
            for box, score in zip(boxes[keep], instances.scores[keep].tolist(), strict=True):
                self.results.append(result(given["image_id"], box.tolist(), score))

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """Collect the predictions of all processes, in ``gathered``, and measure them.

        Returns ``{"bbox": {"AP": …, "AP50": …, …}}``, numbers 0–100 as Detectron2's; None on
        workers.
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
    """Return COCO's metrics of results on records, 0–100; nan where there is nothing to measure."""
    if not results:
        faces = any(not a["iscrowd"] for record in truth for a in record["annotations"])
        return dict.fromkeys(METRICS, 0.0 if faces else math.nan)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = cast(Any, to_coco(truth))
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    numbers = np.asarray(evaluation.stats[: len(METRICS)], dtype=float)
    numbers = np.where(numbers < 0, np.nan, numbers * 100)
    return dict(zip(METRICS, numbers.tolist(), strict=True))


def ranked(truth: Sequence[dict[str, Any]], results: list[dict[str, Any]]) -> RankedDetections:
    """Match COCO results with the faces of Detectron2 records, and sort them by score."""
    rows: dict[Any, list[tuple[Corners, float]]] = {record["image_id"]: [] for record in truth}
    for row in results:
        x, y, width, height = row["bbox"]
        rows[row["image_id"]].append(((x, y, x + width, y + height), row["score"]))
    images = [_annotated_image(record) for record in truth]
    return rank(images, [Detections.of(rows[image.id]) for image in images])


def _annotated_image(record: dict[str, Any]) -> AnnotatedImage:
    faces = tuple(
        GroundTruthFace(Box(*annotation["bbox"]), "face", bool(annotation["iscrowd"]))
        for annotation in record["annotations"]
    )
    size = (record["width"], record["height"])
    return AnnotatedImage(record["image_id"], record["file_name"], size, False, faces)


def error_rates(found: RankedDetections, threshold: float) -> dict[str, float]:
    """Return what a threshold shows, at IoU 0.5, as ``eval.detection`` defines it.

    ``coverage`` (0–1, nan without faces), ``false_per_image``, ``duplicates_per_image`` (nan
    without images).
    """
    shown = found.verdict[found.scores >= threshold]
    counts = {verdict: int((shown == verdict).sum()) for verdict in Verdict}
    images = found.images or math.nan
    return {
        "coverage": counts[Verdict.MATCHED] / (found.faces or math.nan),
        "false_per_image": counts[Verdict.FALSE_POSITIVE] / images,
        "duplicates_per_image": counts[Verdict.DUPLICATE] / images,
    }


def select_threshold(found: RankedDetections) -> tuple[float, float]:
    """Select the score from which on detections are shown: that with the best F1 at IoU 0.5.

    Returns the threshold, in [0.05, 0.95], and the F1 that it reaches on ``found``, all detections
    on validation data; (0.5, 0.0) where nothing is matched.
    """
    best = found.select_threshold()
    if best is None:
        return 0.5, 0.0
    threshold = min(max(float(found.scores[best]), 0.05), 0.95)
    return round(threshold, 3), float(found.f1()[best])


def _ignoring_small(record: dict[str, Any], min_face: float) -> dict[str, Any]:
    annotations = []
    for annotation in record["annotations"]:
        x1, y1, x2, y2 = annotation["bbox"]
        small = min(x2 - x1, y2 - y1) < min_face
        annotations.append(annotation | {"iscrowd": int(annotation["iscrowd"] or small)})
    return record | {"annotations": annotations}
