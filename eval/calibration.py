"""Measure whether probabilities mean what they say: ``python -m eval.calibration --help``.

Samples: the labels of a part of FER2013; with ``--ferplus``, the distribution of FER+'s votes on
the same images, and the mean of both, which is the target of ``blend``; and with ``--coco``,
``--images`` and ``--detector``, the faces that the detector finds in photos, in its own boxes: that
is the shift from FER2013's crops to a user's. Each classifier is measured as it is, and as it was
before ``classification.calibrate``.

Definitions
    nll: mean cross-entropy in nats. brier: mean squared distance to the truth, summed.
    ece: expected calibration error of the top emotion over bins of equal mass: the distance of a
        bin's mean top probability from the share that is right, or from the share of the votes.
    ece_by_chance: the ece of perfectly calibrated probabilities with these values on as many
        images; an ece near it cannot be told from perfection.
    mean_top_probability: above accuracy for overconfidence, below it for underconfidence.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classification.inference import calibration as prob
from classification.inference.calibration import one_hot
from classification.training.scaling import quality
from eval.data import fer2013_parts as fer
from eval.data import options
from eval.data.images import AnnotatedImages
from eval.data.pairs import label_faces, matched_faces
from eval.records import plots, report
from eval.records.sections import Section, columns
from faces.coco import load_coco
from faces.command import UserError
from faces.crops import crop_face
from faces.emotions import EMOTIONS
from faces.pipeline import EmotionClassifier, Image

COMMAND = "eval.calibration"

SECTION = Section(
    kind="calibration",
    title="Calibration",
    columns=columns(
        "text: record classifier sample state",
        "count: n",
        "percent: accuracy mean_top_probability",
        "number: nll brier ece ece_by_chance",
    ),
)


@dataclass(frozen=True)
class Sample:
    """Faces with the truth about them."""

    name: str  # what reports call it
    crops: Sequence[Image]  # grey FER2013 images as RGB, or crops of photos
    truth: NDArray[np.float64]  # probabilities, shape (N, 7)
    votes: float = 0.0  # the share of the truth that comes from people's votes
    failed: int = 0  # how many images could not be used


def measure(probabilities: NDArray[np.float64], sample: Sample) -> report.Row:
    """Compute the metrics of one classifier on one sample; the module's docstring defines them."""
    rows = np.arange(len(probabilities))
    right = sample.truth[rows, probabilities.argmax(axis=1)]
    return {
        "sample": sample.name,
        "n": len(probabilities),
        "accuracy": float(right.mean()),
        "mean_top_probability": float(probabilities.max(axis=1).mean()),
        **quality(probabilities, sample.truth, sample.votes),
        "bins": prob.reliability(probabilities, sample.truth),
    }


def fer2013_samples(part: fer.Part) -> list[Sample]:
    """Return a part's images with their labels and, if there are votes, with those and both."""
    crops = list(map(fer.rgb, part.data.images))
    labels = part.label_probabilities
    samples = [Sample(f"{part.name}, labels", crops, labels)]
    if part.votes is not None:
        known, votes = part.vote_probabilities()
        voted = [crops[index] for index in known]
        samples.append(Sample(f"{part.name}, votes", voted, votes, votes=1.0))
        half = (labels[known] + votes) / 2
        samples.append(Sample(f"{part.name}, labels and votes", voted, half, votes=0.5))
    return samples


def photo_sample(arguments: Namespace) -> Sample:
    """Return the faces that a detector finds in photos, in its boxes."""
    if arguments.images is None or arguments.detector is None:
        raise UserError("--coco needs --images and --detector too")
    truth = options.check_truth(label_faces(load_coco(arguments.coco)), COMMAND)
    images = AnnotatedImages(truth, arguments.images)
    [detector] = options.load_detectors([arguments.detector], arguments.device)
    crops, labels = [], []
    for found in matched_faces(images, detector):
        crops.append(crop_face(found.pixels, found.box))
        labels.append(found.label)
    images.close(COMMAND)
    if not crops:
        raise UserError(f"{arguments.images}: {detector.name} finds no labelled face there")
    name = f"{arguments.coco.parent.name}, found by {detector.name}"
    return Sample(name, crops, one_hot(labels, len(EMOTIONS)), failed=len(images.failed))


def measure_all(
    classifiers: Sequence[EmotionClassifier], samples: Sequence[Sample]
) -> list[report.Row]:
    """Measure every classifier, before and after its calibration, on every sample."""
    rows = []
    for classifier in classifiers:
        plain = fer.uncalibrated(classifier)
        states = {"as trained": plain or classifier}
        if plain is not None:
            states["calibrated"] = classifier
        for sample in samples:
            for state, model in states.items():
                probabilities = fer.probabilities_of_crops(model, sample.crops)
                head = {"classifier": classifier.name, "state": state}
                rows.append(head | measure(probabilities, sample))
    return rows


def draw(rows: Sequence[report.Row], path: Path) -> None:
    """Draw the reliability diagrams, one row per classifier, one column per sample."""
    panels = list(dict.fromkeys((row["classifier"], row["sample"]) for row in rows))
    samples = {sample for _, sample in panels}
    figure, axes = plots.panels(len(panels), columns=len(samples), side=3.2)
    for axis, (classifier, sample) in zip(axes, panels, strict=True):
        axis.plot([0, 100], [0, 100], color="0.7", linewidth=1)
        for row in rows:
            if (row["classifier"], row["sample"]) == (classifier, sample):
                said, right, _ = zip(*row["bins"], strict=True)
                label = f"{row['state']}: ECE {row['ece']:.3f}"
                axis.plot([100 * v for v in said], [100 * v for v in right], "o-", label=label)
        axis.set_title(f"{classifier}\n{sample}", fontsize=9)
        axis.set(xlabel="top probability (%)", ylabel="right (%)", xlim=(0, 100), ylim=(0, 100))
        axis.set_aspect("equal")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8, loc="upper left")
    plots.save(figure, path)


def _add_options(parser: ArgumentParser) -> None:
    fer.add_options(parser)
    options.add_photo_options(parser, required=False)
    parser.add_argument("--detector", metavar="NAME|RUN", help="that finds the faces in them")


def _evaluate(arguments: Namespace) -> int:
    classifiers = options.load_classifiers(arguments.classifier, arguments.device)
    part = fer.open_part(arguments.data, arguments.split, arguments.ferplus)
    samples = fer2013_samples(part)
    if arguments.coco is not None:
        samples.append(photo_sample(arguments))
    about = {"coco": arguments.coco and str(arguments.coco)} | part.about()
    rows = [row | about for row in measure_all(classifiers, samples)]
    SECTION.publish(arguments, rows, draw)
    return 1 if any(sample.failed for sample in samples) else 0


main = options.Command(COMMAND, __doc__, _add_options, _evaluate)

if __name__ == "__main__":
    raise SystemExit(main())
