"""Lay annotated images side by side on large canvases: ``python -m eval.mosaics --help``.

Large photos with annotated faces are rare; small ones are not. A mosaic shows small images at their
own size, as a large photo shows its parts. OUT/annotations.json and OUT/images/ are read by
``eval.detection``. The same images, options and seed give the same files.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from eval.data import options
from eval.data.composing import write_set
from eval.data.images import AnnotatedImages
from faces.coco import AnnotatedImage, GroundTruth, load_coco
from faces.command import UserError
from faces.pipeline import Image
from faces.types import Box

COMMAND = "eval.mosaics"
LIMITS = (
    "Mosaics of small images show whether faces of their size are found in a large picture. They "
    "cannot show how faces in one large photo look: all parts of a mosaic have the compression and "
    "the sharpness of the small images."
)
GREY = 114
"""What is left free of a canvas."""

Canvas = tuple[Image, list[tuple[Box, dict[str, int]]]]
"""A canvas, (H, W, 3) uint8 RGB, with the boxes on it and whether each is ignored (``iscrowd``)."""


def lay_out(
    images: Iterable[tuple[AnnotatedImage, Image]], width: int, height: int
) -> Iterator[Canvas]:
    """Lay images on canvases, row by row, each in the next place; UserError if one is larger."""
    empty = np.full((height, width, 3), GREY, np.uint8)
    canvas, placed = empty.copy(), list[tuple[Box, dict[str, int]]]()
    x = y = row = 0
    for image, pixels in images:
        rows, columns = pixels.shape[:2]
        if rows > height or columns > width:
            raise UserError(
                f"{image.file_name}: is {columns}×{rows} pixels, larger than a canvas; "
                "give a larger --size"
            )
        if x + columns > width:
            x, y, row = 0, y + row, 0
        if y + rows > height:
            yield canvas, placed
            canvas, placed = empty.copy(), []
            x = y = row = 0
        canvas[y : y + rows, x : x + columns] = pixels
        for face in image.faces:
            x1, y1, x2, y2 = face.box.as_tuple()
            placed.append((Box(x + x1, y + y1, x + x2, y + y2), {"iscrowd": int(face.ignored)}))
        x, row = x + columns, max(row, rows)
    if placed:
        yield canvas, placed


def write_mosaics(images: AnnotatedImages, width: int, height: int, out: Path) -> tuple[int, int]:
    """Write canvases of images into an empty folder; return how many, and the faces to find."""
    laid = lay_out(images, width, height)
    return write_set(out, "mosaic_{:04d}.jpg", laid, ["face"], {"limits": LIMITS})


def shuffled(truth: GroundTruth, seed: int) -> GroundTruth:
    """Return the same ground truth, its images in an order drawn at random."""
    order = np.random.default_rng(abs(seed)).permutation(len(truth.images))
    return replace(truth, images=tuple(truth.images[index] for index in order))


def _add_options(parser: ArgumentParser) -> None:
    options.add_photo_options(parser)
    options.add_folder_option(parser)
    options.add_size_option(parser, "a canvas", (3200, 2400))
    parser.add_argument("--seed", type=int, default=0, help="of the images' order (default 0)")


def _make(arguments: Namespace) -> int:
    width, height = arguments.size
    truth = shuffled(load_coco(arguments.coco), arguments.seed)
    images = AnnotatedImages(truth, arguments.images)
    with options.new_folder(arguments.folder) as folder:
        canvases, faces = write_mosaics(images, width, height, folder)
        status = images.close(COMMAND)
    print(f"{arguments.folder}: {canvases} canvases of {width}×{height} pixels, {faces} faces")
    return status


main = options.Command(COMMAND, f"{__doc__}\n{LIMITS}", _add_options, _make)

if __name__ == "__main__":
    raise SystemExit(main())
