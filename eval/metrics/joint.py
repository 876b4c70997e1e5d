"""What the answers of a detector-classifier pair amount to; ``eval.joint`` defines the metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from eval.data.pairs import Answers, Faces
from eval.metrics.average_precision import match_scenes
from eval.metrics.bootstrap import Bootstrap, Metric, Weights, divide, ratio_metric
from eval.records import report
from faces.boxes import Verdict
from faces.coco import AnnotatedImage, Detections
from faces.emotions import EMOTIONS

HEIGHTS = (0, 32, 64, 128, math.inf)
"""Bounds of the slices by face height, pixels."""

BRIGHTNESSES = (0, 85, 170, math.inf)
"""Bounds of the slices by the crop's mean value: thirds of 0..255."""

CROWDS = (1, 2, 4, math.inf)
"""Bounds of the slices by faces per picture."""

COMPARED = ("coverage", "accuracy_on_matched", "joint_accuracy", "macro_joint_accuracy")
"""The figures whose difference to the first pair is taken."""

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class FaceAnswers:
    """A pair's answers per face to be found, and its mistakes per picture.

    Attributes:
        picture: number of each face's picture, shape (F,).
        label: index into ``EMOTIONS``, shape (F,).
        found: shape (F,), bool.
        right: found, and its emotion named rightly, shape (F,), bool.
        right_on_truth: named rightly through the true box, shape (F,); nan where unknown.
        named: how often each emotion was named in each picture, shape (P, 7), detections on ignored
            faces left out, and false ones where the picture has unlabelled faces.
        false: false detections per picture, shape (P,).
        duplicates: shape (P,).
        complete: which pictures have all their faces labelled, shape (P,), bool.
    """

    picture: NDArray[np.int64]
    label: NDArray[np.int64]
    found: Flags
    right: Flags
    right_on_truth: NDArray[np.float64]
    named: NDArray[np.float64]
    false: NDArray[np.float64]
    duplicates: NDArray[np.float64]
    complete: Flags

    def of(self, keep: Flags) -> FaceAnswers:
        """Return the answers about some of the faces; the mistakes stay those of all pictures."""
        kept = (self.picture, self.label, self.found, self.right, self.right_on_truth)
        names = ("picture", "label", "found", "right", "right_on_truth")
        parts = {name: values[keep] for name, values in zip(names, kept, strict=True)}
        return replace(self, **parts)  # type: ignore[arg-type]


def collect(scenes: Sequence[AnnotatedImage], faces: Faces, answers: Answers) -> FaceAnswers:
    """Sort a pair's answers by face."""
    label = np.array(faces.label, np.int64)
    said: list[int] = []
    named = np.zeros((len(scenes), len(EMOTIONS)))
    for number, (scene, matching, shown, rows) in enumerate(
        zip(scenes, answers.matchings, answers.shown, answers.rows, strict=True)
    ):
        emotions = rows[shown].argmax(axis=1)
        emotion_of = {int(f): int(e) for f, e in zip(matching.face, emotions, strict=True)}
        said += [emotion_of.get(int(face), -1) for face in np.flatnonzero(~scene.ignored)]
        skipped = {Verdict.IGNORED} | ({Verdict.FALSE} if scene.unlabelled_faces else set())
        counts = ~np.isin(matching.verdict, list(skipped))
        named[number] = np.bincount(emotions[counts], minlength=len(EMOTIONS))
    none = np.zeros((0, len(EMOTIONS)), np.float32)
    on_truth = np.concatenate([none, *answers.through_truth])
    right_on_truth = (np.nan_to_num(on_truth).argmax(axis=1) == label).astype(np.float64)
    right_on_truth[np.isnan(on_truth).any(axis=1)] = np.nan
    found = np.array(said, np.int64)
    return FaceAnswers(
        np.array(faces.picture, np.int64),
        label,
        found >= 0,
        found == label,
        right_on_truth,
        named,
        np.array([m.count(Verdict.FALSE) for m in answers.matchings], np.float64),
        np.array([m.count(Verdict.DUPLICATE) for m in answers.matchings], np.float64),
        np.array([not scene.unlabelled_faces for scene in scenes], bool),
    )


