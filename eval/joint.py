"""Measure both stages together on images with labelled faces: ``python -m eval.joint --help``.

The ground truth is COCO json whose categories are emotions (whatever their case, usual aliases
included). Detections at the detector's shipped threshold (0.5 for ``--results``) are matched to
faces greedily by score at IoU 0.5, whatever the emotion.

Definitions
    coverage: faces found / all faces.
    accuracy_on_matched: right emotions / faces found, in the detector's boxes.
    accuracy_on_true_boxes: right emotions / all faces, in the ground-truth boxes.
    joint_accuracy: faces found with the right emotion / all faces.
    cascade_gap: accuracy_on_true_boxes - accuracy_on_matched. true_box_accuracy_of_matched is the
        accuracy in the ground-truth boxes of the found faces alone; it tells hard faces that are
        not found from boxes that fit badly.
    macro_joint_accuracy: joint accuracy per emotion, then the mean over the emotions present.
    macro_f1: the mean over the emotions present of 2·right / (predicted + true), where false
        positives and duplicates count among the predicted.
    ap50 per emotion, mean_ap50: average precision at IoU 0.5; the score is the detection's score
        times its emotion's probability.
    false_per_image, duplicates_per_image: as in eval.detection. Images flagged
        ``unlabelled_faces`` count neither for the false positives nor in their denominator.
    …_ci: 95 % interval of the percentile bootstrap over images (1,000 resamples).
    …_difference: to the pair that is named first, with its interval over the same resamples: an
        interval without 0 shows a difference that is more than chance.
    without_doubtful: without the faces flagged ``doubtful``. slices: by face height (pixels), by
        brightness (mean of the crop's values, 0..255), by faces per image.
``iscrowd`` boxes and those of ``--ignore-class`` need not be found; detections on them are ignored.

Other packages take part by files. ``python -m eval.crops`` cuts the crops of each detector and of
the ground-truth boxes and writes the detections; the other program writes one csv of probabilities
per folder; ``--results mtcnn=OUT/mtcnn/detections.json --scores fer=DIR`` reads both
(DIR/mtcnn.csv, DIR/truth.csv).
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from eval.data import options
from eval.data.detections import (
    DetectionSource,
    SavedDetections,
    add_results_options,
    load_sources,
)
from eval.data.images import AnnotatedImages
from eval.data.pairs import (
    MIN_SCORE,
    TRUTH,
    LiveClassifier,
    ProbabilitySource,
    SavedProbabilities,
    answer_all,
    crop_name,
    label_faces,
)
from eval.data.score_files import read_scores
from eval.metrics.joint import summarise
from eval.records import report
from eval.records.gallery import Gallery
from eval.records.sections import Section, columns
from faces.coco import GroundTruth, load_coco
from faces.command import UserError
from faces.scope import add_scope_options

COMMAND = "eval.joint"

SECTION = Section(
    kind="joint",
    title="Both stages together",
    columns=columns(
        "text: record detector classifier",
        "count: faces",
        "percent: coverage accuracy_on_matched accuracy_on_true_boxes joint_accuracy "
        "joint_accuracy_ci without_doubtful.joint_accuracy joint_accuracy_difference "
        "joint_accuracy_difference_ci macro_joint_accuracy mean_ap50",
        "number: false_per_image duplicates_per_image",
    ),
    headings={"without_doubtful.joint_accuracy": "without doubtful"},
    brief=(
        "detector classifier faces coverage accuracy_on_matched accuracy_on_true_boxes "
        "joint_accuracy joint_accuracy_ci joint_accuracy_difference "
        "joint_accuracy_difference_ci mean_ap50 false_per_image duplicates_per_image"
    ),
)


STAGE_1 = ("threshold", "ms_per_image", "precision")
"""What a row has of its detector."""


def load_classifiers(
    arguments: Namespace, truth: GroundTruth, detectors: Sequence[DetectionSource]
) -> list[ProbabilitySource]:
    """Load the classifiers that are named, then the folders of scores.

    Raises:
        UserError: one cannot be loaded, or a folder has scores for none of the detections.
    """
    models = options.load_classifiers(arguments.classifier, arguments.device)
    found: list[ProbabilitySource] = [LiveClassifier(model) for model in models]

    # The names of the crops that each csv must have: those of eval.crops.
    counts = {
        saved.name: {image: len(found.boxes) for image, found in saved.by_image.items()}
        for saved in detectors
        if isinstance(saved, SavedDetections)
    }
    expected = ", ".join(f"{name}.csv" for name in counts) or "a csv per --results"
    counts[TRUTH] = {image.id: len(image.faces) for image in truth.images}
    crops = {
        name: [crop_name(image, index) for image, n in of.items() for index in range(n)]
        for name, of in counts.items()
    }

    for value in arguments.scores:
        name, _, folder = value.partition("=")
        if not (name and folder) or any(name == other.name for other in found):
            raise UserError(
                f"--scores {value}: expected name=DIR with a name of its own, as in fer=scores/fer"
            )
        files = {detector: Path(folder) / f"{detector}.csv" for detector in crops}
        read = {
            detector: dict(zip(crops[detector], read_scores(file, crops[detector]), strict=True))
            for detector, file in files.items()
            if file.is_file()
        }
        if not set(read) - {TRUTH}:
            raise UserError(f"{folder}: holds none of the scores; expected {expected}")
        found.append(SavedProbabilities(name, read))
    return found


def emotions_table(row: report.Row) -> str:
    """Lay one pair's figures out per emotion."""
    per_emotion = row["per_emotion"].items()
    rows = [{"emotion": emotion} | own for emotion, own in per_emotion if own["faces"]]
    shares = "percent: coverage accuracy_on_true_boxes joint_accuracy precision ap50"
    return report.table(rows, columns("text: emotion", "count: faces", shares))


