"""Metrics of a detector-classifier pair's answers; ``eval.joint`` defines them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.data.pairs import Answers, TrueFaces
from eval.metrics.average_precision import match_images
from eval.metrics.bootstrap import Bootstrap, Metric, Weights, divide, ratio_metric
from faces.boxes import Verdict
from faces.coco import AnnotatedImage, Detections
from faces.emotions import EMOTIONS

HEIGHTS = (0, 32, 64, 128, math.inf)
"""Bounds of the slices by face height, pixels."""

BRIGHTNESSES = (0, 85, 170, math.inf)
"""Bounds of the slices by the crop's mean value: thirds of 0..255."""

CROWDS = (1, 2, 4, math.inf)
"""Bounds of the slices by faces per image."""

COMPARED = ("coverage", "accuracy_on_matched", "joint_accuracy", "macro_joint_accuracy")
"""The metrics whose difference to the first pair is taken."""

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class FaceAnswers:
    """A pair's answers per face to be found, and its detector's errors per image."""

    image: NDArray[np.int64]  # number of each face's image, shape (F,)
    label: NDArray[np.int64]  # index into ``EMOTIONS``, shape (F,)
    found: Flags  # whether a detection matches it, shape (F,), bool
    right: Flags  # found, with the right emotion, shape (F,), bool
    right_on_truth: NDArray[np.float64]  # right in the true box, shape (F,); nan where unknown
    # how often each emotion was predicted in each image, shape (P, 7), without detections on
    # ignored faces, and without false positives where the image has unlabelled faces
    predicted: NDArray[np.float64]
    false: NDArray[np.float64]  # false positives per image, shape (P,)
    duplicates: NDArray[np.float64]  # shape (P,)
    complete: Flags  # which images have all their faces labelled, shape (P,), bool

    def of(self, keep: Flags) -> FaceAnswers:
        """Return the answers about some of the faces; errors stay those of all images."""
        names = ("image", "label", "found", "right", "right_on_truth")
        return replace(self, **{name: getattr(self, name)[keep] for name in names})


def collect(images: Sequence[AnnotatedImage], faces: TrueFaces, answers: Answers) -> FaceAnswers:
    """Sort a pair's answers by face."""
    label = np.array(faces.label, np.int64)
    said: list[int] = []
    predicted = np.zeros((len(images), len(EMOTIONS)))
    for number, (image, matching, shown, probabilities) in enumerate(
        zip(images, answers.matchings, answers.shown, answers.probabilities, strict=True)
    ):
        emotions = probabilities[shown].argmax(axis=1)
        emotion_of = {int(f): int(e) for f, e in zip(matching.face, emotions, strict=True)}
        said += [emotion_of.get(int(face), -1) for face in np.flatnonzero(~image.ignored)]
        skipped = {Verdict.IGNORED} | (
            {Verdict.FALSE_POSITIVE} if image.unlabelled_faces else set()
        )
        counts = ~np.isin(matching.verdict, list(skipped))
        predicted[number] = np.bincount(emotions[counts], minlength=len(EMOTIONS))

    none = np.zeros((0, len(EMOTIONS)), np.float32)
    on_truth = np.concatenate([none, *answers.on_true_boxes])
    right_on_truth = (np.nan_to_num(on_truth).argmax(axis=1) == label).astype(np.float64)
    right_on_truth[np.isnan(on_truth).any(axis=1)] = np.nan
    found = np.array(said, np.int64)
    return FaceAnswers(
        np.array(faces.image, np.int64),
        label,
        found >= 0,
        found == label,
        right_on_truth,
        predicted,
        np.array([m.count(Verdict.FALSE_POSITIVE) for m in answers.matchings], np.float64),
        np.array([m.count(Verdict.DUPLICATE) for m in answers.matchings], np.float64),
        np.array([not image.unlabelled_faces for image in images], bool),
    )


def metrics_of(answers: FaceAnswers) -> dict[str, Metric]:
    """Return the metrics as functions of the images' weights."""
    a = answers
    every = np.ones(len(a.label), bool)

    def per_image(values: NDArray[np.float64] | Flags) -> NDArray[np.float64]:
        counts = np.bincount(a.image, weights=values.astype(float), minlength=len(a.complete))
        return np.asarray(counts, np.float64)

    def share(hits: NDArray[np.float64] | Flags, among: Flags) -> Metric:
        return ratio_metric(per_image(hits * among), per_image(among))

    def mean_over_emotions(one: Callable[[int], Metric]) -> Metric:
        present = [one(index) for index in range(len(EMOTIONS)) if (a.label == index).any()]

        def metric(weights: Weights) -> NDArray[np.float64]:
            values = np.array([each(weights) for each in present]).reshape(-1, len(weights))
            known = np.isfinite(values)
            return divide(np.where(known, values, 0).sum(axis=0), known.sum(axis=0))

        return metric

    def f1(index: int) -> Metric:
        truth = a.label == index
        right = per_image(a.right & truth)
        return ratio_metric(2 * right, per_image(truth) + a.predicted[:, index])

    on_truth, on_matched = share(a.right_on_truth, every), share(a.right, a.found)
    return {
        "coverage": share(a.found, every),
        "accuracy_on_matched": on_matched,
        "accuracy_on_true_boxes": on_truth,
        "true_box_accuracy_of_matched": share(a.right_on_truth, a.found),
        "cascade_gap": lambda weights: on_truth(weights) - on_matched(weights),
        "joint_accuracy": share(a.right, every),
        "macro_joint_accuracy": mean_over_emotions(lambda e: share(a.right, a.label == e)),
        "macro_f1": mean_over_emotions(f1),
        "false_per_image": ratio_metric(a.false * a.complete, a.complete),
        "duplicates_per_image": ratio_metric(a.duplicates, np.ones(len(a.complete))),
    }


