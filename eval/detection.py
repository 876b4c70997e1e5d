"""Measure face detectors on COCO ground truth: ``python -m eval.detection --help``.

Definitions
    ap, ap50, ap75: COCO average precision over all detections, whatever their score (at most 1,000
        an image, where COCO's usual 100 would cut off crowds). All categories of the file count as
        *face*.
    Ignored ground truth: ``iscrowd`` boxes, and those whose shorter side is below ``--min-size``.
        They need not be found. A detection that matches no other face is ignored if at least half
        of it (for AP: the IoU threshold's share) lies inside one; that is COCO's rule for crowds.
    false, duplicates: counted at the detector's shipped threshold (0.5 for ``--results``).
        Detections are matched to faces greedily by score at IoU 0.5. Of those that match no free
        face and are not ignored, a duplicate overlaps an already matched face (IoU at least 0.5, or
        at least 70 % of it inside); the others are false positives. Images flagged
        ``unlabelled_faces`` count neither for the false positives nor in their denominator.
    coverage: faces found at that threshold / all faces that are not ignored.
    miss_rate: the lowest share of faces missed at no more than so many false positives (duplicates
        included) per image (FPPI), as the threshold falls; log_average_miss_rate: its geometric
        mean at nine FPPI from 0.01 to 1 (Dollár et al., 2012).
    ms_per_image: median wall-clock time of the detector's call, one image at a time, at its own
        size, several detectors in turn, reading and warm-up excluded, with the record's "threads"
        and in the number format "precision".
    …_ci: 95 % interval of the percentile bootstrap over images (1,000 resamples).
    …_difference: to the detector that is named first, with its interval over the same resamples: an
        interval without 0 shows a difference that is more than chance.
"""

from __future__ import annotations

import math
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path

from eval.data import options
from eval.data.detections import (
    DetectionSource,
    SavedDetections,
    TimedDetector,
    add_results_options,
    load_saved,
    with_min_size,
)
from eval.data.images import AnnotatedImages
from eval.metrics.average_precision import ap_metrics, match_images, summarise
from eval.metrics.bootstrap import Bootstrap, Metric, ratio_metric
from eval.metrics.miss_rate import FPPI, REFERENCE_FPPI, log_average
from eval.records import report
from eval.records.detection_curves import draw_curves
from eval.records.sections import Section, columns
from faces.boxes import Matching, Verdict, match
from faces.coco import AnnotatedImage, Detections, GroundTruth, ImageId, load_coco
from faces.command import UserError
from faces.pipeline import Image
from faces.ranking import rank
from faces.scope import Scope, add_scope_options

COMMAND = "eval.detection"

AP_MIN_SCORE = 0.0
"""For average precision, detectors are asked for everything."""

SECTION = Section(
    kind="detection",
    title="Faces in photos",
    columns=columns(
        "text: record detector",
        "count: images faces min_size",
        "percent: ap ap_ci ap50 ap50_ci ap50_difference ap50_difference_ci ap75 ap_small "
        "ap_medium ap_large log_average_miss_rate coverage coverage_ci",
        "number: false_per_image duplicates_per_image ms_per_image",
    ),
    brief=(
        "detector images faces ap ap_ci ap50 ap50_ci threshold coverage false_per_image "
        "duplicates_per_image ms_per_image"
    ),
)


def detect_all(
    images: Iterable[tuple[AnnotatedImage, Image]], detectors: Sequence[DetectionSource]
) -> tuple[list[AnnotatedImage], list[SavedDetections]]:
    """Run detectors over images, one at a time; return the images that came, and all detections."""
    by_image: list[dict[ImageId, Detections]] = [{} for _ in detectors]
    seen = []
    for image, pixels in images:
        seen.append(image)
        for detector, found in zip(detectors, by_image, strict=True):
            found[image.id] = detector.find(image, pixels)
    return seen, [
        SavedDetections(d.name, d.threshold, found, d.ms_per_image, d.precision)
        for d, found in zip(detectors, by_image, strict=True)
    ]


def measure_all(
    images: Sequence[AnnotatedImage], detected: Sequence[SavedDetections]
) -> list[report.Row]:
    """Compute the metrics of several detectors; each after the first is compared with that one."""
    bootstrap = Bootstrap.of(len(images))
    rows: list[report.Row] = []
    first: dict[str, Metric] = {}
    for each in detected:
        row, metrics = measure(images, each, bootstrap)
        if first:
            row["compared_with"] = detected[0].name
            row |= bootstrap.differences(metrics, first)
        first = first or metrics
        rows.append(row)
    return rows


