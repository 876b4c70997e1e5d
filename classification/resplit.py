"""Split FER2013 again at random, as some publications do: ``python -m classification.resplit``.

A random share of all images becomes PublicTest, the rest Training. So exact duplicates, and other
photos of a person, get to both sides: accuracies on such a split are higher, and compare only with
publications that did the same. The zip has the form of the Kaggle folder, with names of its own. It
can be used wherever FER2013 can, but without FER+.
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from classification.data.fer2013 import Fer2013, load_fer2013
from classification.training.options import add_data_options
from faces.command import Command, fraction
from faces.emotions import EMOTIONS
from faces.files import replacing

COMMAND = "classification.resplit"


def resplit(data: Fer2013, share: float, seed: int) -> Fer2013:
    """Return all images with new splits: ``share`` of them, rounded, PublicTest, the rest Training.

    Which ones depends on the seed and on the images alone, not on their order.
    """
    data = data.take(data.order())
    selected = np.random.default_rng(seed).permutation(len(data.labels))
    splits = np.full(len(data.labels), "Training", dtype="<U11")
    splits[selected[: round(share * len(selected))]] = "PublicTest"
    return replace(data, splits=splits)


def write_zip(data: Fer2013, path: Path) -> None:
    """Write the form of the Kaggle folder, whole or not at all.

    No image has the name of one of the release, so that FER+'s votes find none.
    """
    rows = zip(data.images, data.labels, data.splits, strict=True)
    bar = tqdm(rows, total=len(data.labels), unit=" images", disable=None)
    with replacing(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for number, (image, label, split) in enumerate(bar):
            folder = "train" if split == "Training" else "test"
            name = f"{folder}/{EMOTIONS[label]}/{split}_resplit_{number}.png"
            archive.writestr(zipfile.ZipInfo(name), cv2.imencode(".png", image)[1].tobytes())


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_data_options(parser)
    parser.add_argument("--share", type=fraction, default=0.1, help="of PublicTest (default 0.1)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.zip")


def _resplit(args: argparse.Namespace) -> None:
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_zip(resplit(load_fer2013(args.data), args.share, args.seed), args.out)
    print(f"wrote {args.out}")


main = Command(COMMAND, __doc__, _add_options, _resplit)


if __name__ == "__main__":
    sys.exit(main())
