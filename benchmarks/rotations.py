"""Photos on their side: what is found and named without and with ``--rotations``.

Every annotated image is turned clockwise by 0, 90, 180 and 270 degrees, which no EXIF entry tells,
and analysed. One row per turn and per setting, and one of all turns together ("all").

Definitions
    coverage: faces found at the detector's threshold (IoU 0.5) / all faces.
    accuracy: of the faces found, those whose most likely emotion is the annotated one.
    joint_accuracy: faces found and named right / all faces.
    wrong_and_sure: faces found, named wrong and not marked as unsure / all faces.
    turn_found: images of which the turn was told.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from eval.data import options
from eval.data.images import AnnotatedImages
from eval.data.pairs import label_faces
from eval.records import report
from eval.records.sections import ROTATIONS
from faces.boxes import match, turned_back
from faces.coco import AnnotatedImage, load_coco
from faces.emotions import EMOTIONS
from faces.pipeline import TURNS, Image, Pipeline

COMMAND = "benchmarks.rotations"

ALL = "all"


@dataclass
class Counts:
    """What came of a number of images."""

    images: int = 0
    faces: int = 0
    found: int = 0
    right: int = 0
    wrong_and_sure: int = 0
    turns: int = 0

    def add(self, other: Counts) -> None:
        """Count what another one counted, too."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def row(self) -> report.Row:
        """Return the figures; the module's docstring defines them."""
        return {
            "images": self.images,
            "faces": self.faces,
            "coverage": self.found / self.faces,
            "accuracy": self.right / self.found if self.found else np.nan,
            "joint_accuracy": self.right / self.faces,
            "wrong_and_sure": self.wrong_and_sure / self.faces,
            "turn_found": self.turns / self.images,
        }


def analyse(pipeline: Pipeline, image: AnnotatedImage, pixels: Image, turned: int) -> Counts:
    """Count what a pipeline makes of an image that is turned clockwise by so many degrees."""
    height, width = pixels.shape[:2]
    result = pipeline.analyze(np.ascontiguousarray(np.rot90(pixels, -turned // 90)), "")
    boxes = [turned_back(f.detection.box, turned, width, height).as_tuple() for f in result.faces]
    scores = [face.detection.score for face in result.faces]
    counts = Counts(images=1, faces=int((~image.ignored).sum()))
    counts.turns = (turned + result.turned) % 360 == 0
    for face, index in zip(
        result.faces, match(boxes, scores, image.boxes, image.ignored).face.tolist(), strict=True
    ):
        if index >= 0:
            named = EMOTIONS[int(np.argmax(face.emotions.probabilities))]
            right = named == image.faces[index].category
            counts.add(Counts(found=1, right=right, wrong_and_sure=not right and not face.unsure()))
    return counts


def measure(
    images: Iterable[tuple[AnnotatedImage, Image]], pipelines: dict[str, Pipeline]
) -> list[report.Row]:
    """Turn every image four ways and let every pipeline analyse it.

    Args:
        images: with emotions as categories.
        pipelines: what ``rotations`` says in the row → the pipeline.
    """
    turns = (ALL, *TURNS)
    counted = {(turned, name): Counts() for turned in turns for name in pipelines}
    for image, pixels in images:
        for turned in TURNS:
            for name, pipeline in pipelines.items():
                counts = analyse(pipeline, image, pixels, turned)
                counted[turned, name].add(counts)
                counted[ALL, name].add(counts)
    return [
        {"turned": str(turned), "rotations": name} | counts.row()
        for (turned, name), counts in counted.items()
    ]


def _add_options(parser: ArgumentParser) -> None:
    options.add_photo_options(parser)
    for stage in ("detector", "classifier"):
        parser.add_argument(f"--{stage}", default="default", metavar="NAME|RUN")
    options.add_common_options(parser)


def _evaluate(arguments: Namespace) -> int:
    truth = options.check_truth(label_faces(load_coco(arguments.coco)), COMMAND)
    images = AnnotatedImages(truth, arguments.images)
    (detector,) = options.load_detectors([arguments.detector], arguments.device)
    (classifier,) = options.load_classifiers([arguments.classifier], arguments.device)
    pipelines = {
        name: Pipeline(detector, classifier, rotations=name == "yes") for name in ("no", "yes")
    }
    rows = measure(images, pipelines)
    status = images.close(COMMAND)
    about = {
        "detector": detector.name,
        "classifier": classifier.name,
        "coco": str(truth.path),
        "fingerprint": truth.fingerprint,
        "unreadable": len(images.failed),
    }
    ROTATIONS.publish(arguments, [row | about for row in rows])
    return status


main = options.Command(COMMAND, __doc__, _add_options, _evaluate)

if __name__ == "__main__":
    raise SystemExit(main())
