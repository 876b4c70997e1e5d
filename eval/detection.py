"""Measure face detectors on COCO ground truth: ``python -m eval.detection --help``.

Definitions
    ap, ap50, ap75: COCO average precision over all detections, whatever their score (at most 1,000
        a picture, where COCO's usual 100 would cut off crowds). All categories of the file count
        as *face*.
    Ignored ground truth: ``iscrowd`` boxes, and those whose shorter side is below ``--min-size``.
        They need not be found. A detection that finds no other face is ignored if at least half of
        it (for AP: the IoU threshold's share) lies inside one; that is COCO's own rule for crowds.
    false, duplicates: counted at the detector's shipped threshold (0.5 for ``--results``).
        Detections are matched to faces greedily by score at IoU 0.5. Of those that find no free
        face and are not ignored, a duplicate overlaps an already found face (IoU at least 0.5, or
        at least 70 % of it inside); the others are false. Pictures flagged ``unlabelled_faces``
        count neither for the false ones nor in their denominator.
    coverage: faces found at that threshold / all faces that are not ignored.
    miss_rate: the least share of faces missed where false faces and duplicates together are at most
        so many per picture (the threshold falls); log_average_miss_rate: its geometric mean at nine
        such prices from 0.01 to 1 (Dollár et al., 2012).
    ms_per_image: median wall-clock time of the detector's call, one picture at a time, at its own
        size, several detectors in turn, reading and warm-up excluded, with the record's "threads"
        and in the number format "precision".
    …_ci: 95 % interval by drawing the pictures 1,000 times anew (percentile bootstrap).
    …_difference: to the detector that is named first, with its interval over the same drawings: one
        that leaves out 0 is no chance of the pictures.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from eval.data import options
from eval.data.annotated import TimedDetector, locate, read_scenes, scored
from eval.metrics.average_precision import ap_metrics, match_scenes, summarise
from eval.metrics.bootstrap import Bootstrap, Metric, ratio_metric
from eval.metrics.miss_rate import AVERAGED, PRICES, judge, log_average
from eval.records import report
from eval.records.detection_curves import draw_curves
from eval.records.sections import Section
from faces import command
from faces.boxes import Matching, Verdict, match
from faces.coco import AnnotatedImage, Detections, GroundTruth, ImageId, load_coco, load_results
from faces.command import UserError
from faces.pipeline import Detector, Image
from faces.provenance import command_line

COMMAND = "eval.detection"

AP_MIN_SCORE = 0.0
"""For average precision, detectors are asked for everything."""

RESULTS_THRESHOLD = 0.5
"""Score from which on detections of ``--results`` are counted, where the user names no other."""

COLUMNS = {
    "detector": "text",
    "images": "count",
    "faces": "count",
    "ap": "percent",
    "ap_ci": "percent",
    "ap50": "percent",
    "ap50_ci": "percent",
    "threshold": "number",
    "coverage": "percent",
    "false_per_image": "number",
    "duplicates_per_image": "number",
    "ms_per_image": "number",
}

SECTION = Section(
    kind="detection",
    title="Faces in photos",
    columns={
        "record": "text",
        "detector": "text",
        "images": "count",
        "faces": "count",
        "min_size": "count",
        "ap": "percent",
        "ap_ci": "percent",
        "ap50": "percent",
        "ap50_ci": "percent",
        "ap50_difference": "percent",
        "ap50_difference_ci": "percent",
        "ap75": "percent",
        "ap_small": "percent",
        "ap_medium": "percent",
        "ap_large": "percent",
        "log_average_miss_rate": "percent",
        "coverage": "percent",
        "coverage_ci": "percent",
        "false_per_image": "number",
        "duplicates_per_image": "number",
        "ms_per_image": "number",
    },
)


@dataclass(frozen=True)
class Found:
    """What one detector found.

    Attributes:
        detector: its name.
        threshold: score from which on its detections are shown to users.
        by_image: picture → all its detections, below the threshold too.
        ms_per_image: nan where it was not measured.
        precision: the number format that the detector computes in, where that is known.
    """

    detector: str
    threshold: float
    by_image: Mapping[ImageId, Detections]
    ms_per_image: float = math.nan
    precision: str | None = None


def with_min_size(truth: GroundTruth, pixels: float) -> GroundTruth:
    """Return the ground truth with every face ignored whose shorter side is below ``pixels``."""

    def mark(scene: AnnotatedImage) -> AnnotatedImage:
        faces = tuple(
            replace(f, ignored=f.ignored or min(f.box.width, f.box.height) < pixels)
            for f in scene.faces
        )
        return replace(scene, faces=faces)

    return replace(truth, scenes=tuple(mark(scene) for scene in truth.scenes))


def detect_all(
    pictures: Iterable[tuple[AnnotatedImage, Image]], detectors: Sequence[Detector]
) -> tuple[list[AnnotatedImage], list[Found]]:
    """Run detectors over pictures, holding one picture at a time.

    Returns:
        The scenes that came, and what each detector found in them.
    """
    timed = [TimedDetector(detector, AP_MIN_SCORE) for detector in detectors]
    found: list[dict[ImageId, Detections]] = [{} for _ in detectors]
    scenes = []
    for scene, image in pictures:
        scenes.append(scene)
        for run, by_image in zip(timed, found, strict=True):
            by_image[scene.id] = scored(run(image))
    return scenes, [
        Found(
            run.detector.name,
            run.detector.score_threshold,
            by_image,
            run.ms_per_image,
            report.precision_of(run.detector),
        )
        for run, by_image in zip(timed, found, strict=True)
    ]


def measure_all(scenes: Sequence[AnnotatedImage], found: Sequence[Found]) -> list[report.Run]:
    """Compute the metrics of several detectors; each after the first is compared with that one."""
    bootstrap = Bootstrap.of(len(scenes))
    runs: list[report.Run] = []
    first: dict[str, Metric] = {}
    for each in found:
        run, metrics = measure(scenes, each, bootstrap)
        if first:
            run["compared_with"] = found[0].detector
            for name, metric in metrics.items():
                difference = bootstrap.difference(metric, first[name])
                run[f"{name}_difference"], run[f"{name}_difference_ci"] = difference
        first = first or metrics
        runs.append(run)
    return runs


def measure(
    scenes: Sequence[AnnotatedImage], found: Found, bootstrap: Bootstrap
) -> tuple[report.Run, dict[str, Metric]]:
    """Compute the metrics of one detector; the module's docstring defines them.

    Args:
        scenes: the annotated pictures.
        found: what the detector found in them.
        bootstrap: drawings of the pictures.

    Returns:
        The figures, and those with an interval as functions of the pictures' weights.
    """
    detections = [found.by_image[scene.id] for scene in scenes]
    matchings = [
        match_shown(s, d, found.threshold) for s, d in zip(scenes, detections, strict=True)
    ]
    faces = [int((~scene.ignored).sum()) for scene in scenes]
    hits = [m.count(Verdict.MATCHED) for m in matchings]
    matches = match_scenes(scenes, detections)
    metrics = ap_metrics(matches["all"]) | {"coverage": ratio_metric(hits, faces)}
    judged = judge(scenes, detections)
    run = {
        "detector": found.detector,
        "images": len(scenes),
        "faces": sum(faces),
        **asdict(summarise(matches)),
        **{f"{name}_ci": bootstrap.interval(metric) for name, metric in metrics.items()},
        "threshold": found.threshold,
        "coverage": ratio(sum(hits), sum(faces)),
        **error_rates(scenes, matchings),
        "log_average_miss_rate": log_average(judged.miss_rate(AVERAGED)),
        "ms_per_image": found.ms_per_image,
        "precision": found.precision,
        "precision_by_recall": matches["all"].precision()[0].round(4),
        "miss_rate": {
            "false_per_image": PRICES.round(4),
            "miss_rate": judged.miss_rate(PRICES).round(4),
        },
    }
    return run, metrics


def match_shown(scene: AnnotatedImage, detections: Detections, threshold: float) -> Matching:
    """Match the detections at or above a threshold to a picture's faces."""
    shown = detections.above(threshold)
    return match(shown.boxes, shown.scores, scene.boxes, scene.ignored)


