"""Cut the faces out of annotated images for another program: ``python -m eval.crops --help``.

OUT/NAME/ gets the crops of each detector's boxes by the project's crop rule, and its detections as
the COCO result file ``detections.json``; OUT/truth/ gets the crops of the ground-truth boxes. Crops
are called ``<image id>_<number>.png``. The other program writes one csv per folder, NAME.csv and
truth.csv, with the columns name (of the crop, without .png) and the seven emotions. ``eval.joint``
reads it all: ``--results NAME=OUT/NAME/detections.json --scores PROGRAM=FOLDER``; the last lines
printed are these options, with each detector's threshold.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from eval.data import options
from eval.data.detections import DetectionSource, add_results_options, load_sources
from eval.data.images import AnnotatedImages
from eval.data.pairs import MIN_SCORE, TRUTH, crop_name
from faces import command
from faces.coco import AnnotatedImage, load_coco
from faces.command import UserError
from faces.crops import crop_face
from faces.files import write_json
from faces.pipeline import Image
from faces.scope import add_scope_options
from faces.types import Box

COMMAND = "eval.crops"

RESULTS = "detections.json"
"""The COCO result file beside each detector's crops."""


def cut_all(
    images: Iterable[tuple[AnnotatedImage, Image]], detectors: Sequence[DetectionSource], out: Path
) -> dict[str, int]:
    """Write the crops of every detector and of the ground-truth boxes, and the detections.

    Returns:
        Folder → number of crops.
    """
    counts = dict.fromkeys((TRUTH, *(detector.name for detector in detectors)), 0)
    results: dict[str, list[dict[str, Any]]] = {detector.name: [] for detector in detectors}
    for name in counts:
        (out / name).mkdir(parents=True)
    for image, pixels in images:
        counts[TRUTH] += _cut(out / TRUTH, image, pixels, image.boxes)
        for detector in detectors:
            found = detector.find(image, pixels)
            counts[detector.name] += _cut(out / detector.name, image, pixels, found.boxes)
            for (x1, y1, x2, y2), score in zip(
                found.boxes.tolist(), found.scores.tolist(), strict=True
            ):
                box = [x1, y1, x2 - x1, y2 - y1]
                row = {"image_id": image.id, "category_id": 1, "bbox": box, "score": score}
                results[detector.name].append(row)
    for name, rows in results.items():
        write_json(out / name / RESULTS, rows, indent=None)
    return counts


def _cut(folder: Path, image: AnnotatedImage, pixels: Image, boxes: NDArray[np.float64]) -> int:
    for index, box in enumerate(boxes.tolist()):
        crop = cv2.cvtColor(crop_face(pixels, Box(*box)), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / f"{crop_name(image.id, index)}.png"), crop)
    return len(boxes)


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    result = options.make_parser(COMMAND, __doc__)
    options.add_photo_options(result)
    options.add_models(result, "detector")
    add_results_options(result)
    add_scope_options(result)
    result.add_argument("--device", help="cpu, cuda, cuda:1, … (default: the best there is)")
    result.add_argument("--out", type=Path, required=True, metavar="DIR", help="must not exist")
    return result


def cut(arguments: argparse.Namespace) -> int:
    """Do what the command line asks; returns the exit status."""
    truth = options.check_truth(load_coco(arguments.coco), COMMAND)
    images = AnnotatedImages(truth, arguments.images)
    detectors = load_sources(arguments, truth, MIN_SCORE)
    if any(detector.name == TRUTH for detector in detectors):
        raise UserError(f"--results {TRUTH}: that name is for the true boxes; choose another")
    if len({crop_name(image.id, 0) for image in truth.images}) < len(truth.images):
        raise UserError(f"{truth.path}: its image ids differ in special characters alone")
    with options.new_folder(arguments.out) as folder:
        counts = cut_all(images, detectors, folder)
        status = images.close(COMMAND)
    print(f"wrote {arguments.out}: " + ", ".join(f"{name} {n}" for name, n in counts.items()))
    if detectors:
        files = (f"{d.name}={arguments.out / d.name / RESULTS}" for d in detectors)
        print("--results", *files)
        print("--results-threshold", *(f"{d.name}={d.threshold}" for d in detectors))
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = parser().parse_args(argv)
    return command.run(COMMAND, lambda: cut(arguments))


if __name__ == "__main__":
    sys.exit(main())