def _add_options(parser: ArgumentParser) -> None:
    options.add_photo_options(parser)
    options.add_models(parser, "detector")
    options.add_models(parser, "classifier")
    add_results_options(parser)
    add_scope_options(parser)
    text = "emotion scores of other packages on the crops of --results, see above"
    options.add_several(parser, "--scores", "name=DIR", text)
    parser.add_argument(
        "--gallery",
        type=Path,
        metavar="FILE.html",
        help="a page of the first pair's worst errors; it shows images of the data",
    )
    text = "categories whose faces need not be found and do not count"
    options.add_several(parser, "--ignore-class", "NAME", text)
    options.add_common_options(parser)


def evaluate(arguments: Namespace) -> int:
    """Measure all pairs and write what the options name; returns the exit status."""
    if not (arguments.detector or arguments.results):
        raise UserError("no detector to measure; give --detector, --results or both")
    if not (arguments.classifier or arguments.scores):
        raise UserError("no classifier to measure; give --classifier, --scores or both")
    truth = label_faces(load_coco(arguments.coco), arguments.ignore_class)
    options.check_truth(truth, COMMAND)
    images = AnnotatedImages(truth, arguments.images)
    detectors = load_sources(arguments, truth, MIN_SCORE)
    classifiers = load_classifiers(arguments, truth, detectors)
    gallery = Gallery() if arguments.gallery else None

    # Every pair looks at every image.
    seen, faces, pairs = answer_all(images, detectors, classifiers, gallery)
    status = images.close(COMMAND)
    if not pairs:
        raise UserError("no pair can be measured; the --scores are of other --results")

    # The record, the tables, the page of errors.
    about = {
        "coco": str(truth.path),
        "fingerprint": truth.fingerprint,
        "limits": truth.limits or None,
        "unreadable": len(images.failed),
    }
    stage_1 = {d.name: {key: getattr(d, key) for key in STAGE_1} for d in detectors}
    rows = [row | stage_1[row["detector"]] | about for row in summarise(seen, faces, pairs)]
    SECTION.publish(arguments, rows)
    if len(rows) == 1:
        print(f"\n{emotions_table(rows[0])}")
    if gallery is not None:
        gallery.write(arguments.gallery, f"{rows[0]['detector']}, {rows[0]['classifier']}: errors")
        print(f"wrote {arguments.gallery}")
    if truth.limits:
        print(f"\n{truth.limits}")
    return status


main = options.Command(COMMAND, __doc__, _add_options, evaluate)

if __name__ == "__main__":
    raise SystemExit(main())