def measure(
    images: Sequence[AnnotatedImage], detected: SavedDetections, bootstrap: Bootstrap
) -> tuple[report.Row, dict[str, Metric]]:
    """Compute the metrics of one detector; the module's docstring defines them.

    Returns:
        The row, and the metrics with an interval as functions of the images' weights.
    """
    detections = [detected.by_image[image.id] for image in images]
    shown = [found.above(detected.threshold) for found in detections]
    matchings = [
        match(found.boxes, found.scores, image.boxes, image.ignored)
        for image, found in zip(images, shown, strict=True)
    ]
    faces = [int((~image.ignored).sum()) for image in images]
    matched = [m.count(Verdict.MATCHED) for m in matchings]
    matches = match_images(images, detections)
    metrics = ap_metrics(matches["all"]) | {"coverage": ratio_metric(matched, faces)}
    ranked = rank(images, detections)
    row = {
        "detector": detected.name,
        "images": len(images),
        "faces": sum(faces),
        **summarise(matches),
        **{f"{name}_ci": bootstrap.interval(metric) for name, metric in metrics.items()},
        "threshold": detected.threshold,
        "coverage": ratio(sum(matched), sum(faces)),
        **error_rates(images, matchings),
        "log_average_miss_rate": log_average(ranked.miss_rate(REFERENCE_FPPI)),
        "ms_per_image": detected.ms_per_image,
        "precision": detected.precision,
        "precision_by_recall": matches["all"].precision()[0].round(4),
        "miss_rate": {
            "false_per_image": FPPI.round(4),
            "miss_rate": ranked.miss_rate(FPPI).round(4),
        },
    }
    return row, metrics


def error_rates(
    images: Sequence[AnnotatedImage], matchings: Sequence[Matching]
) -> dict[str, float]:
    """Return false positives and duplicates per image; see the module's docstring."""
    pairs = list(zip(images, matchings, strict=True))
    false = [m.count(Verdict.FALSE_POSITIVE) for image, m in pairs if not image.unlabelled_faces]
    duplicates = [m.count(Verdict.DUPLICATE) for m in matchings]
    return {
        "false_per_image": ratio(sum(false), len(false)),
        "images_for_false": len(false),
        "duplicates_per_image": ratio(sum(duplicates), len(duplicates)),
    }


def ratio(part: float, whole: float) -> float:
    """Return part / whole; nan where there is nothing to divide by."""
    return part / whole if whole else math.nan


def _add_options(parser: ArgumentParser) -> None:
    annotated = parser.add_mutually_exclusive_group(required=True)
    annotated.add_argument("--coco", type=Path, metavar="FILE.json", help="ground truth")
    annotated.add_argument(
        "--dataturks",
        nargs=2,
        type=Path,
        metavar=("JSON", "IMAGES"),
        help="a Dataturks export and the folder of its images, instead of --coco and --images",
    )
    parser.add_argument("--images", type=Path, metavar="DIR|ZIP", help="where COCO's images lie")
    parser.add_argument(
        "--split", choices=("train", "val", "test"), help="only this one of --dataturks"
    )
    options.add_models(parser, "detector")
    add_results_options(parser)
    options.add_min_size_option(parser)
    text = "draw the precision-recall and miss-rate curves there, named after --out or the data"
    parser.add_argument("--figures", type=Path, metavar="DIR", help=text)
    add_scope_options(parser)
    options.add_common_options(parser)


def load_truth(arguments: Namespace) -> GroundTruth:
    """Read the ground truth that the options name; with ``--dataturks``, set ``--images`` too.

    Raises:
        UserError: it cannot be used, or the options contradict each other.
    """
    if arguments.dataturks is None:
        if arguments.split:
            raise UserError("--split: only with --dataturks; give a COCO file of the split")
        if arguments.detector and arguments.images is None:
            raise UserError("--detector needs the images; give their folder as --images")
        return load_coco(arguments.coco)
    if arguments.images is not None:
        raise UserError("--images: only with --coco; --dataturks names its images itself")
    from detection.data.catalog import load_dataturks

    file, arguments.images = arguments.dataturks
    return load_dataturks(file, arguments.images, arguments.split or "")


def _evaluate(arguments: Namespace) -> int:
    if arguments.figures is not None:
        options.check_out(arguments.figures / "curves.png")
    if not arguments.detector and not arguments.results:
        raise UserError("nothing to measure; give --detector, --results or both")
    truth = with_min_size(load_truth(arguments), arguments.min_size)
    options.check_truth(truth, COMMAND)
    saved = load_saved(arguments, truth.images)

    # Run the detectors; without any, the files are measured on all images.
    measured, detected, status, failed = list(truth.images), list[SavedDetections](), 0, 0
    if arguments.detector:
        images = AnnotatedImages(truth, arguments.images)
        detectors = options.load_detectors(
            arguments.detector,
            arguments.device,
            scope=Scope(arguments.detail, arguments.min_face),
        )
        timed = [TimedDetector(detector, AP_MIN_SCORE) for detector in detectors]
        measured, detected = detect_all(images, timed)
        status, failed = images.close(COMMAND), len(images.failed)

    about = {
        "coco": str(truth.path),
        "fingerprint": truth.fingerprint,
        "min_size": arguments.min_size,
        "detail": arguments.detail,
        "min_face": arguments.min_face,
        "unreadable": failed,
    }
    rows = [row | about for row in measure_all(measured, [*detected, *saved])]
    SECTION.publish(arguments, rows)
    if arguments.figures is not None:
        draw_curves(rows, arguments.figures, (arguments.out or truth.path).stem)
    return status


main = options.Command(COMMAND, __doc__, _add_options, _evaluate)

if __name__ == "__main__":
    raise SystemExit(main())
