"""Cut the faces out of annotated images for another program: ``python -m eval.crops --help``.

OUT/NAME/ gets the crops of each detector's boxes by the project's crop rule, and its detections as
the COCO result file ``detections.json``; OUT/truth/ gets the crops of the ground-truth boxes. Crops
are called ``<image id>_<number>.png``. The other program writes one csv per folder, NAME.csv and
truth.csv, with the columns name (of the crop, without .png) and the seven emotions. ``eval.joint``
reads it all: ``--results NAME=OUT/NAME/detections.json --scores PROGRAM=FOLDER``; the last lines
printed are these options, with each detector's threshold.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from eval.data import options
from eval.data.detections import (
    DetectionSource,
    add_results_options,
    coco_results,
    load_sources,
)
from eval.data.images import AnnotatedImages
from eval.data.pairs import MIN_SCORE, TRUTH, crop_name
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
    """Write the crops of all boxes, and the detections; returns each folder's number of crops."""
    counts = dict.fromkeys((TRUTH, *(detector.name for detector in detectors)), 0)
    results: dict[str, list[dict[str, Any]]] = {detector.name: [] for detector in detectors}
    for name in counts:
        (out / name).mkdir(parents=True)
    for image, pixels in images:
        counts[TRUTH] += _cut(out / TRUTH, image, pixels, image.boxes)
        for detector in detectors:
            found = detector.find(image, pixels)
            counts[detector.name] += _cut(out / detector.name, image, pixels, found.boxes)
            results[detector.name] += coco_results(image.id, found)
    for name, rows in results.items():
        write_json(out / name / RESULTS, rows, indent=None)
    return counts


def _cut(folder: Path, image: AnnotatedImage, pixels: Image, boxes: NDArray[np.float64]) -> int:
    for index, box in enumerate(boxes.tolist()):
        crop = cv2.cvtColor(crop_face(pixels, Box(*box)), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / f"{crop_name(image.id, index)}.png"), crop)
    return len(boxes)


def _add_options(parser: ArgumentParser) -> None:
    options.add_photo_options(parser)
    options.add_models(parser, "detector")
    add_results_options(parser)
    add_scope_options(parser)
    parser.add_argument("--device", help="cpu, cuda, cuda:1, … (default: the best there is)")
    options.add_folder_option(parser)


def _cut_faces(arguments: Namespace) -> int:
    truth = options.check_truth(load_coco(arguments.coco), COMMAND)
    images = AnnotatedImages(truth, arguments.images)
    detectors = load_sources(arguments, truth, MIN_SCORE)
    if any(detector.name == TRUTH for detector in detectors):
        raise UserError(f"--results {TRUTH}: that name is for the true boxes; choose another")
    if len({crop_name(image.id, 0) for image in truth.images}) < len(truth.images):
        raise UserError(f"{truth.path}: its image ids differ in special characters alone")
    with options.new_folder(arguments.folder) as folder:
        counts = cut_all(images, detectors, folder)
        status = images.close(COMMAND)
    print(f"wrote {arguments.folder}: " + ", ".join(f"{name} {n}" for name, n in counts.items()))
    if detectors:
        files = (f"{d.name}={arguments.folder / d.name / RESULTS}" for d in detectors)
        print("--results", *files)
        print("--results-threshold", *(f"{d.name}={d.threshold}" for d in detectors))
    return status


main = options.Command(COMMAND, __doc__, _add_options, _cut_faces)

if __name__ == "__main__":
    raise SystemExit(main())
