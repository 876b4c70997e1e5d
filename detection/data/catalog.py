"""Data sets of faces by name, for Detectron2's catalogs: COCO json, Dataturks json, splits.

A data set is named by a text that says all of it, wherever Detectron2 takes a name
(``DATASETS.TRAIN``, ``DATASETS.TEST``)::

    coco:FILE.json:IMAGES           the faces of a COCO json (see ``faces.coco``)
    dataturks:FILE.json:IMAGES      the whole Dataturks export, as far as its images are there
    dataturks:FILE.json:IMAGES:val  one of its splits: train, val, test

A *record* here is Detectron2's dict of an annotated image.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from detectron2.utils import comm
from tqdm import tqdm

from detection.data.dataturks import find_images, read_dataturks
from faces.coco import AnnotatedImage, GroundTruth, GroundTruthFace, load_coco
from faces.command import UserError
from faces.files import file_sha256
from faces.images import ImageError, image_size, read_image
from faces.types import Box

SPLITS: dict[str, float] = {"train": 0.70, "val": 0.15, "test": 0.15}
"""Share of the images in each split of a set that has none of its own."""

SHOWN_FAULTS = 3
"""So many annotations that were passed over are named; the rest is counted."""


def split_of(name: str) -> str:
    """Return the split of an image: decided by the SHA-256 of its file name alone.

    So an image stays in its split whatever else is in the set, on every machine and in every
    Python.
    """
    position = split_position(name)
    for split, share in SPLITS.items():
        if position < share:
            return split
        position -= share
    return next(reversed(SPLITS))


def split_position(name: str) -> float:
    """Return a place in [0, 1) for a file name: as good as random, but always the same."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


@dataclass(frozen=True, slots=True)
class DataSpec:
    """What a data set's name says: its kind, its json, its image folder, its split ("" = all)."""

    kind: str
    file: Path
    images: Path
    split: str = ""

    @classmethod
    def parse(cls, name: str) -> DataSpec | None:
        """Read a name; None where it has none of this project's forms (a set of Detectron2's own).

        A ``UserError`` says that it starts like one of ours but does not go on like it.
        """
        kind, _, rest = name.partition(":")
        if kind not in ("coco", "dataturks"):
            return None
        parts = rest.split(":")
        if len(parts) not in (2, 3) or not all(parts) or (kind == "coco" and len(parts) == 3):
            raise UserError(
                f"{name!r}: expected coco:FILE.json:IMAGES or dataturks:FILE.json:IMAGES[:SPLIT] "
                "(paths without a colon)"
            )
        if len(parts) == 3 and parts[2] not in SPLITS:
            raise UserError(f"{name!r}: the split must be one of {', '.join(SPLITS)}")
        return cls(kind, Path(parts[0]), Path(parts[1]), parts[2] if len(parts) == 3 else "")

    def load(self) -> list[dict[str, Any]]:
        """Read the set as Detectron2's records; say on standard error what was passed over."""
        if self.kind == "coco":
            truth = load_coco(self.file)
        else:
            truth = load_dataturks(self.file, self.images, self.split)
        if comm.is_main_process():
            for fault in truth.faults[:SHOWN_FAULTS]:
                print(f"{self.file}: {fault}", file=sys.stderr)
            if len(truth.faults) > SHOWN_FAULTS:
                print(f"{self.file}: {len(truth.faults)} faults in all", file=sys.stderr)
        return to_records(truth, self.images)


def register(names: Sequence[str]) -> None:
    """Make data sets known to Detectron2's catalogs under the names that describe them.

    A ``UserError`` says that one is neither ours nor Detectron2's, or that its files are missing.
    """
    for name in names:
        spec = DataSpec.parse(name)
        if spec is None:
            if name not in DatasetCatalog.list():
                raise UserError(
                    f"{name!r}: no such data set. Name it as coco:FILE.json:IMAGES or "
                    "dataturks:FILE.json:IMAGES[:SPLIT]"
                )
            continue
        if not spec.file.is_file():
            raise UserError(f"{spec.file}: no such file (the json of {name!r})")
        if not spec.images.is_dir():
            raise UserError(f"{spec.images}: no such folder (the images of {name!r})")
        if name not in DatasetCatalog.list():
            DatasetCatalog.register(name, partial(_read_once, name))
            MetadataCatalog.get(name).set(thing_classes=["face"])


@lru_cache(maxsize=8)
def _read_once(name: str) -> list[dict[str, Any]]:
    spec = DataSpec.parse(name)
    assert spec is not None
    return spec.load()


