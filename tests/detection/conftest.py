"""Synthetic faces: bright discs with eyes on noise, as COCO json and as a Dataturks export."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from detectron2.utils.logger import setup_logger
from PIL import Image, ImageDraw


@dataclass(frozen=True)
class Faces:
    """A synthetic set on disk."""

    coco: Path
    dataturks: Path
    images: Path


def draw_picture(rng: np.random.Generator, boxes: list[tuple[int, int, int, int]]) -> Image.Image:
    picture = Image.fromarray(rng.integers(0, 90, (100, 140, 3), dtype=np.uint8))
    pen = ImageDraw.Draw(picture)
    for x1, y1, x2, y2 in boxes:
        pen.ellipse((x1, y1, x2, y2), fill=(230, 190, 160))
        for eye in (0.3, 0.7):
            x, y = x1 + eye * (x2 - x1), y1 + 0.4 * (y2 - y1)
            pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=(20, 20, 20))
    return picture


def make_faces(folder: Path, count: int = 12) -> Faces:
    rng = np.random.default_rng(5)
    images = folder / "images"
    images.mkdir(parents=True)
    coco: dict[str, list[dict[str, object]]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 1, "name": "face"}],
    }
    lines = []
    for i in range(count):
        x, y = (int(v) for v in rng.integers(5, 50, 2))
        boxes = [(x, y, x + 36, y + 40)] if i % 4 else []
        name = f"picture_{i}.jpg"
        draw_picture(rng, boxes).save(images / name, quality=95)
        coco["images"].append({"id": i, "file_name": name, "width": 140, "height": 100})
        coco["annotations"] += [
            {
                "id": i,
                "image_id": i,
                "category_id": 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "iscrowd": 0,
            }
            for x1, y1, x2, y2 in boxes
        ]
        annotation = [
            {
                "label": ["Face"],
                "points": [{"x": x1 / 140, "y": y1 / 100}, {"x": x2 / 140, "y": y2 / 100}],
                "imageWidth": 140,
                "imageHeight": 100,
            }
            for x1, y1, x2, y2 in boxes
        ]
        lines.append(json.dumps({"content": f"http://x/{name}", "annotation": annotation or None}))
    files = Faces(folder / "faces.json", folder / "dataturks.json", images)
    files.coco.write_text(json.dumps(coco))
    files.dataturks.write_text("\n".join(lines))
    return files


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Faces:
    return make_faces(tmp_path_factory.mktemp("faces"))


@pytest.fixture(autouse=True)
def fresh_logging() -> Iterator[None]:
    """Detectron2's loggers keep writing to the standard output that an earlier test captured."""
    yield
    setup_logger.cache_clear()
    for name in ("detectron2", "fvcore"):
        logger = logging.getLogger(name)
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            handler.close()
