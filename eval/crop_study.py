"""Measure how the crop should be cut: ``python -m eval.crop_study --help``.

Stage 2 was trained on FER2013's framing and sees a detector's. On labelled photos, the faces that
the detector finds are cut with several margins and in several shapes:
    longer side: a square on the box's centre with its longer side (the project's rule).
    mean side, shorter side: the same with the geometric mean of the sides, with the shorter one.
    stretched: the box itself, stretched to a square.
With ``--data``, the detector's jitter is simulated on FER2013: PublicTest's images are cut by boxes
with the errors of the detector's boxes in the photos (shift and size around their mean, drawn from
the matches), at 0, 1 and 2 times that strength.

Definitions
    accuracy, nll: of the labels of the found faces, and the mean negative log-likelihood, which
        tells more apart on few faces.
    …_difference: to the rule in use, with its 95 % interval by the paired bootstrap over photos.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from classification.data.fer2013 import Fer2013
from classification.inference.calibration import negative_log_likelihood, one_hot
from eval.data import fer2013_parts as fer
from eval.data import options
from eval.data.images import AnnotatedImages
from eval.data.pairs import label_faces, matched_faces
from eval.metrics.bootstrap import Bootstrap, Metric, ratio_metric
from eval.records import plots, report
from eval.records.sections import Section, columns
from faces.coco import AnnotatedImage, load_coco
from faces.command import UserError
from faces.crops import CROP_MARGIN, crop_face
from faces.emotions import EMOTIONS
from faces.pipeline import Detector, EmotionClassifier, Image
from faces.types import Box

COMMAND = "eval.crop_study"

SHAPES = ("longer side", "mean side", "shorter side", "stretched")
"""The project's rule is the first."""

MARGINS = (-0.1, -0.05, 0.0, 0.05, 0.1, 0.15, 0.2, 0.3)
"""The margins that are tried, as ``faces.crops.crop_face`` takes them."""

CROPS = tuple((shape, margin) for shape in SHAPES for margin in MARGINS)
"""All crops of one face."""

JITTERED_MARGINS = (-0.1, -0.05, 0.0, 0.05, 0.1)
"""Those of the simulation: FER2013's images end at the face."""

STRENGTHS = (0.0, 1.0, 2.0)
"""How many times the detector's own jitter is simulated."""

SECTION = Section(
    kind="crop_study",
    title="The crop",
    columns=columns(
        "text: record detector classifier crop_shape",
        "count: n",
        "percent: accuracy_in_use",
        "number: best_margin",
        "percent: accuracy accuracy_difference accuracy_difference_ci",
        "number: nll",
    ),
)


@dataclass
class FoundFaces:
    """The labelled faces that a detector found, with classifiers' answers to every crop of them."""

    label: list[int] = field(default_factory=list)  # indices into ``EMOTIONS``
    image: list[int] = field(default_factory=list)  # number of the image of each
    # per face, those of its box, see ``box_error``
    errors: list[tuple[float, float, float]] = field(default_factory=list)
    # per classifier, per face, those of its ``CROPS``, (len(CROPS), 7)
    probabilities: list[list[NDArray[np.float32]]] = field(default_factory=list)


def cut(image: Image, box: Box, shape: str, margin: float) -> Image:
    """Cut one of ``SHAPES`` out of an image, (S, S, 3) uint8 RGB; see the module's docstring."""
    if shape == "stretched":
        square = crop_face(image, box, margin)
        side, longer = square.shape[0], max(box.width, box.height)
        width, height = (max(1, round(side * v / longer)) for v in (box.width, box.height))
        left, top = (side - width) // 2, (side - height) // 2
        part = square[top : top + height, left : left + width]
        return np.asarray(cv2.resize(part, (side, side)), np.uint8)
    sides = {
        "longer side": max(box.width, box.height),
        "mean side": (box.width * box.height) ** 0.5,
        "shorter side": min(box.width, box.height),
    }
    return crop_face(image, _square(box, sides[shape]), margin)