def error_rates(
    scenes: Sequence[AnnotatedImage], matchings: Sequence[Matching]
) -> dict[str, float]:
    """Return false and repeated detections per picture; see the module's docstring."""
    pairs = list(zip(scenes, matchings, strict=True))
    false = [m.count(Verdict.FALSE) for scene, m in pairs if not scene.unlabelled_faces]
    duplicates = [m.count(Verdict.DUPLICATE) for m in matchings]
    return {
        "false_per_image": ratio(sum(false), len(false)),
        "images_for_false": len(false),
        "duplicates_per_image": ratio(sum(duplicates), len(duplicates)),
    }


def ratio(part: float, whole: float) -> float:
    """Return part / whole; nan where there is nothing to divide by."""
    return part / whole if whole else math.nan


def parse_results(
    values: Sequence[str], thresholds: Sequence[str]
) -> list[tuple[str, Path, float]]:
    """Parse ``--results name=FILE`` and ``--results-threshold T | name=T``.

    Returns:
        (name, file, threshold) of each.

    Raises:
        UserError: a value has another form, or a name occurs twice or not at all.
    """
    files: dict[str, Path] = {}
    for value in values:
        name, separator, file = value.partition("=")
        if not separator or not name or not file:
            raise UserError(f"--results {value}: expected name=FILE, as in mtcnn=mtcnn.json")
        if name in files:
            raise UserError(f"--results {value}: the name {name} is given twice")
        files[name] = Path(file)
    default, own = RESULTS_THRESHOLD, {}
    for value in thresholds:
        name, _, number = value.rpartition("=")
        try:
            threshold = float(number)
        except ValueError:
            threshold = math.nan
        if not math.isfinite(threshold) or (name and name not in files):
            raise UserError(
                f"--results-threshold {value}: expected a score, or name=score with the name of a "
                "--results"
            )
        if name:
            own[name] = threshold
        else:
            default = threshold
    return [(name, file, own.get(name, default)) for name, file in files.items()]