def summarise(
    images: Sequence[AnnotatedImage], faces: TrueFaces, pairs: Sequence[Answers]
) -> list[dict[str, Any]]:
    """Compute one row per pair; all after the first are compared with that one."""
    boot = Bootstrap.of(len(images))
    rows: list[dict[str, Any]] = []
    first: dict[str, Metric] = {}
    for pair in pairs:
        answers = collect(images, faces, pair)
        metrics = metrics_of(answers)
        row: dict[str, Any] = {
            "detector": pair.detector,
            "classifier": pair.classifier,
            "images": len(images),
            "faces": len(answers.label),
            "images_for_false": int(answers.complete.sum()),
        }
        row |= boot.values(metrics)
        if first:
            row["compared_with"] = f"{pairs[0].detector}, {pairs[0].classifier}"
            row |= boot.differences({name: metrics[name] for name in COMPARED}, first)
        first = first or metrics
        ap50 = emotion_ap50(images, pair)
        row["mean_ap50"] = _mean(np.array([value for value in ap50 if not math.isnan(value)]))
        row["per_emotion"] = _per_emotion(answers, ap50)
        if any(faces.doubtful):
            kept = answers.of(~np.array(faces.doubtful))
            others = metrics_of(kept)
            figures = boot.values({name: others[name] for name in COMPARED[:3]})
            row["without_doubtful"] = {"faces": len(kept.label)} | figures
        row["slices"] = _slices(answers, faces)
        rows.append(row)
    return rows


def emotion_ap50(images: Sequence[AnnotatedImage], pair: Answers) -> list[float]:
    """Return the AP50 of each emotion, nan for those absent from the truth.

    Every detection counts for every emotion of nonzero probability; its score is the detection's
    score times that probability. Images with unlabelled faces are left out.
    """
    complete = [index for index, image in enumerate(images) if not image.unlabelled_faces]
    values = []
    for index, emotion in enumerate(EMOTIONS):
        truth, found = [], []
        for n in complete:
            faces = tuple(f for f in images[n].faces if f.ignored or f.category == emotion)
            truth.append(replace(images[n], faces=faces))
            scores = pair.detections[n].scores * pair.probabilities[n][:, index]
            scored = Detections(pair.detections[n].boxes, scores)
            found.append(scored.above(np.nextafter(0, 1)))
        values.append(float(match_images(truth, found, ["all"])["all"].precision()[0].mean()))
    return values


def _per_emotion(answers: FaceAnswers, ap50: Sequence[float]) -> dict[str, Any]:
    result = {}
    for index, emotion in enumerate(EMOTIONS):
        chosen = answers.of(answers.label == index)
        predicted, right = answers.predicted[:, index].sum(), float(chosen.right.sum())
        result[emotion] = {
            "faces": len(chosen.label),
            "coverage": _mean(chosen.found),
            "accuracy_on_true_boxes": _mean(chosen.right_on_truth),
            "joint_accuracy": _mean(chosen.right),
            "precision": float(divide(right, predicted)),
            "ap50": ap50[index],
        }
    return result


def _slices(answers: FaceAnswers, faces: TrueFaces) -> dict[str, Any]:
    groups = {
        "face_height": (faces.height, HEIGHTS),
        "brightness": (faces.brightness, BRIGHTNESSES),
        "faces_per_picture": (faces.in_image, CROWDS),
    }
    result = {}
    for name, (values, bounds) in groups.items():
        array = np.array(values, np.float64)
        ranges = [(low, high, (array >= low) & (array < high)) for low, high in pairwise(bounds)]
        parts = [(low, high, answers.of(inside)) for low, high, inside in ranges if inside.any()]
        result[name] = [
            {
                "from": low,
                "below": high,
                "faces": len(part.label),
                "coverage": _mean(part.found),
                "accuracy_on_matched": _mean(part.right[part.found]),
                "joint_accuracy": _mean(part.right),
            }
            for low, high, part in parts
        ]
    return result


def _mean(values: NDArray[np.float64] | Flags) -> float:
    return float(values.mean()) if len(values) else math.nan
