"""Measure one detector in a process of its own.

It writes its detections (COCO results) and its time (json).
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

import cv2
import numpy as np

from benchmarks.peers.detectors import DETECTORS
from benchmarks.rounds.contest import load
from benchmarks.rounds.run_classifier import ms_per_item
from eval.data import options
from eval.data.detections import as_arrays, coco_results
from eval.data.images import AnnotatedImages
from eval.data.options import precision_of
from faces.coco import Detections, GroundTruth, ImageId, load_coco
from faces.files import write_json
from faces.pipeline import Detector, Image
from twostage import model_zoo

TIMED = 20
"""Number of images that are timed: spread over the set, in memory."""

COMMAND = "benchmarks.rounds.run_detector"

SECONDS = 4.0


def letterbox(image: Image, width: int, height: int) -> Image:
    """Scale an image so that it just fits, and centre it on grey, (height, width, 3)."""
    scale = min(width / image.shape[1], height / image.shape[0])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    scaled = cv2.resize(image, size, interpolation=method)
    result = np.full((height, width, 3), 127, np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    result[top : top + size[1], left : left + size[0]] = scaled
    return result


def find(detector: Detector, truth: GroundTruth, images: Path) -> dict[ImageId, Detections]:
    """Return all that a detector finds in the images; UserError if one of them cannot be read."""
    return {
        image.id: as_arrays(detector.detect([pixels], 0.0)[0])
        for image, pixels in AnnotatedImages(truth, images, strict=True)
    }


def timed_images(truth: GroundTruth, images: Path, size: tuple[int, int]) -> list[Image]:
    """Return ``TIMED`` of the images, evenly spread, at a size (width, height)."""
    step = max(1, len(truth.images) // TIMED)
    some = GroundTruth(truth.path, truth.images[::step][:TIMED], truth.fingerprint)
    return [letterbox(pixels, *size) for _, pixels in AnnotatedImages(some, images, strict=True)]


def _measure(arguments: Namespace) -> None:
    truth = load_coco(arguments.coco)
    detector = load(arguments, DETECTORS, model_zoo.load_detector)
    if arguments.results is not None:
        found = find(detector, truth, arguments.images)
        rows = [row for image, own in found.items() for row in coco_results(image, own)]
        write_json(arguments.results, rows)
    pictures = timed_images(truth, arguments.images, tuple(arguments.size))
    ms = ms_per_item(detector.detect, pictures, 1, SECONDS)
    times = {"ms": ms, "threshold": detector.score_threshold, "precision": precision_of(detector)}
    write_json(arguments.times, times)


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("name", help="a package's detector, or one of ours")
    options.add_photo_options(parser)
    options.add_size_option(parser, "the timed images", (640, 480))
    parser.add_argument("--results", type=Path, metavar="FILE.json", help="of all pictures")
    parser.add_argument("--times", type=Path, required=True, metavar="FILE.json")
    parser.add_argument("--threads", type=int, default=1)


main = options.Command(COMMAND, __doc__, _add_options, _measure)

if __name__ == "__main__":
    raise SystemExit(main())
