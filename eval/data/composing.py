"""What composed scenes, clips and mosaics share: soft pasting, and sets of annotated images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from faces.files import write_json
from faces.pipeline import Image
from faces.types import Box


def resize(crop: Image, side: int) -> NDArray[np.float64]:
    """Return a square crop at another size, (side, side, 3)."""
    method = cv2.INTER_AREA if crop.shape[0] > side else cv2.INTER_CUBIC
    return cv2.resize(crop, (side, side), interpolation=method).astype(np.float64)


def blend_mask(side: int) -> NDArray[np.float64]:
    """Return how much of a face each pixel shows, (side, side), from 0 at the rim to 1."""
    steps = np.abs((np.arange(side) + 0.5) / side * 2 - 1) ** 4
    return np.asarray(np.clip((1 - (steps[:, None] + steps[None, :])) / 0.2, 0, 1))


def blend(canvas: NDArray[np.float64], face: NDArray[np.float64], x: int, y: int) -> None:
    """Lay a face (S, S, 3) on a canvas (H, W, 3), whose rim it may cross, through a soft mask.

    ``x`` and ``y`` are the place of its top left corner, in pixels.
    """
    side = len(face)
    mask = blend_mask(side)[..., None]
    x1, y1 = max(x, 0), max(y, 0)
    x2, y2 = min(x + side, canvas.shape[1]), min(y + side, canvas.shape[0])
    if x1 < x2 and y1 < y2:
        inside = np.s_[y1 - y : y2 - y, x1 - x : x2 - x]
        part = canvas[y1:y2, x1:x2]
        part[:] = mask[inside] * face[inside] + (1 - mask[inside]) * part


def write_set(
    out: Path,
    pattern: str,
    images: Iterable[tuple[Image, Sequence[tuple[Box, Mapping[str, int]]]]],
    categories: Sequence[str],
    info: Mapping[str, Any],
) -> tuple[int, int]:
    """Write images and their annotations, as COCO has them, into an empty folder.

    Args:
        out: gets ``images/`` and ``annotations.json``.
        pattern: of the images' names, as ``scene_{:04d}.png``.
        images: (H, W, 3) uint8 RGB, each with its boxes and what else their annotations say.
        categories: of the ids from 1 on.
        info: of the annotations.

    Returns:
        The number of images, and of faces that are to be found.
    """
    (out / "images").mkdir()
    listed: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (image, faces) in enumerate(images, start=1):
        name = pattern.format(number)
        Pillow.fromarray(image).save(out / "images" / name, quality=95, subsampling=0)
        height, width = image.shape[:2]
        listed.append({"id": number, "file_name": name, "width": width, "height": height})
        for box, about in faces:
            bbox = [box.x1, box.y1, box.width, box.height]
            head = {"id": len(annotations) + 1, "image_id": number, "bbox": bbox, "area": box.area}
            annotations.append(head | {"category_id": 1, "iscrowd": 0, **about})
    document = {
        "info": info,
        "images": listed,
        "annotations": annotations,
        "categories": [{"id": id, "name": name} for id, name in enumerate(categories, start=1)],
    }
    write_json(out / "annotations.json", document, indent=1)
    return len(listed), sum(not annotation["iscrowd"] for annotation in annotations)
