"""Split the json of WIDER FACE by events: ``python -m detection.datasets wider-split --help``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from faces.command import Command, UserError
from faces.files import read_json, write_json

HELD_OUT_EVENTS = 5
VALIDATION_EVENTS = (20, 1)
"""WIDER events: number divisible by 5: held out; 1 modulo 20: validation; the rest: training."""


def wider_part(wider_path: str) -> str:
    """Return the part (train, val, held_out) of an image of WIDER FACE, by its event number.

    Paths are such as ``0--Parade/0_Parade_0_12.jpg``.
    """
    digits = wider_path.split("--", 1)[0]
    if "--" not in wider_path or not digits.isdigit():
        raise UserError(f"{wider_path!r}: no event number before '--'")
    event = int(digits)
    if event % HELD_OUT_EVENTS == 0:
        return "held_out"
    modulus, remainder = VALIDATION_EVENTS
    return "val" if event % modulus == remainder else "train"


def split_wider(data: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Split a COCO json whose images carry ``wider_path`` into the parts of ``wider_part``."""
    parts: dict[str, dict[str, Any]] = {}
    try:
        part_of = {image["id"]: wider_part(image["wider_path"]) for image in data["images"]}
        for part in ("train", "val", "held_out"):
            parts[part] = {
                **data,
                "images": [i for i in data["images"] if part_of[i["id"]] == part],
                "annotations": [a for a in data["annotations"] if part_of[a["image_id"]] == part],
            }
    except (KeyError, TypeError) as error:
        raise UserError(f"not a COCO json of WIDER FACE with wider_path: {error}") from error
    return parts


def split_file(coco: Path, out: Path) -> None:
    """Write the three parts of a COCO json of WIDER FACE as ``train.json``, … in ``out``."""
    for part, content in split_wider(read_json(coco)).items():
        target = out / f"{part}.json"
        write_json(target, content, indent=None)
        faces = sum(not a.get("iscrowd") for a in content["annotations"])
        print(f"{target}: {len(content['images'])} images, {faces} faces")


def _add_options(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="command", required=True)
    wider = commands.add_parser("wider-split", help="write train.json, val.json and held_out.json")
    about = "COCO json whose images have wider_path"
    wider.add_argument("--coco", type=Path, required=True, help=about)
    wider.add_argument("--out", type=Path, required=True, help="folder for the three files")


def _split(args: argparse.Namespace) -> None:
    split_file(args.coco, args.out)


main = Command("detection.datasets", __doc__, _add_options, _split)


if __name__ == "__main__":
    sys.exit(main())
