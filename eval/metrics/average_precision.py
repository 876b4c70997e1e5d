"""Average precision as COCO defines it: matched by pycocotools, for any weighting of the images.

Matching takes seconds and does not depend on the weights, so it is done once; figures and their
bootstrap intervals follow from it.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tqdm import tqdm

from eval.metrics.bootstrap import Metric, Weights
from faces.coco import AnnotatedImage, Detections

MAX_DETECTIONS = 1000
"""Detections counted per image; COCO's own 100 would cut off crowds."""

RECALLS = np.linspace(0.0, 1.0, 101)
"""The recalls at which COCO samples the precision."""

AREAS = ("all", "small", "medium", "large")
"""COCO's ranges of face area: any; below 32², from 32² to 96², above 96² square pixels."""

_AP50, _AP75 = 0, 5


@dataclass(frozen=True)
class ApMatches:
    """The matched detections of P images in one range of face areas.

    The D detections, those ignored at every IoU left out, are sorted by falling score.
    """

    image: NDArray[np.int64]  # index of each one's image, shape (D,)
    hit: NDArray[np.bool_]  # whether it finds a face, by IoU 0.50, 0.55, …, 0.95, shape (10, D)
    false: NDArray[np.bool_]  # whether it is a false positive, shape (10, D)
    faces: NDArray[np.float64]  # how many faces each image has to be found, shape (P,)

    def precision(self, weights: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Return the interpolated precision, as COCO's ``accumulate`` does.

        Images count as often as ``weights`` says, shape (P,); None for once each.

        Returns:
            Shape (10, 101): by IoU and by recall in ``RECALLS``; nan where there is no face.
        """
        counts = np.ones(len(self.faces)) if weights is None else weights
        result = np.zeros((len(self.hit), len(RECALLS)))
        faces = float(counts @ self.faces)
        if not faces:
            return np.full_like(result, np.nan)
        each = counts[self.image]
        for row, hit, false in zip(result, self.hit, self.false, strict=True):
            places = np.flatnonzero(hit)
            true_positives = each[places].cumsum()
            false_positives = (each * false).cumsum()[places]
            precision = true_positives / (true_positives + false_positives + np.spacing(1))
            envelope = np.maximum.accumulate(precision[::-1])[::-1]
            index = np.searchsorted(true_positives / faces, RECALLS, side="left")
            reached = index < len(places)
            row[reached] = envelope[index[reached]]
        return result


def match_images(
    images: Sequence[AnnotatedImage],
    detections: Sequence[Detections],
    areas: Sequence[str] = AREAS,
    max_detections: int = MAX_DETECTIONS,
) -> dict[str, ApMatches]:
    """Match detections to the faces of the same images as COCO does, all categories merged.

    Ignored faces are COCO crowds: a detection that matches no other face and has at least the IoU
    threshold's share of its area inside one does not count, however many there are.

    Args:
        images: the annotated images.
        detections: in each of them.
        areas: names in ``AREAS``, the keys of the answer.
        max_detections: that count in an image, the highest scores first.
    """
    truth: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for image_id, (image, scored) in enumerate(zip(images, detections, strict=True), start=1):
        for face in image.faces:
            truth.append(_annotation(len(truth), image_id, face.box.as_tuple(), face.ignored))
        for box, score in zip(scored.boxes.tolist(), scored.scores.tolist(), strict=True):
            found.append(_annotation(len(found), image_id, box, False) | {"score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = _Evaluation(_coco(len(images), truth), _coco(len(images), found), "bbox")
        evaluation.params.maxDets = [max_detections]
        ranges = evaluation.params.areaRng
        evaluation.params.areaRng = [ranges[AREAS.index(area)] for area in areas]
        evaluation.params.areaRngLbl = list(areas)
        evaluation.evaluate()
    results: Any = evaluation.evalImgs
    count = len(images)
    return {
        area: _sort(results[index * count : (index + 1) * count])
        for index, area in enumerate(areas)
    }


def summarise(matches: dict[str, ApMatches]) -> dict[str, float]:
    """Return COCO's figures of detections that were matched in all ``AREAS``.

    Returns:
        ``ap``, the mean over IoU 0.50, 0.55, …, 0.95, ``ap50`` and ``ap75``, and ``ap`` of each
        size: ``ap_small``, ``ap_medium``, ``ap_large``; 0..1, nan where there is no face to find.
    """
    by_iou = {area: matches[area].precision().mean(axis=1) for area in AREAS}
    every = by_iou["all"]
    figures = {"ap": every.mean(), "ap50": every[_AP50], "ap75": every[_AP75]}
    figures |= {f"ap_{area}": by_iou[area].mean() for area in AREAS[1:]}
    return {name: float(value) for name, value in figures.items()}


def ap_metrics(matches: ApMatches) -> dict[str, Metric]:
    """Return ``ap``, ``ap50`` and ``ap75`` as functions of the images' weights.

    The values of the latest weights are kept: the three figures, and several intervals over the
    same resamples, cost one computation.
    """
    latest: list[tuple[Weights, NDArray[np.float64]]] = []

    def by_iou(weights: Weights) -> NDArray[np.float64]:
        if not latest or latest[0][0] is not weights:
            rows = tqdm(weights, desc="bootstrap", disable=None if len(weights) > 1 else True)
            values = np.array([matches.precision(row).mean(axis=1) for row in rows])
            if len(weights) == 1:
                return values
            latest[:] = [(weights, values)]
        return latest[0][1]

    return {
        "ap": lambda weights: by_iou(weights).mean(axis=1),
        "ap50": lambda weights: by_iou(weights)[:, _AP50],
        "ap75": lambda weights: by_iou(weights)[:, _AP75],
    }


def _sort(results: Sequence[dict[str, Any] | None]) -> ApMatches:
    """Sort pycocotools' results of all images (None: neither faces nor detections) by score."""
    numbers, scores = [np.zeros(0, np.int64)], [np.zeros(0)]
    matched, ignored = [np.zeros((10, 0), bool)], [np.zeros((10, 0), bool)]
    faces = np.zeros(len(results))
    for number, result in enumerate(results):
        if result is None:
            continue
        faces[number] = np.count_nonzero(np.asarray(result["gtIgnore"]) == 0)
        scores.append(np.asarray(result["dtScores"], np.float64))
        numbers.append(np.full(len(scores[-1]), number))
        matched.append(result["dtMatches"] > 0)
        ignored.append(result["dtIgnore"].astype(bool))
    hits, skipped = np.concatenate(matched, axis=1), np.concatenate(ignored, axis=1)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    order = order[~skipped[:, order].all(axis=0)]
    hits, skipped = hits[:, order], skipped[:, order]
    return ApMatches(np.concatenate(numbers)[order], hits & ~skipped, ~hits & ~skipped, faces)


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


def _coco(images: int, annotations: list[dict[str, Any]]) -> COCO:
    coco = COCO()
    dataset: Any = {
        "images": [{"id": number} for number in range(1, images + 1)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "face"}],
    }
    coco.dataset = dataset
    coco.createIndex()
    return coco