def _square(box: Box, side: float) -> Box:
    x, y = (box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2
    return Box(x - side / 2, y - side / 2, x + side / 2, y + side / 2)


def box_error(found: Box, true: Box) -> tuple[float, float, float]:
    """Return the error of a detector's box: (dx, dy, log size).

    ``dx`` and ``dy`` are the centre's distance from the true one as a fraction of the true box's
    longer side; ``log size`` is the logarithm of the quotient of the longer sides.
    """
    longer = max(true.width, true.height)
    dx = (found.x1 + found.x2 - true.x1 - true.x2) / 2 / longer
    dy = (found.y1 + found.y2 - true.y1 - true.y2) / 2 / longer
    return dx, dy, float(np.log(max(found.width, found.height) / longer))


def find_faces(
    images: Iterable[tuple[AnnotatedImage, Image]],
    detector: Detector,
    classifiers: Sequence[EmotionClassifier],
) -> FoundFaces:
    """Find the labelled faces, cut them in every way, and classify all crops."""
    faces = FoundFaces(probabilities=[[] for _ in classifiers])
    for found in matched_faces(images, detector):
        faces.label.append(found.label)
        faces.image.append(found.number)
        faces.errors.append(box_error(found.box, found.face.box))
        crops = [cut(found.pixels, found.box, shape, margin) for shape, margin in CROPS]
        for rows, classifier in zip(faces.probabilities, classifiers, strict=True):
            rows.append(classifier.probabilities(crops))
            options.check_finite(rows[-1], classifier.name)
    return faces


def measure(faces: FoundFaces, probabilities: Sequence[NDArray[np.float32]]) -> list[report.Row]:
    """Measure one classifier, by its entry of ``faces.probabilities``, on every crop.

    Returns:
        One row per shape, with its figures by margin and those of its best one.
    """
    label, image = np.array(faces.label), np.array(faces.image)
    images = int(image.max()) + 1
    totals = np.bincount(image, minlength=images)
    boot = Bootstrap.of(images)
    truth = one_hot(label, len(EMOTIONS))

    def figures(p: NDArray[np.float32]) -> tuple[Metric, float]:
        right = np.bincount(image, weights=p.argmax(axis=1) == label, minlength=images)
        return ratio_metric(right, totals), negative_log_likelihood(p, truth)

    by_crop = np.stack(probabilities, axis=1)
    results = {key: figures(p) for key, p in zip(CROPS, by_crop, strict=True)}
    in_use = results[SHAPES[0], CROP_MARGIN][0]
    rows: list[report.Row] = []
    for shape in SHAPES:
        by_margin: list[report.Row] = []
        for margin in MARGINS:
            metric, nll = results[shape, margin]
            row = {"margin": margin, "accuracy": boot.value(metric)}
            row |= boot.differences({"accuracy": metric}, {"accuracy": in_use})
            by_margin.append(row | {"nll": nll})
        best = max(by_margin, key=lambda row: (row["accuracy"], -row["nll"]))
        about = {"crop_shape": shape, "n": len(label)}
        used = {"accuracy_in_use": boot.value(in_use), "margin_in_use": CROP_MARGIN}
        best = {("best_margin" if key == "margin" else key): best[key] for key in best}
        rows.append(about | used | best | {"by_margin": by_margin})
    return rows


def jitter(
    data: Fer2013, classifier: EmotionClassifier, errors: NDArray[np.float64]
) -> list[report.Row]:
    """Measure a classifier on FER2013's images, cut by boxes with a detector's errors (N, 3).

    Returns:
        One row per strength and margin.
    """
    centred = errors - errors.mean(axis=0)
    drawn = centred[np.random.default_rng(0).integers(0, len(centred), len(data.labels))]
    rows = []
    for strength in STRENGTHS:
        for margin in JITTERED_MARGINS:
            crops = []
            for image, (dx, dy, log_size) in zip(data.images, strength * drawn, strict=True):
                side = image.shape[0]
                whole = Box(side * dx, side * dy, side * (1 + dx), side * (1 + dy))
                box = _square(whole, side * float(np.exp(log_size)))
                crops.append(crop_face(fer.rgb(image), box, margin))
            right = fer.probabilities_of_crops(classifier, crops).argmax(axis=1) == data.labels
            rows.append({"strength": strength, "margin": margin, "accuracy": float(right.mean())})
    return rows


def draw(rows: Sequence[report.Row], path: Path) -> None:
    """Draw accuracy against the margin: in the photos, and on jittered FER2013."""
    classifiers = list(dict.fromkeys(row["classifier"] for row in rows))
    figure, axes = plots.panels(2 * len(classifiers), columns=2, side=4.2)
    for index, classifier in enumerate(classifiers):
        own = [row for row in rows if row["classifier"] == classifier]
        lines = [
            (row["crop_shape"], *plots.points(row["by_margin"], "margin", "accuracy"))
            for row in own
        ]
        photos, simulated = axes[2 * index : 2 * index + 2]
        title = f"{classifier}: {own[0]['n']} faces in photos"
        plots.draw_lines(photos, lines, "margin", "right among the found faces (%)", title)
        jittered = own[0]["jitter"] or []
        lines = []
        for strength in STRENGTHS if jittered else ():
            simulation = [row for row in jittered if row["strength"] == strength]
            xs, ys = plots.points(simulation, "margin", "accuracy")
            lines.append((f"jitter × {strength:g}", xs, ys))
        title = f"{classifier}: FER2013, PublicTest"
        plots.draw_lines(simulated, lines, "margin", "right (%)", title)
        for axis in (photos, simulated):
            axis.axvline(CROP_MARGIN, color="0.5", linestyle="--", linewidth=1)
    plots.save(figure, path)


def _add_options(parser: ArgumentParser) -> None:
    options.add_photo_options(parser)
    parser.add_argument("--detector", default="default", metavar="NAME|RUN", help="to find faces")
    parser.add_argument(
        "--classifier", nargs="+", default=["default"], metavar="NAME|RUN", help="to measure"
    )
    parser.add_argument("--data", type=Path, metavar="DIR|ZIP|CSV", help="FER2013, for the jitter")
    options.add_picture_option(parser)
    options.add_common_options(parser)


def _evaluate(arguments: Namespace) -> int:
    truth = options.check_truth(label_faces(load_coco(arguments.coco)), COMMAND)
    images = AnnotatedImages(truth, arguments.images)
    [detector] = options.load_detectors([arguments.detector], arguments.device)
    classifiers = options.load_classifiers(arguments.classifier, arguments.device)
    part = fer.open_part(arguments.data, fer.SELECTION_SPLIT) if arguments.data else None

    # The faces that the detector finds, in every crop.
    faces = find_faces(images, detector, classifiers)
    status = images.close(COMMAND)
    if not faces.label:
        raise UserError(f"{arguments.images}: {detector.name} finds no labelled face there")
    errors = np.array(faces.errors)

    about = {
        "detector": detector.name,
        "coco": str(truth.path),
        "fingerprint": truth.fingerprint,
        "data": None if part is None else str(arguments.data),
        "miss_mean": errors.mean(axis=0),
        "miss_deviation": errors.std(axis=0),
    }
    rows: list[report.Row] = []
    for classifier, probabilities in zip(classifiers, faces.probabilities, strict=True):
        head = {"classifier": classifier.name}
        tail = {"jitter": None if part is None else jitter(part.data, classifier, errors)} | about
        rows += [head | row | tail for row in measure(faces, probabilities)]
    SECTION.publish(arguments, rows, draw)
    return status


main = options.Command(COMMAND, __doc__, _add_options, _evaluate)

if __name__ == "__main__":
    raise SystemExit(main())
