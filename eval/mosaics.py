"""Lay annotated images side by side on large canvases: ``python -m eval.mosaics --help``.

Large photos with annotated faces are rare; small ones are not. A mosaic shows small images at their
own size, as a large photo shows its parts. OUT/annotations.json and OUT/images/ are read by
``eval.detection``. The same images, options and seed give the same files.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from eval.data import options
from eval.data.images import AnnotatedImages
from faces.coco import AnnotatedImage, GroundTruth, load_coco
from faces.command import UserError
from faces.files import write_json
from faces.pipeline import Image

COMMAND = "eval.mosaics"
LIMITS = (
    "Mosaics of small images show whether faces of their size are found in a large picture. They "
    "cannot show how faces in one large photo look: all parts of a mosaic have the compression and "
    "the sharpness of the small images."
)
GREY = 114
"""What is left free of a canvas."""

Placed = tuple[AnnotatedImage, int, int]
"""An annotated image and the place of its top left corner on its canvas, x and y in pixels."""


def lay_out(
    images: Iterable[tuple[AnnotatedImage, Image]], width: int, height: int
) -> Iterator[tuple[Image, list[Placed]]]:
    """Lay images on canvases, row by row, each in the next free place.

    Args:
        images: annotated images with their pixels, (H, W, 3) uint8 RGB.
        width: of a canvas in pixels.
        height: of a canvas in pixels.

    Yields:
        A canvas, (height, width, 3) uint8 RGB, and what lies on it.

    Raises:
        UserError: an image is larger than a canvas.
    """
    canvas, placed = np.full((height, width, 3), GREY, np.uint8), list[Placed]()
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
            canvas, placed = np.full((height, width, 3), GREY, np.uint8), []
            x = y = row = 0
        canvas[y : y + rows, x : x + columns] = pixels
        placed.append((image, x, y))
        x, row = x + columns, max(row, rows)
    if placed:
        yield canvas, placed


def shuffled(truth: GroundTruth, seed: int) -> GroundTruth:
    """Return the same ground truth, its images in an order drawn at random."""
    order = np.random.default_rng(abs(seed)).permutation(len(truth.scenes))
    return replace(truth, scenes=tuple(truth.scenes[index] for index in order))


def write_set(canvases: Iterable[tuple[Image, list[Placed]]], out: Path) -> tuple[int, int]:
    """Write canvases and annotations; return the number of canvases and of faces to find."""
    (out / "images").mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (canvas, placed) in enumerate(canvases, start=1):
        name = f"mosaic_{number:04d}.jpg"
        Pillow.fromarray(canvas).save(out / "images" / name, quality=95, subsampling=0)
        height, width = canvas.shape[:2]
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        annotations += [
            {
                "id": 0,
                "image_id": number,
                "category_id": 1,
                "bbox": [x + face.box.x1, y + face.box.y1, face.box.width, face.box.height],
                "area": face.box.area,
                "iscrowd": int(face.ignored),
            }
            for image, x, y in placed
            for face in image.faces
        ]
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    document = {"info": {"limits": LIMITS}, "images": images, "annotations": annotations}
    write_json(out / "annotations.json", document | {"categories": [{"id": 1, "name": "face"}]})
    return len(images), sum(not annotation["iscrowd"] for annotation in annotations)


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    result = options.make_parser(COMMAND, f"{__doc__}\n{LIMITS}")
    options.add_photo_options(result)
    result.add_argument("--out", type=Path, required=True, metavar="DIR", help="must not exist")
    result.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=(3200, 2400),
        metavar=("WIDTH", "HEIGHT"),
        help="of a canvas in pixels (default 3200 2400)",
    )
    result.add_argument("--seed", type=int, default=0, help="of the images' order (default 0)")
    return result


def make(arguments: argparse.Namespace, _made_by: str) -> int:
    """Do what the command line asks; returns the exit status."""
    width, height = arguments.size
    if not 1 <= min(width, height) or width * height > 100_000_000:
        raise UserError(f"--size {width} {height}: must be 1 to 100 million pixels in all")
    truth = shuffled(load_coco(arguments.coco), arguments.seed)
    images = AnnotatedImages(truth, arguments.images)
    with options.new_folder(arguments.out) as folder:
        canvases, faces = write_set(lay_out(images, width, height), folder)
        status = images.close(COMMAND)
    print(f"{arguments.out}: {canvases} canvases of {width}×{height} pixels, {faces} faces")
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    return options.run_command(COMMAND, parser(), make, argv)


if __name__ == "__main__":
    raise SystemExit(main())
