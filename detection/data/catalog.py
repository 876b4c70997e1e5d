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
from tqdm import tqdm

from detection.data.dataturks import find_images, read_dataturks
from faces.command import UserError
from faces.images import ImageError, read_image

SPLITS: dict[str, float] = {"train": 0.70, "val": 0.15, "test": 0.15}
"""Share of the pictures in each split of a set that has none of its own."""


def split_of(name: str) -> str:
    """Return the split of a picture: decided by the SHA-256 of its file name alone.

    So a picture stays in its split whatever else is in the set, on every machine and in every
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
    """What a data set's name says: its kind, its json, its picture folder, its split ("" = all)."""

    kind: str
    file: Path
    images: Path
    split: str = ""

    @classmethod
    def parse(cls, name: str) -> DataSpec | None:
        """Read a name; None where it has none of this project's forms (a set of Detectron2's own).

        Raises:
            UserError: the name starts like one of ours but does not go on like it.
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
        """Read the set as Detectron2's records."""
        if self.kind == "coco":
            return read_coco(self.file, self.images)
        return dataturks_dicts(self.file, self.images, self.split)


def register(names: Sequence[str]) -> None:
    """Make data sets known to Detectron2's catalogs under the names that describe them.

    Raises:
        UserError: a name is neither one of ours nor known to Detectron2, or its files are missing.
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
            raise UserError(f"{spec.images}: no such folder (the pictures of {name!r})")
        if name not in DatasetCatalog.list():
            DatasetCatalog.register(name, partial(_read_once, name))
            MetadataCatalog.get(name).set(thing_classes=["face"])


@lru_cache(maxsize=8)
def _read_once(name: str) -> list[dict[str, Any]]:
    spec = DataSpec.parse(name)
    assert spec is not None
    return spec.load()


def read_coco(file: str | Path, images: str | Path) -> list[dict[str, Any]]:
    """Read a COCO json as a set of faces.

    Where there is a category "face" only that one counts; otherwise every category does (seven
    emotions are seven kinds of face). ``iscrowd`` stays: such a region is neither right nor wrong.
    Boxes are clipped to the picture, those without area dropped.

    Args:
        file: the json.
        images: folder of the pictures.

    Returns:
        One record per picture, ordered by id. ``image_id`` is the json's.

    Raises:
        UserError: not a COCO json, or pictures are missing.
    """
    file, images = Path(file), Path(images)
    data = _read_json(file)
    try:
        names = {c["id"]: str(c["name"]).strip().lower() for c in data["categories"]}
        faces = {i for i, name in names.items() if name == "face"} or set(names)
        records = {
            image["id"]: {
                "file_name": str(images / image["file_name"]),
                "image_id": image["id"],
                "width": int(image["width"]),
                "height": int(image["height"]),
                "annotations": [],
            }
            for image in data["images"]
        }
        for annotation in data["annotations"]:
            if annotation["category_id"] in faces:
                _add_annotation(records[annotation["image_id"]], annotation)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{file}: not a COCO detection json: {type(error).__name__} {error} "
            "(expected images, categories and annotations with bbox)"
        ) from error
    if not records:
        raise UserError(f"{file}: holds no pictures")
    _check_present([record["file_name"] for record in records.values()], file)
    return [records[key] for key in sorted(records)]


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{file}: not JSON: {error}") from error


def _add_annotation(record: dict[str, Any], annotation: dict[str, Any]) -> None:
    x, y, width, height = (float(v) for v in annotation["bbox"])
    x1, x2 = max(x, 0.0), min(x + width, float(record["width"]))
    y1, y2 = max(y, 0.0), min(y + height, float(record["height"]))
    if x2 > x1 and y2 > y1:
        record["annotations"].append(
            _annotation((x1, y1, x2, y2), int(annotation.get("iscrowd", 0)))
        )


def _annotation(box: tuple[float, float, float, float], iscrowd: int = 0) -> dict[str, Any]:
    return {"bbox": list(box), "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, "iscrowd": iscrowd}


def _check_present(files: Sequence[str], source: Path) -> None:
    missing = [file for file in files if not os.path.isfile(file)]
    if missing:
        raise UserError(
            f"{source}: {len(missing)} of {len(files)} pictures are missing, first {missing[0]}"
        )


def dataturks_dicts(file: str | Path, images: str | Path, split: str = "") -> list[dict[str, Any]]:
    """Read a Dataturks export as Detectron2's records: pictures that are there, one split or all.

    Sizes are those of the files, not those in the json. Pictures that cannot be read are left out
    and named on standard error.
    """
    records, _ = read_dataturks(file)
    found, _ = find_images(records, images)
    chosen = [(r, path) for r, path in found if not split or split_of(r.name) == split]
    if not chosen:
        raise UserError(
            f"{file}: split {split!r} is empty: {len(found)} of its pictures are in {images}; "
            "a COCO json can be used for the other parts (--val-coco, --report-coco)"
        )
    dicts = []
    for record, path in tqdm(chosen, desc="reading picture sizes", unit="picture", leave=False):
        try:
            height, width = read_image(path).shape[:2]
        except ImageError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        boxes = record.pixel_boxes(width, height)
        dicts.append(
            {
                "file_name": str(path),
                "image_id": record.line,
                "width": width,
                "height": height,
                "annotations": [_annotation(box) for box in boxes],
            }
        )
    return dicts


def to_coco(dicts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return Detectron2 records as the content of a COCO json with the one category "face"."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for record in dicts:
        images.append(
            {
                "id": record["image_id"],
                "file_name": os.path.basename(record["file_name"]),
                "width": record["width"],
                "height": record["height"],
            }
        )
        for annotation in record["annotations"]:
            x1, y1, x2, y2 = annotation["bbox"]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": record["image_id"],
                    "category_id": 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": annotation["iscrowd"],
                }
            )
    categories = [{"id": 1, "name": "face"}]
    return {"images": images, "annotations": annotations, "categories": categories}


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
    """Return a SHA-256 over picture names, sizes and boxes: the same exactly for the same data."""
    digest = hashlib.sha256()
    for record in sorted(records, key=lambda r: os.path.basename(r["file_name"])):
        boxes = [[*a["bbox"], a["iscrowd"]] for a in record["annotations"]]
        row = [os.path.basename(record["file_name"]), record["width"], record["height"], boxes]
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()
