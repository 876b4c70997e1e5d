"""Measure both stages together on photos with labelled faces: ``python -m eval.joint --help``.

The ground truth is COCO json whose categories are emotions (whatever their case, usual aliases
included). Detections at the detector's shipped threshold are matched to faces greedily by score at
IoU 0.5, whatever the emotion.

Definitions
    coverage: faces found / all faces.
    accuracy_on_matched: right emotions / faces found, seen through the detector's boxes.
    accuracy_on_true_boxes: right emotions / all faces, seen through the true boxes.
    joint_accuracy: faces found and right / all faces.
    cascade_gap: accuracy_on_true_boxes - accuracy_on_matched. To tell hard faces that are not found
        from boxes that fit badly, true_box_accuracy_of_matched is the accuracy through the true
        boxes of the found faces alone.
    false_per_image, duplicates_per_image: as in eval.detection. Pictures flagged
        ``unlabelled_faces`` count neither for the false ones nor in their denominator.
``iscrowd`` boxes and those of ``--ignore-class`` need not be found; detections on them are ignored.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval import command, report
from eval.coco import GroundTruth, Scene, TrueFace, load_coco
from eval.command import EvaluationError
from eval.detection import error_rates, ratio
from eval.metrics import Matching, match
from eval.scenes import TimedDetector, locate, read_scenes, scored
from faces.crops import crop_face
from faces.emotions import EMOTIONS, canonical_emotion
from faces.pipeline import Detector, EmotionClassifier, Image
from faces.provenance import command_line
from faces.types import Box

COMMAND = "eval.joint"

COLUMNS = {
    "detector": "text",
    "classifier": "text",
    "images": "count",
    "faces": "count",
    "coverage": "percent",
    "accuracy_on_matched": "percent",
    "accuracy_on_true_boxes": "percent",
    "joint_accuracy": "percent",
    "false_per_image": "number",
    "duplicates_per_image": "number",
}


@dataclass
class DetectorTally:
    """What one detector did, picture by picture, and what each classifier said through its boxes.

    Attributes:
        matchings: one per picture.
        found: per picture, which of its counted faces were found, shape (M,), bool.
        predicted: per classifier, per picture: the emotion predicted for each counted face, -1
            where it was not found.
    """

    matchings: list[Matching] = field(default_factory=list)
    found: list[NDArray[np.bool_]] = field(default_factory=list)
    predicted: list[list[NDArray[np.int64]]] = field(default_factory=list)


def label_faces(truth: GroundTruth, ignore: Collection[str] = ()) -> GroundTruth:
    """Return the ground truth with categories as names in ``EMOTIONS``.

    Args:
        truth: as read.
        ignore: categories whose faces are to be ignored, whatever the case.

    Raises:
        EvaluationError: a face that counts has a category that is no emotion.
    """
    left_out = {name.strip().lower() for name in ignore}

    def label(face: TrueFace) -> TrueFace:
        if face.ignored or face.category.strip().lower() in left_out:
            return replace(face, ignored=True)
        try:
            return replace(face, category=canonical_emotion(face.category))
        except ValueError as error:
            raise EvaluationError(
                f"{truth.path}: the category {face.category!r} is no emotion; expected "
                f"{', '.join(EMOTIONS)} (or an alias), or leave it out: "
                f"--ignore-class {face.category!r}"
            ) from error

    scenes = (replace(s, faces=tuple(label(face) for face in s.faces)) for s in truth.scenes)
    return replace(truth, scenes=tuple(scenes))


def measure_pairs(
    pictures: Iterable[tuple[Scene, Image]],
    detectors: Sequence[Detector],
    classifiers: Sequence[EmotionClassifier],
) -> tuple[list[Scene], list[report.Run]]:
    """Measure every detector with every classifier; each detector sees each picture once.

    Args:
        pictures: labelled scenes (``label_faces``) with their pictures.
        detectors: stage 1, used at their shipped thresholds.
        classifiers: stage 2.

    Returns:
        The scenes that came, and one run per pair, detectors in the outer order.
    """
    timed = [TimedDetector(detector) for detector in detectors]
    tallies = [DetectorTally(predicted=[[] for _ in classifiers]) for _ in detectors]
    through_truth: list[list[NDArray[np.int64]]] = [[] for _ in classifiers]
    scenes: list[Scene] = []
    for scene, image in pictures:
        scenes.append(scene)
        counted = np.flatnonzero(~scene.ignored)
        true_boxes = [scene.faces[index].box for index in counted]
        for said, classifier in zip(through_truth, classifiers, strict=True):
            said.append(_predict(classifier, image, true_boxes))
        for run, tally in zip(timed, tallies, strict=True):
            shown = scored(run(image))
            matching = match(shown.boxes, shown.scores, scene.boxes, scene.ignored)
            box_of = {
                int(face): Box(*shown.boxes[index].tolist())
                for index, face in enumerate(matching.face)
                if face >= 0
            }
            found = np.array([int(index) in box_of for index in counted], bool)
            tally.matchings.append(matching)
            tally.found.append(found)
            boxes = [box_of[int(index)] for index in counted[found]]
            for said, classifier in zip(tally.predicted, classifiers, strict=True):
                answers = np.full(len(counted), -1, np.int64)
                answers[found] = _predict(classifier, image, boxes)
                said.append(answers)
    runs = [
        {"detector": run.detector.name, "classifier": classifier.name}
        | summarise(scenes, tally, said, through)
        | {"threshold": run.detector.score_threshold, "ms_per_image": run.ms_per_image}
        for run, tally in zip(timed, tallies, strict=True)
        for classifier, said, through in zip(
            classifiers, tally.predicted, through_truth, strict=True
        )
    ]
    return scenes, runs


def summarise(
    scenes: Sequence[Scene],
    tally: DetectorTally,
    said: Sequence[NDArray[np.int64]],
    through_truth: Sequence[NDArray[np.int64]],
) -> report.Run:
    """Compute the metrics of one pair; the module's docstring defines them.

    Args:
        scenes: labelled pictures.
        tally: what the detector did in them.
        said: per picture, the emotion predicted for each counted face through the found box, -1
            where it was not found.
        through_truth: the same through the true boxes.
    """
    labels = [EMOTIONS.index(f.category) for s in scenes for f in s.faces if not f.ignored]
    truth = np.array(labels, np.int64)
    found = np.concatenate([np.zeros(0, bool), *tally.found])
    right = np.concatenate([np.zeros(0, np.int64), *said]) == truth
    right_on_truth = np.concatenate([np.zeros(0, np.int64), *through_truth]) == truth

    def share(hits: NDArray[np.bool_], among: NDArray[np.bool_]) -> float:
        return ratio(int((hits & among).sum()), int(among.sum()))

    everyone = np.ones(len(truth), bool)
    on_matched, on_truth = share(right, found), share(right_on_truth, everyone)
    return {
        "images": len(scenes),
        "faces": len(truth),
        "coverage": share(found, everyone),
        "accuracy_on_matched": on_matched,
        "accuracy_on_true_boxes": on_truth,
        "true_box_accuracy_of_matched": share(right_on_truth, found),
        "cascade_gap": on_truth - on_matched,
        "joint_accuracy": share(right, everyone),
        **error_rates(scenes, tally.matchings),
        "per_emotion": {
            emotion: {
                "faces": int((truth == index).sum()),
                "coverage": share(found, truth == index),
                "accuracy_on_true_boxes": share(right_on_truth, truth == index),
                "joint_accuracy": share(right, truth == index),
            }
            for index, emotion in enumerate(EMOTIONS)
        },
    }


def _predict(
    classifier: EmotionClassifier, image: Image, boxes: Sequence[Box]
) -> NDArray[np.int64]:
    if not boxes:
        return np.zeros(0, np.int64)
    scores = classifier.scores([crop_face(image, box) for box in boxes])
    return command.top_emotions(classifier, scores)


def emotions_table(runs: Sequence[report.Run]) -> str:
    """Lay the first detector-classifier pair's figures out per emotion."""
    rows = [
        {"emotion": emotion} | values
        for emotion, values in runs[0]["per_emotion"].items()
        if values["faces"]
    ]
    columns = dict.fromkeys(["coverage", "accuracy_on_true_boxes", "joint_accuracy"], "percent")
    return report.table(rows, {"emotion": "text", "faces": "count"} | columns)


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    result = argparse.ArgumentParser(
        prog=f"python -m {COMMAND}",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument(
        "--coco", type=Path, required=True, metavar="FILE.json", help="ground truth"
    )
    result.add_argument(
        "--images", type=Path, required=True, metavar="DIR|ZIP", help="where its pictures lie"
    )
    for stage in ("detector", "classifier"):
        result.add_argument(
            f"--{stage}",
            nargs="+",
            action="extend",
            required=True,
            metavar="NAME|RUN",
            help=f"shipped {stage}s by name, or folders that a training left; all pairs count",
        )
    result.add_argument(
        "--ignore-class",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="categories whose faces need not be found and do not count",
    )
    command.add_common_options(result)
    return result


def evaluate(arguments: argparse.Namespace, made_by: str) -> int:
    """Do what the command line ``made_by`` asks; returns the exit status."""
    report.check_out(arguments.out)
    truth = label_faces(load_coco(arguments.coco), arguments.ignore_class)
    for fault in truth.faults:
        command.note(COMMAND, f"{truth.path}: {fault}")
    if not truth.faces:
        raise EvaluationError(f"{truth.path}: has no labelled face; there is nothing to measure")
    pictures = locate(truth, arguments.images)
    detectors = command.load_detectors(arguments.detector, arguments.device)
    classifiers = command.load_classifiers(arguments.classifier, arguments.device)
    failures: list[str] = []
    stream = read_scenes(truth, pictures, failures.append)
    scenes, runs = measure_pairs(stream, detectors, classifiers)
    for failure in failures:
        command.note(COMMAND, failure)
    if not scenes:
        raise EvaluationError(f"{arguments.images}: none of its pictures could be used")
    about = {
        "coco": str(truth.path),
        "fingerprint": truth.fingerprint,
        "unreadable": len(failures),
    } | report.provenance(made_by)
    runs = [run | about for run in runs]
    if arguments.out is not None:
        report.write_report(arguments.out, runs)
    print(report.table(runs, COLUMNS))
    if len(runs) == 1:
        print(f"\n{emotions_table(runs)}")
    if failures:
        command.note(COMMAND, f"pictures left out: {len(failures)} of {len(truth.scenes)}")
    return 1 if failures else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = parser().parse_args(argv)
    made_by = command_line(COMMAND, argv)
    return command.run(COMMAND, lambda: evaluate(arguments, made_by))


if __name__ == "__main__":
    sys.exit(main())
