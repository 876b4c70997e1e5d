"""Average precision as COCO defines it, computed by pycocotools."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tqdm import tqdm

from eval.coco import Scene, Scored

MAX_DETECTIONS = 1000
"""Detections counted per picture; COCO's own 100 would cut off crowds."""


@dataclass(frozen=True)
class AveragePrecision:
    """COCO's figures for the one category *face*, each 0..1, nan where there is no face to find.

    Attributes:
        ap: mean over IoU 0.50, 0.55, …, 0.95.
        ap50: at IoU 0.5.
        ap75: at IoU 0.75.
        ap_small: as ``ap``, faces under 32² square pixels.
        ap_medium: as ``ap``, faces from 32² to 96² square pixels.
        ap_large: as ``ap``, larger faces.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float


def average_precision(
    scenes: Sequence[Scene], detections: Sequence[Scored], max_detections: int = MAX_DETECTIONS
) -> AveragePrecision:
    """Compute AP of detections against the faces of the same pictures, all categories merged.

    Ignored faces are COCO crowds: a detection that matches no other face and has at least the IoU
    threshold's share of its area inside one is left out of account, however many there are.

    Args:
        scenes: the annotated pictures.
        detections: what was found in each, in the same order.
        max_detections: per picture, the highest scores first.
    """
    truth: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for image_id, (scene, scored) in enumerate(zip(scenes, detections, strict=True), start=1):
        for face in scene.faces:
            truth.append(_annotation(len(truth), image_id, face.box.as_tuple(), face.ignored))
        for box, score in zip(scored.boxes.tolist(), scored.scores.tolist(), strict=True):
            found.append(_annotation(len(found), image_id, box, False) | {"score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = _Evaluation(_coco(len(scenes), truth), _coco(len(scenes), found), "bbox")
        evaluation.params.maxDets = [max_detections]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, 0, :, 0]  # (IoU, recall, area)

    def mean(values: NDArray[np.float64]) -> float:
        known = values[values > -1]
        return float(known.mean()) if known.size else math.nan

    everything = precision[..., 0]
    sizes = [mean(precision[..., area]) for area in (1, 2, 3)]
    return AveragePrecision(mean(everything), mean(everything[0]), mean(everything[5]), *sizes)


class _Evaluation(COCOeval):
    """pycocotools' evaluation with a progress bar: crowds take it minutes."""

    def evaluate(self) -> None:
        steps = len(self.params.imgIds) * len(self.params.areaRng)
        with tqdm(total=steps, desc="average precision", disable=None) as self._progress:
            super().evaluate()

    def evaluateImg(self, *arguments: Any) -> Any:  # noqa: N802
        self._progress.update()
        return super().evaluateImg(*arguments)


def _annotation(count: int, image_id: int, box: Sequence[float], crowd: bool) -> dict[str, Any]:
    x1, y1, x2, y2 = box
    return {
        "id": count + 1,  # pycocotools takes the id 0 for "no match"
        "image_id": image_id,
        "category_id": 1,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "iscrowd": int(crowd),
    }


def _coco(pictures: int, annotations: list[dict[str, Any]]) -> COCO:
    coco = COCO()
    dataset: Any = {
        "images": [{"id": number} for number in range(1, pictures + 1)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "face"}],
    }
    coco.dataset = dataset
    coco.createIndex()
    return coco