def metrics_of(answers: FaceAnswers) -> dict[str, Metric]:
    """Return the figures as functions of the pictures' weights."""
    a = answers
    every = np.ones(len(a.label), bool)

    def per_picture(values: NDArray[np.float64] | Flags) -> NDArray[np.float64]:
        counts = np.bincount(a.picture, weights=values.astype(float), minlength=len(a.complete))
        return np.asarray(counts, np.float64)

    def share(hits: NDArray[np.float64] | Flags, among: Flags) -> Metric:
        return ratio_metric(per_picture(hits * among), per_picture(among))

    def mean_over_emotions(one: Callable[[int], Metric]) -> Metric:
        present = [one(index) for index in range(len(EMOTIONS)) if (a.label == index).any()]

        def metric(weights: Weights) -> NDArray[np.float64]:
            values = np.array([each(weights) for each in present]).reshape(-1, len(weights))
            known = np.isfinite(values)
            return divide(np.where(known, values, 0).sum(axis=0), known.sum(axis=0))

        return metric

    def f1(index: int) -> Metric:
        truth = a.label == index
        sizes = per_picture(truth) + a.named[:, index]
        return ratio_metric(2 * per_picture(a.right & truth), sizes)

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
    scenes: Sequence[AnnotatedImage], faces: Faces, pairs: Sequence[Answers]
) -> list[report.Run]:
    """Compute one run per pair; all after the first are compared with that one."""
    boot = Bootstrap.of(len(scenes))
    runs: list[report.Run] = []
    first: dict[str, Metric] = {}
    for pair in pairs:
        answers = collect(scenes, faces, pair)
        metrics = metrics_of(answers)
        run: report.Run = {
            "detector": pair.finder,
            "classifier": pair.judge,
            "images": len(scenes),
            "faces": len(answers.label),
            "images_for_false": int(answers.complete.sum()),
        }
        for name, metric in metrics.items():
            run |= {name: boot.value(metric), f"{name}_ci": boot.interval(metric)}
        if first:
            run["compared_with"] = f"{pairs[0].finder}, {pairs[0].judge}"
            for name in COMPARED:
                difference = boot.difference(metrics[name], first[name])
                run[f"{name}_difference"], run[f"{name}_difference_ci"] = difference
        first = first or metrics
        precise = emotion_precisions(scenes, pair)
        known = [value for value in precise if not math.isnan(value)]
        run["mean_ap50"] = math.fsum(known) / len(known) if known else math.nan
        run["per_emotion"] = _per_emotion(answers, precise)
        doubtful = np.array(faces.doubtful, bool)
        if doubtful.any():
            run["without_doubtful"] = _few(answers, ~doubtful, boot)
        run["slices"] = _slices(answers, faces)
        runs.append(run)
    return runs


def emotion_precisions(scenes: Sequence[AnnotatedImage], pair: Answers) -> list[float]:
    """Return the AP50 of each emotion, nan for those absent from the truth.

    Every detection is a candidate for every emotion that is not ruled out, with the detection's
    score times the emotion's probability as its score. Pictures with unlabelled faces are left out.
    """
    complete = [index for index, scene in enumerate(scenes) if not scene.unlabelled_faces]
    values = []
    for index, emotion in enumerate(EMOTIONS):
        truth = [
            replace(
                scenes[number],
                faces=tuple(f for f in scenes[number].faces if f.ignored or f.category == emotion),
            )
            for number in complete
        ]
        found = [
            Detections(pair.found[n].boxes, pair.found[n].scores * pair.rows[n][:, index])
            for n in complete
        ]
        found = [each.above(np.nextafter(0, 1)) for each in found]
        values.append(float(match_scenes(truth, found, ["all"])["all"].precision()[0].mean()))
    return values


def _per_emotion(answers: FaceAnswers, precise: Sequence[float]) -> report.Run:
    result = {}
    for index, emotion in enumerate(EMOTIONS):
        chosen = answers.of(answers.label == index)
        named, right = answers.named[:, index].sum(), float(chosen.right.sum())
        result[emotion] = {
            "faces": len(chosen.label),
            "coverage": _mean(chosen.found),
            "accuracy_on_true_boxes": _mean(chosen.right_on_truth),
            "joint_accuracy": _mean(chosen.right),
            "precision": float(divide(right, named)),
            "ap50": precise[index],
        }
    return result


def _few(answers: FaceAnswers, keep: Flags, boot: Bootstrap) -> report.Run:
    chosen = answers.of(keep)
    metrics = metrics_of(chosen)
    run: report.Run = {"faces": len(chosen.label)}
    for name in ("coverage", "accuracy_on_matched", "joint_accuracy"):
        run |= {name: boot.value(metrics[name]), f"{name}_ci": boot.interval(metrics[name])}
    return run


def _slices(answers: FaceAnswers, faces: Faces) -> report.Run:
    groups = {
        "face_height": (faces.height, HEIGHTS),
        "brightness": (faces.brightness, BRIGHTNESSES),
        "faces_per_picture": (faces.together, CROWDS),
    }
    result: report.Run = {}
    for name, (values, bounds) in groups.items():
        result[name] = []
        for low, high in pairwise(bounds):
            array = np.array(values, np.float64)
            chosen = answers.of((array >= low) & (array < high))
            if len(chosen.label):
                result[name].append(
                    {
                        "from": low,
                        "below": high,
                        "faces": len(chosen.label),
                        "coverage": _mean(chosen.found),
                        "accuracy_on_matched": _mean(chosen.right[chosen.found]),
                        "joint_accuracy": _mean(chosen.right),
                    }
                )
    return result


def _mean(values: NDArray[np.float64] | Flags) -> float:
    return float(values.mean()) if len(values) else math.nan
