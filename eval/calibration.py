"""Measure whether probabilities mean what they say: ``python -m eval.calibration --help``.

Samples: the labels of a part of FER2013; with ``--ferplus``, the shares of FER+'s votes on the same
pictures, and the mean of both, which is what ``blend`` is taught; and with ``--coco``,
``--images`` and ``--detector``, the faces that the detector finds in photos, seen through its own
boxes, which is the shift from FER2013's crops to a user's. Each classifier is measured as it is,
and as it was before ``classification.calibrate``.

Definitions
    nll: mean cross-entropy in nats. brier: mean squared distance to the truth, summed.
    ece: expected calibration error of the top emotion over bins of equal mass: how far the mean top
        probability of a bin lies from the share that is right, or from the share of the votes.
    ece_by_chance: what perfectly calibrated probabilities of these values would show on as many
        pictures; an ece near it cannot be told from perfection.
    mean_top_probability beside accuracy: over- or underconfidence on the whole.
"""

from __future__ import annotations

import argparse
import sys
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
from eval.data.annotated import locate, read_scenes
from eval.data.pairs import label_faces, matched_crops
from eval.records import plots, report
from faces import command
from faces.coco import load_coco
from faces.command import UserError
from faces.emotions import EMOTIONS
from faces.pipeline import EmotionClassifier, Image
from faces.provenance import command_line

COMMAND = "eval.calibration"

COLUMNS = {
    "classifier": "text",
    "sample": "text",
    "state": "text",
    "n": "count",
    "accuracy": "percent",
    "mean_top_probability": "percent",
    "nll": "number",
    "brier": "number",
    "ece": "number",
    "ece_by_chance": "number",
}


@dataclass(frozen=True)
class Sample:
    """Faces with the truth about them.

    Attributes:
        name: what reports call it.
        crops: grey FER2013 pictures as RGB, or crops of photos.
        shares: the truth, shape (N, 7).
        votes: the share of the truth that comes from people's votes.
    """

    name: str
    crops: Sequence[Image]
    shares: NDArray[np.float64]
    votes: float = 0.0


def measure(probabilities: NDArray[np.float64], sample: Sample) -> report.Run:
    """Compute the metrics of one classifier on one sample; the module's docstring defines them."""
    rows = np.arange(len(probabilities))
    right = sample.shares[rows, probabilities.argmax(axis=1)]
    return {
        "sample": sample.name,
        "n": len(probabilities),
        "accuracy": float(right.mean()),
        "mean_top_probability": float(probabilities.max(axis=1).mean()),
        **quality(probabilities, sample.shares, sample.votes),
        "bins": prob.reliability(probabilities, sample.shares),
    }


def fer2013_samples(part: fer.Part) -> list[Sample]:
    """Return a part's pictures with their labels and, if there are votes, with those and both."""
    crops = [np.repeat(image[:, :, None], 3, axis=2) for image in part.data.images]
    samples = [Sample(f"{part.name}, labels", crops, part.labels)]
    if part.votes is not None:
        known, shares = part.voted()
        voted = [crops[index] for index in known]
        samples.append(Sample(f"{part.name}, votes", voted, shares, votes=1.0))
        half = (part.labels[known] + shares) / 2
        samples.append(Sample(f"{part.name}, labels and votes", voted, half, votes=0.5))
    return samples


def photo_sample(arguments: argparse.Namespace) -> Sample:
    """Return the faces that a detector finds in photos, as its boxes show them.

    Raises:
        UserError: ``--images`` or ``--detector`` is missing, or nothing was found.
    """
    if arguments.images is None or arguments.detector is None:
        raise UserError("--coco needs --images and --detector too")
    truth = label_faces(load_coco(arguments.coco))
    pictures = locate(truth, arguments.images)
    detector = options.load_detectors([arguments.detector], arguments.device)[0]
    stream = read_scenes(truth, pictures, lambda text: command.note(COMMAND, text))
    crops, labels = matched_crops(stream, detector)
    if not crops:
        raise UserError(f"{arguments.images}: {detector.name} finds no labelled face there")
    name = f"{arguments.coco.parent.name}, found by {detector.name}"
    return Sample(name, crops, one_hot(labels, len(EMOTIONS)))


def measure_all(
    classifiers: Sequence[EmotionClassifier], samples: Sequence[Sample]
) -> list[report.Run]:
    """Measure every classifier, before and after its calibration, on every sample."""
    runs = []
    for classifier in classifiers:
        plain = fer.uncalibrated(classifier)
        states = {"as trained": plain or classifier}
        if plain is not None:
            states["calibrated"] = classifier
        for sample in samples:
            for state, model in states.items():
                scores = fer.score_crops(model, sample.crops)
                head = {"classifier": classifier.name, "state": state}
                runs.append(head | measure(scores, sample))
    return runs


def draw(runs: Sequence[report.Run], path: Path) -> None:
    """Draw the reliability diagrams, one row per classifier, one column per sample."""
    panels = list(dict.fromkeys((run["classifier"], run["sample"]) for run in runs))
    samples = {sample for _, sample in panels}
    figure, axes = plots.panels(len(panels), columns=len(samples), side=3.2)
    for axis, (classifier, sample) in zip(axes, panels, strict=True):
        axis.plot([0, 100], [0, 100], color="0.7", linewidth=1)
        for run in runs:
            if (run["classifier"], run["sample"]) == (classifier, sample):
                said, right, _ = zip(*run["bins"], strict=True)
                label = f"{run['state']}: ECE {run['ece']:.3f}"
                axis.plot([100 * v for v in said], [100 * v for v in right], "o-", label=label)
        axis.set_title(f"{classifier}\n{sample}", fontsize=9)
        axis.set(xlabel="top probability (%)", ylabel="right (%)", xlim=(0, 100), ylim=(0, 100))
        axis.set_aspect("equal")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8, loc="upper left")
    plots.save(figure, path)


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    result = fer.make_parser(COMMAND, __doc__, votes_required=False)
    result.add_argument("--coco", type=Path, metavar="FILE.json", help="labelled photos")
    result.add_argument("--images", type=Path, metavar="DIR|ZIP", help="where they lie")
    result.add_argument("--detector", metavar="NAME|RUN", help="that finds the faces in them")
    return result


def evaluate(arguments: argparse.Namespace, made_by: str) -> int:
    """Do what the command line ``made_by`` asks; returns the exit status."""
    report.check_out(arguments.out)
    report.check_out(arguments.picture)
    classifiers = options.load_classifiers(arguments.classifier, arguments.device)
    [part] = fer.read_parts(arguments.data, arguments.ferplus, [arguments.split])
    samples = fer2013_samples(part)
    if arguments.coco is not None:
        samples.append(photo_sample(arguments))
    about = fer.about(part, arguments.data, arguments.ferplus, made_by)
    about["coco"] = None if arguments.coco is None else str(arguments.coco)
    runs = [run | about for run in measure_all(classifiers, samples)]
    fer.publish(arguments, runs, COLUMNS, draw)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = parser().parse_args(argv)
    made_by = command_line(COMMAND, argv)
    return command.run(COMMAND, lambda: evaluate(arguments, made_by))


if __name__ == "__main__":
    sys.exit(main())
