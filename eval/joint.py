"""Measure both stages together on photos with labelled faces: ``python -m eval.joint --help``.

The ground truth is COCO json whose categories are emotions (whatever their case, usual aliases
included). Detections at the detector's shipped threshold (0.5 for ``--results``) are matched to
faces greedily by score at IoU 0.5, whatever the emotion.

Definitions
    coverage: faces found / all faces.
    accuracy_on_matched: right emotions / faces found, seen through the detector's boxes.
    accuracy_on_true_boxes: right emotions / all faces, seen through the true boxes.
    joint_accuracy: faces found and right / all faces.
    cascade_gap: accuracy_on_true_boxes - accuracy_on_matched. To tell hard faces that are not found
        from boxes that fit badly, true_box_accuracy_of_matched is the accuracy through the true
        boxes of the found faces alone.
    macro_joint_accuracy: joint accuracy per emotion, then the mean over the emotions present.
    macro_f1: the mean over the emotions present of 2·right / (named + true), where false and
        repeated detections count among the named.
    ap50 per emotion, mean_ap50: average precision at IoU 0.5, a detection's score times its
        emotion's probability being the score.
    false_per_image, duplicates_per_image: as in eval.detection. Pictures flagged
        ``unlabelled_faces`` count neither for the false ones nor in their denominator.
    …_ci: 95 % interval by drawing the pictures 1,000 times anew (percentile bootstrap).
    …_difference: to the pair that is named first, with its interval over the same drawings: one
        that leaves out 0 is no chance of the pictures.
    without_doubtful: without the faces flagged ``doubtful``. slices: by face height (pixels), by
        brightness (mean of the crop's values, 0..255), by faces per picture.
``iscrowd`` boxes and those of ``--ignore-class`` need not be found; detections on them are ignored.

Other packages take part by files. ``python -m eval.crops`` cuts the crops of each detector and of
the true boxes and writes the detections; the other program writes one csv of probabilities per
folder; ``--results mtcnn=OUT/mtcnn/detections.json --scores fer=DIR`` reads both (DIR/mtcnn.csv,
DIR/truth.csv).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from eval.data import options
from eval.data.annotated import locate, read_scenes
from eval.data.pairs import (
    TRUTH,
    FiledFinder,
    FiledJudge,
    Finder,
    Judge,
    LiveFinder,
    LiveJudge,
    ask_all,
    crop_name,
    label_faces,
)
from eval.data.score_files import read_scores
from eval.detection import add_results_options, parse_results
from eval.metrics.joint import summarise
from eval.records import report
from eval.records.gallery import Gallery
from eval.records.sections import Section
from faces import command
from faces.coco import GroundTruth, load_coco, load_results
from faces.command import UserError
from faces.provenance import command_line

COMMAND = "eval.joint"

COLUMNS = {
    "detector": "text",
    "classifier": "text",
    "faces": "count",
    "coverage": "percent",
    "accuracy_on_matched": "percent",
    "accuracy_on_true_boxes": "percent",
    "joint_accuracy": "percent",
    "joint_accuracy_ci": "percent",
    "joint_accuracy_difference": "percent",
    "joint_accuracy_difference_ci": "percent",
    "mean_ap50": "percent",
    "false_per_image": "number",
    "duplicates_per_image": "number",
}

SECTION = Section(
    kind="joint",
    title="Both stages together",
    columns={
        "record": "text",
        "detector": "text",
        "classifier": "text",
        "faces": "count",
        "coverage": "percent",
        "accuracy_on_matched": "percent",
        "accuracy_on_true_boxes": "percent",
        "joint_accuracy": "percent",
        "joint_accuracy_ci": "percent",
        "without_doubtful.joint_accuracy": "percent",
        "joint_accuracy_difference": "percent",
        "joint_accuracy_difference_ci": "percent",
        "macro_joint_accuracy": "percent",
        "mean_ap50": "percent",
        "false_per_image": "number",
        "duplicates_per_image": "number",
    },
    headings={"without_doubtful.joint_accuracy": "without doubtful"},
)


def load_finders(arguments: argparse.Namespace, truth: GroundTruth) -> list[Finder]:
    """Load the detectors that are named, then the files of detections.

    Raises:
        UserError: one cannot be loaded, or two have one name.
    """
    detectors = options.load_detectors(arguments.detector, arguments.device)
    finders: list[Finder] = [LiveFinder(detector) for detector in detectors]
    for name, file, threshold in parse_results(arguments.results, arguments.results_threshold):
        if any(name == finder.name for finder in finders):
            raise UserError(f"--results {name}={file}: a --detector has that name already")
        finders.append(FiledFinder(name, threshold, load_results(file, truth.scenes)))
    return finders


def load_judges(
    arguments: argparse.Namespace, truth: GroundTruth, finders: Sequence[Finder]
) -> list[Judge]:
    """Load the classifiers that are named, then the folders of scores.

    Raises:
        UserError: one cannot be loaded, or a folder has scores for none of the detections.
    """
    classifiers = options.load_classifiers(arguments.classifier, arguments.device)
    judges: list[Judge] = [LiveJudge(classifier) for classifier in classifiers]
    counts = {f.name: f.by_image for f in finders if isinstance(f, FiledFinder)}
    crops = {
        name: [
            crop_name(id_, i) for id_, found in by_image.items() for i in range(len(found.boxes))
        ]
        for name, by_image in counts.items()
    }
    crops[TRUTH] = [crop_name(s.id, i) for s in truth.scenes for i in range(len(s.faces))]
    for value in arguments.scores:
        name, separator, folder = value.partition("=")
        if not (name and separator and folder) or any(name == judge.name for judge in judges):
            raise UserError(
                f"--scores {value}: expected name=DIR with a name of its own, as in fer=scores/fer"
            )
        files = {finder: Path(folder) / f"{finder}.csv" for finder in crops}
        read = {
            finder: dict(zip(crops[finder], read_scores(file, crops[finder]), strict=True))
            for finder, file in files.items()
            if file.is_file()
        }
        if not set(read) - {TRUTH}:
            expected = ", ".join(f"{finder}.csv" for finder in counts) or "a csv per --results"
            raise UserError(f"{folder}: holds none of the scores; expected {expected}")
        judges.append(FiledJudge(name, read))
    return judges


def emotions_table(runs: Sequence[report.Run]) -> str:
    """Lay the first detector-classifier pair's figures out per emotion."""
    rows = [
        {"emotion": emotion} | values
        for emotion, values in runs[0]["per_emotion"].items()
        if values["faces"]
    ]
    keys = ["coverage", "accuracy_on_true_boxes", "joint_accuracy", "precision", "ap50"]
    columns = dict.fromkeys(keys, "percent")
    return report.table(rows, {"emotion": "text", "faces": "count"} | columns)


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    result = argparse.ArgumentParser(
        prog=f"python -m {COMMAND}",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_photo_options(result)
    for stage in ("detector", "classifier"):
        result.add_argument(
            f"--{stage}",
            nargs="+",
            action="extend",
            default=[],
            metavar="NAME|RUN",
            help=f"shipped {stage}s by name, or folders that a training left; all pairs count",
        )
    add_results_options(result)
    result.add_argument(
        "--scores",
        nargs="+",
        action="extend",
        default=[],
        metavar="name=DIR",
        help="emotion scores of other packages on the crops of --results, see above",
    )
    result.add_argument(
        "--gallery",
        type=Path,
        metavar="FILE.html",
        help="a page of the first pair's worst errors; it shows pictures of the data",
    )
    result.add_argument(
        "--ignore-class",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="categories whose faces need not be found and do not count",
    )
    options.add_common_options(result)
    return result


def evaluate(arguments: argparse.Namespace, made_by: str) -> int:
    """Do what the command line ``made_by`` asks; returns the exit status."""
    report.check_out(arguments.out)
    report.check_out(arguments.gallery)
    if not (arguments.detector or arguments.results):
        raise UserError("no detector to measure; give --detector, --results or both")
    if not (arguments.classifier or arguments.scores):
        raise UserError("no classifier to measure; give --classifier, --scores or both")
    truth = label_faces(load_coco(arguments.coco), arguments.ignore_class)
    for fault in truth.faults:
        command.note(COMMAND, f"{truth.path}: {fault}")
    if not truth.faces:
        raise UserError(f"{truth.path}: has no labelled face; there is nothing to measure")
    pictures = locate(truth, arguments.images)
    finders = load_finders(arguments, truth)
    judges = load_judges(arguments, truth, finders)
    failures: list[str] = []
    stream = read_scenes(truth, pictures, failures.append)
    gallery = Gallery() if arguments.gallery else None
    scenes, faces, pairs = ask_all(stream, finders, judges, gallery)
    for failure in failures:
        command.note(COMMAND, failure)
    if not scenes:
        raise UserError(f"{arguments.images}: none of its pictures could be used")
    if not pairs:
        raise UserError("no pair can be measured; the --scores are of other --results")
    timing = {
        f.name: {
            "threshold": f.threshold,
            "ms_per_image": f.ms_per_image,
            "precision": report.precision_of(f),
        }
        for f in finders
    }
    about = {
        "coco": str(truth.path),
        "fingerprint": truth.fingerprint,
        "limits": truth.limits or None,
        "unreadable": len(failures),
    } | report.provenance(made_by, arguments.device)
    runs = [run | timing[run["detector"]] for run in summarise(scenes, faces, pairs)]
    runs = [run | about for run in runs]
    if arguments.out is not None:
        report.write_report(arguments.out, SECTION.kind, runs)
    print(report.table(runs, COLUMNS))
    if len(runs) == 1:
        print(f"\n{emotions_table(runs)}")
    if gallery is not None:
        gallery.write(arguments.gallery, f"{runs[0]['detector']}, {runs[0]['classifier']}: errors")
        print(f"wrote {arguments.gallery}")
    if truth.limits:
        print(f"\n{truth.limits}")
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
