"""Measure one detector in a process of its own.

It writes its detections (COCO results) and its time (json).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.peers.detectors import DETECTORS
from benchmarks.rounds.run_classifier import ms_per_item
from eval.data.images import AnnotatedImages
from eval.records.report import precision_of
from faces.coco import GroundTruth, load_coco
from faces.command import run
from faces.files import write_json
from faces.pipeline import Detector, Image

TIMED = 20
"""Number of images that are timed: spread over the set, in memory."""

COMMAND = "benchmarks.rounds.run_detector"

SECONDS = 4.0


def load(name: str, threads: int) -> Detector:
    """Return a package's detector, or one of ours by name or run folder."""
    cv2.setNumThreads(threads)
    if name in DETECTORS:
        return DETECTORS[name](threads)
    import torch

    from twostage.model_zoo import load_detector

    torch.set_num_threads(threads)
    return load_detector(name, "cpu")


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


def find_all(detector: Detector, truth: GroundTruth, images: Path) -> list[dict[str, Any]]:
    """Return what a detector finds in all images, at their own size, as COCO results.

    Raises:
        UserError: an image cannot be read.
    """
    results = []
    for scene, image in AnnotatedImages(truth, images, strict=True):
        for found in detector.detect([image], min_score=0.0)[0]:
            x1, y1, x2, y2 = found.box.as_tuple()
            results.append(
                {
                    "image_id": scene.id,
                    "category_id": 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": found.score,
                }
            )
    return results


def timed_images(truth: GroundTruth, images: Path, size: tuple[int, int]) -> list[Image]:
    """Return ``TIMED`` of the images, evenly spread, at a size (width, height)."""
    step = max(1, len(truth.images) // TIMED)
    some = GroundTruth(truth.path, truth.images[::step][:TIMED], truth.fingerprint)
    return [letterbox(pixels, *size) for _, pixels in AnnotatedImages(some, images, strict=True)]


def measure(arguments: argparse.Namespace) -> int:
    """Do what the command line asks; returns the exit status."""
    truth = load_coco(arguments.coco)
    detector = load(arguments.name, arguments.threads)
    if arguments.results is not None:
        found = find_all(detector, truth, arguments.images)
        write_json(arguments.results, found)
    pictures = timed_images(truth, arguments.images, tuple(arguments.size))
    ms = ms_per_item(detector.detect, pictures, 1, SECONDS)
    times = {"ms": ms, "threshold": detector.score_threshold, "precision": precision_of(detector)}
    write_json(arguments.times, times)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {COMMAND}", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("name", help="a package's detector, or one of ours")
    parser.add_argument("--coco", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480), metavar=("W", "H"))
    parser.add_argument("--results", type=Path, metavar="FILE.json", help="of all pictures")
    parser.add_argument("--times", type=Path, required=True, metavar="FILE.json")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args(argv)
    return run(COMMAND, lambda: measure(arguments))


if __name__ == "__main__":
    sys.exit(main())
