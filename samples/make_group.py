"""Make the sample photos from the public-domain photos that three packages on PyPI carry.

    pip download --no-deps --dest DIR scikit-image==0.26.0 matplotlib==3.11.2
    pip download --no-deps --dest DIR --no-binary :all: face_recognition==1.3.0
    python samples/make_group.py DIR

What the portraits are, and why they may be used, is in README.md beside this file.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from faces.images import read_image

HEIGHT = 512
"""Height of the group in pixels; its portraits are scaled down to it, never up."""


@dataclass(frozen=True)
class Portrait:
    """Where a portrait lies, and which part of it stands in the group."""

    archive: str  # pattern of the package file's name
    member: str  # path inside it
    sha256: str  # of that member
    height: int  # pixels that it is scaled to, width in proportion
    left: int  # first column taken, after scaling
    width: int  # columns taken, after scaling


PORTRAITS = {
    "collins": Portrait(
        "scikit_image-*.whl",
        "skimage/data/astronaut.png",
        "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
        *(512, 0, 420),
    ),
    "obama": Portrait(
        "face_recognition-*.tar.gz",
        "face_recognition-1.3.0/tests/test_images/obama.jpg",
        "0930e3aa8cae5920329c0c8cbc6a2ab70f47b0e67b432875beaa95cbf7e741f6",
        *(640, 40, 420),
    ),
    "hopper": Portrait(
        "matplotlib-*.whl",
        "matplotlib/mpl-data/sample_data/grace_hopper.jpg",
        "a8ca6d734765703b09728ab47fe59f473d93ae3967fc24c7c0288c3c7adb7130",
        *(600, 50, 420),
    ),
    "profile": Portrait(
        "scikit_image-*.whl",
        "skimage/data/camera.png",
        "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
        *(512, 0, 512),
    ),
}

GROUP = ("collins", "obama", "hopper")
"""From left to right."""

SINGLE = ("collins", "hopper", "profile")
"""Also saved alone, whole."""

DARK = 0.22
"""Brightness of the variant of Hopper's portrait, of 1."""


def read_portrait(folder: Path, portrait: Portrait) -> NDArray[np.uint8]:
    """Return a portrait, (H, W, 3) uint8 RGB, from the package file in a folder.

    A ``ValueError`` says that the file is missing or holds another picture.
    """
    archives = sorted(folder.glob(portrait.archive))
    if not archives:
        raise ValueError(f"{folder}: no {portrait.archive}; download it as the docstring shows")
    archive = archives[-1]
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                data = wheel.read(portrait.member)
        else:
            with tarfile.open(archive) as source:
                member = source.extractfile(portrait.member)
                data = member.read() if member else b""
    except KeyError:
        data = b""
    if hashlib.sha256(data).hexdigest() != portrait.sha256:
        raise ValueError(f"{archive}: {portrait.member} is missing or another picture")
    return read_image(data, portrait.member)


def side_by_side(portraits: list[tuple[Portrait, NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """Return the group picture, (HEIGHT, W, 3) uint8 RGB."""
    parts = []
    for portrait, image in portraits:
        size = (round(image.shape[1] * portrait.height / image.shape[0]), portrait.height)
        scaled = np.array(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
        parts.append(scaled[:HEIGHT, portrait.left : portrait.left + portrait.width])
    return np.hstack(parts)


def darkened(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an underexposed variant of an image, (H, W, 3) uint8 RGB."""
    dark: NDArray[np.uint8] = (255 * DARK * (image / 255) ** 1.3).round().astype(np.uint8)
    return dark


def main() -> int:
    """Read the packages, write group.jpg and the single portraits beside this file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("packages", type=Path, help="folder with the three package files")
    folder = parser.parse_args().packages
    try:
        images = {name: read_portrait(folder, portrait) for name, portrait in PORTRAITS.items()}
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    outputs = {name: images[name] for name in SINGLE}
    outputs["group"] = side_by_side([(PORTRAITS[name], images[name]) for name in GROUP])
    outputs["dark"] = darkened(images["hopper"])
    for name, image in outputs.items():
        path = Path(__file__).with_name(f"{name}.jpg")
        Image.fromarray(image).save(path, quality=90, subsampling=0)
        print(f"{path}: {image.shape[1]}x{image.shape[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