def load_dataturks(file: Path, images: Path, split: str = "") -> GroundTruth:
    """Read a Dataturks export: the images that are there, of one split or of all.

    Sizes are those of the files, not those in the json. An image that cannot be read is left out
    and among the faults. A ``UserError`` says that it is no such export, or that no image of the
    split is there.
    """
    every, report = read_dataturks(file)
    found, _ = find_images(every, images)
    selected = [(each, path) for each, path in found if not split or split_of(each.name) == split]
    if not selected:
        raise UserError(
            f"{file}: split {split!r} is empty: {len(found)} of its images are in {images}; "
            "a COCO json can be used for the other parts (--val-coco, --report-coco)"
        )
    faults, annotated = report.faults(), []
    for each, path in tqdm(selected, desc="reading image sizes", unit="image", leave=False):
        try:
            height, width = read_image(path).shape[:2]
        except ImageError as error:
            faults.append(f"left out: {error}")
            continue
        boxes = each.pixel_boxes(width, height)
        faces = [
            GroundTruthFace(Box(*b), "face", False) for b in boxes if b[0] < b[2] and b[1] < b[3]
        ]
        annotated.append(AnnotatedImage(each.line, each.name, (width, height), False, tuple(faces)))
    return GroundTruth(file, tuple(annotated), file_sha256(file), tuple(faults))


def to_records(truth: GroundTruth, images: Path) -> list[dict[str, Any]]:
    """Return annotated images, whose files are in the folder ``images``, as records, ordered by id.

    Raises:
        UserError: an image is missing, is none, or has another size than ``truth`` says.
    """
    truth.require_sizes()
    missing = [each for each in truth.images if not (images / each.file_name).is_file()]
    if missing:
        raise UserError(
            f"{truth.path}: {len(missing)} of {len(truth.images)} images are missing, first "
            f"{images / missing[0].file_name}"
        )
    return [
        _record(each, images / each.file_name, truth.path)
        for each in sorted(truth.images, key=lambda each: (isinstance(each.id, str), each.id))
    ]


def _record(image: AnnotatedImage, path: Path, source: Path) -> dict[str, Any]:
    assert image.size is not None
    width, height = image.size
    if image_size(path) != image.size:
        found = "×".join(map(str, image_size(path)))
        raise UserError(
            f"{path}: is {found} pixels, but {source} was made for {width}×{height}; its boxes "
            "would not fit"
        )
    annotations = [
        {
            "bbox": list(face.box.as_tuple()),
            "bbox_mode": BoxMode.XYXY_ABS,
            "category_id": 0,
            "iscrowd": int(face.ignored),
        }
        for face in image.faces
    ]
    about = {"file_name": str(path), "image_id": image.id, "width": width, "height": height}
    return about | {"annotations": annotations}


def to_coco(dicts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return Detectron2 records as the content of a COCO json with the one category "face"."""
    content: dict[str, Any] = {"images": [], "annotations": []}
    for record in dicts:
        image = {"id": record["image_id"], "file_name": os.path.basename(record["file_name"])}
        content["images"].append(image | {key: record[key] for key in ("width", "height")})
        for annotation in record["annotations"]:
            x1, y1, x2, y2 = annotation["bbox"]
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": record["image_id"],
                    "category_id": 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": annotation["iscrowd"],
                }
            )
    return content | {"categories": [{"id": 1, "name": "face"}]}


def short_name(name: str) -> str:
    """Return a data set's name for tables and cards: the json with its folder, and the split."""
    spec = DataSpec.parse(name)
    if spec is None:
        return name
    return "/".join(spec.file.parts[-2:]) + (f", {spec.split}" if spec.split else "")


def describe(name: str) -> dict[str, Any]:
    """Return what a card says of a registered data set: name, counts, fingerprint."""
    records = DatasetCatalog.get(name)
    return {
        "set": short_name(name),
        "pictures": len(records),
        "faces": sum(not a["iscrowd"] for r in records for a in r["annotations"]),
        "sha256": fingerprint(records),
    }


def fingerprint(records: Sequence[dict[str, Any]]) -> str:
    """Return a SHA-256 over image names, sizes and boxes: the same exactly for the same data."""
    digest = hashlib.sha256()
    for record in sorted(records, key=lambda r: os.path.basename(r["file_name"])):
        boxes = [[*a["bbox"], a["iscrowd"]] for a in record["annotations"]]
        row = [os.path.basename(record["file_name"]), record["width"], record["height"], boxes]
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()
