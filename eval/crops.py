"""Cut the faces out of labelled photos for another program: ``python -m eval.crops --help``.

OUT/NAME/ gets the crops of each detector's boxes by the project's crop rule, and its detections as
the COCO result file ``detections.json``; OUT/truth/ gets the crops of the true boxes. Crops are
called ``<image id>_<number>.png``. The other program writes one csv per folder, NAME.csv and
truth.csv, with the columns name (of the crop, without .png) and the seven emotions. ``eval.joint``
reads it all: ``--results NAME=OUT/NAME/detections.json --scores PROGRAM=FOLDER``; the last lines
printed are these options, with each detector's threshold.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from eval.data import options
from eval.data.annotated import locate, read_scenes
from eval.data.pairs import TRUTH, Finder, crop_name
from eval.detection import add_results_options
from eval.joint import load_finders
from faces import command
from faces.coco import AnnotatedImage, load_coco
from faces.command import UserError
from faces.crops import crop_face
from faces.pipeline import Image
from faces.types import Box

COMMAND = "eval.crops"

RESULTS = "detections.json"
"""The COCO result file beside each detector's crops."""


def cut_all(
    pictures: Iterable[tuple[AnnotatedImage, Image]], finders: Sequence[Finder], out: Path
) -> dict[str, int]:
    """Write the crops of every finder and of the true boxes, and the finders' detections.

    Returns:
        Folder → number of crops.
    """
    counts = dict.fromkeys((TRUTH, *(finder.name for finder in finders)), 0)
    results: dict[str, list[dict[str, Any]]] = {finder.name: [] for finder in finders}
    for name in counts:
        (out / name).mkdir(parents=True)
    for scene, image in pictures:
        counts[TRUTH] += _cut(out / TRUTH, scene, image, scene.boxes)
        for finder in finders:
            found = finder.find(scene, image)
            counts[finder.name] += _cut(out / finder.name, scene, image, found.boxes)
            for (x1, y1, x2, y2), score in zip(
                found.boxes.tolist(), found.scores.tolist(), strict=True
            ):
                box = [x1, y1, x2 - x1, y2 - y1]
                row = {"image_id": scene.id, "category_id": 1, "bbox": box, "score": score}
                results[finder.name].append(row)
    for name, rows in results.items():
        (out / name / RESULTS).write_text(json.dumps(rows), encoding="utf-8")
    return counts


def _cut(folder: Path, scene: AnnotatedImage, image: Image, boxes: NDArray[np.float64]) -> int:
    for index, box in enumerate(boxes.tolist()):
        crop = cv2.cvtColor(crop_face(image, Box(*box)), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / f"{crop_name(scene.id, index)}.png"), crop)
    return len(boxes)


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    result = argparse.ArgumentParser(
        prog=f"python -m {COMMAND}",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_photo_options(result)
    result.add_argument(
        "--detector", nargs="+", action="extend", default=[], metavar="NAME|RUN", help="to run"
    )
    add_results_options(result)
    result.add_argument("--device", help="cpu, cuda, cuda:1, … (default: the best there is)")
    result.add_argument("--out", type=Path, required=True, metavar="DIR", help="must not exist")
    return result


def cut(arguments: argparse.Namespace) -> int:
    """Do what the command line asks; returns the exit status."""
    truth = load_coco(arguments.coco)
    pictures = locate(truth, arguments.images)
    finders = load_finders(arguments, truth)
    if any(finder.name == TRUTH for finder in finders):
        raise UserError(f"--results {TRUTH}: that name is for the true boxes; choose another")
    if len({crop_name(scene.id, 0) for scene in truth.scenes}) < len(truth.scenes):
        raise UserError(f"{truth.path}: its image ids differ in special characters alone")
    failures: list[str] = []
    with options.new_folder(arguments.out) as folder:
        counts = cut_all(read_scenes(truth, pictures, failures.append), finders, folder)
    for failure in failures:
        command.note(COMMAND, failure)
    print(f"wrote {arguments.out}: " + ", ".join(f"{name} {n}" for name, n in counts.items()))
    if finders:
        files = (f"{finder.name}={arguments.out / finder.name / RESULTS}" for finder in finders)
        print("--results", *files)
        print("--results-threshold", *(f"{finder.name}={finder.threshold}" for finder in finders))
    return 1 if failures else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = parser().parse_args(argv)
    return command.run(COMMAND, lambda: cut(arguments))


if __name__ == "__main__":
    sys.exit(main())