def add_results_options(result: argparse.ArgumentParser) -> None:
    """Add the options for detections of other packages; ``parse_results`` reads them."""
    result.add_argument(
        "--results",
        nargs="+",
        action="extend",
        default=[],
        metavar="name=FILE.json",
        help="detections of other packages as COCO result files, measured beside the detectors",
    )
    result.add_argument(
        "--results-threshold",
        nargs="+",
        action="extend",
        default=[],
        metavar="T|name=T",
        help=f"score from which on those count as shown (default {RESULTS_THRESHOLD})",
    )


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
    result.add_argument("--images", type=Path, metavar="DIR|ZIP", help="where its pictures lie")
    result.add_argument(
        "--detector",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME|RUN",
        help="shipped detectors by name, or folders that a training left",
    )
    add_results_options(result)
    result.add_argument(
        "--min-size",
        type=command.positive_pixels,
        default=0.0,
        metavar="PX",
        help="ignore faces whose shorter side is below this, in pixels of the picture as it lies",
    )
    result.add_argument(
        "--figures",
        type=Path,
        metavar="DIR",
        help="draw the precision-recall and miss-rate curves there, named after --out or --coco",
    )
    options.add_common_options(result)
    return result


def evaluate(arguments: argparse.Namespace, made_by: str) -> int:
    """Do what the command line ``made_by`` asks; returns the exit status."""
    report.check_out(arguments.out)
    if arguments.figures is not None:
        report.check_out(arguments.figures / "curves.png")
    if not arguments.detector and not arguments.results:
        raise UserError("nothing to measure; give --detector, --results or both")
    if arguments.detector and arguments.images is None:
        raise UserError("--detector needs the pictures; give their folder as --images")
    truth = with_min_size(load_coco(arguments.coco), arguments.min_size)
    for fault in truth.faults:
        command.note(COMMAND, f"{truth.path}: {fault}")
    external = [
        Found(name, threshold, load_results(file, truth.scenes))
        for name, file, threshold in parse_results(arguments.results, arguments.results_threshold)
    ]
    failures: list[str] = []
    scenes, found = list(truth.scenes), list[Found]()
    if arguments.detector:
        pictures = locate(truth, arguments.images)
        detectors = options.load_detectors(arguments.detector, arguments.device)
        scenes, found = detect_all(read_scenes(truth, pictures, failures.append), detectors)
    for failure in failures:
        command.note(COMMAND, failure)
    if not scenes:
        raise UserError(f"{arguments.images}: none of its pictures could be used")
    about = {
        "coco": str(truth.path),
        "fingerprint": truth.fingerprint,
        "min_size": arguments.min_size,
        "unreadable": len(failures),
    } | report.provenance(made_by, arguments.device)
    runs = [run | about for run in measure_all(scenes, [*found, *external])]
    if arguments.out is not None:
        report.write_report(arguments.out, SECTION.kind, runs)
    if arguments.figures is not None:
        draw_curves(runs, arguments.figures, (arguments.out or arguments.coco).stem)
    print(report.table(runs, COLUMNS))
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
