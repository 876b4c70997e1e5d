"""Split FER2013 anew at random, as some publications do: ``python -m classification.resplit``.

All pictures are put together and a share of them, drawn at random, becomes PublicTest, the rest
Training. So twins, and other photos of a person, land on both sides: figures on such a split are
higher, and compare with nothing but publications that did the same. The zip has the form of the
Kaggle folder and goes wherever FER2013 goes.
"""

from __future__ import annotations

import argparse
import os
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from classification.data.fer2013 import Fer2013, Fer2013Error, load_fer2013
from faces.emotions import EMOTIONS
from faces.images import ImageError

COMMAND = "classification.resplit"


def resplit(data: Fer2013, share: float, seed: int) -> Fer2013:
    """Return all pictures, with new splits.

    Args:
        data: FER2013.
        share: of the pictures that become PublicTest, rounded; the rest become Training.
        seed: which pictures depends on it and on the pictures alone, not on their order.
    """
    data = data.take(data.order())
    chosen = np.random.default_rng(seed).permutation(len(data.labels))
    splits = np.full(len(data.labels), "Training", dtype="<U11")
    splits[chosen[: round(share * len(chosen))]] = "PublicTest"
    return replace(data, splits=splits)


def write_zip(data: Fer2013, path: Path) -> None:
    """Write the Kaggle folder's form; an old file stays until the new one is whole."""
    part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            rows = zip(data.images, data.labels, data.splits, strict=True)
            for number, (image, label, split) in enumerate(
                tqdm(rows, total=len(data.labels), unit=" pictures", disable=None)
            ):
                folder = "train" if split == "Training" else "test"
                name = f"{folder}/{EMOTIONS[label]}/{split}_{number}.png"
                archive.writestr(zipfile.ZipInfo(name), cv2.imencode(".png", image)[1].tobytes())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {COMMAND}",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="FER2013: csv, Kaggle folder, or zip"
    )
    parser.add_argument("--share", type=float, default=0.1, help="of PublicTest (default 0.1)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.zip")
    args = parser.parse_args(argv)
    try:
        if not 0 < args.share < 1:
            raise Fer2013Error(f"--share must be above 0 and below 1, got {args.share}")
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_zip(resplit(load_fer2013(args.data), args.share, args.seed), args.out)
    except (Fer2013Error, ImageError) as error:
        print(f"{COMMAND}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{COMMAND}: {args.out}: cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    print(f"wrote {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
