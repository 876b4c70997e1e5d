"""Compose photos with several labelled faces: ``python -m eval.scenes --help``.

For people who have labelled face crops but no photos with boxes and emotions. Crops are blended
into drawn backgrounds. ``eval.joint`` reads the result: OUT/annotations.json (COCO, with boxes and
emotions) and OUT/images/. The same crops, options and seed give the same files.

    easy: faces of 96-160 px, upright.
    medium: 48-128 px, turned by up to 10°, light and contrast changed, some noise.
    hard: 24-72 px, turned by up to 25°, darker or paler, noisy, a third of them partly covered.

"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from classification.data.fer2013 import SPLITS
from eval.data import fer2013_parts as fer
from eval.data import options
from eval.data.composing import blend, resize, write_set
from eval.data.crop_folders import CropReader, scan_crops
from eval.data.images import open_images
from faces import command
from faces.boxes import MATCH_IOU
from faces.command import UserError
from faces.emotions import EMOTIONS
from faces.files import write_json
from faces.pipeline import Image
from faces.types import Box
from video.frames import import_av

if TYPE_CHECKING:
    from eval.data.clips import Cutout

COMMAND = "eval.scenes"

LIMITS = (
    "These scenes are composed of face crops on drawn backgrounds. They show whether the stages "
    "fit together (boxes, crops, several faces in one picture) and how answers change with the "
    "size, turn and light of a face. They cannot show how well faces are found in photos, which "
    "have bodies, hair, light and clutter that these lack, nor rank detectors; and crops of the "
    "classifier's own data set flatter it."
)

_TRIES = 200
"""How many places are tried for a face before it is left out."""


@dataclass(frozen=True)
class Difficulty:
    """How faces are changed."""

    sides: tuple[int, int]  # minimum and maximum side in pixels
    turn: float  # maximum angle in degrees, either way
    light: float  # maximum change of contrast (a factor) and brightness (of 255), either way
    noise: float  # standard deviation of the whole image's noise, of 255
    covered: float  # share of the faces of which a bar hides up to a quarter


DIFFICULTIES = {
    "easy": Difficulty((96, 160), 0.0, 0.0, 0.0, 0.0),
    "medium": Difficulty((48, 128), 10.0, 0.15, 3.0, 0.0),
    "hard": Difficulty((24, 72), 25.0, 0.35, 8.0, 1 / 3),
}


class ComposedFace(NamedTuple):
    """A face of a scene: where its square crop lies, and the crop's index."""

    box: Box
    crop: int


def deal_crops(labels: Sequence[int], rng: np.random.Generator) -> Iterator[int]:
    """Yield indices of crops without end: emotions in turn, each one's crops in random order."""
    queues: dict[int, list[int]] = {label: [] for label in sorted(set(labels))}
    while True:
        for label, queue in queues.items():
            if not queue:
                queue += rng.permutation(np.flatnonzero(np.asarray(labels) == label)).tolist()
            yield queue.pop()


def compose(
    crops: Sequence[Image],
    chosen: Sequence[int],
    size: tuple[int, int],
    difficulty: Difficulty,
    rng: np.random.Generator,
) -> tuple[Image, list[ComposedFace]]:
    """Compose one scene of square face crops, each (S, S, 3) uint8 RGB.

    A face for which no free place is found is left out.

    Returns:
        The image, (H, W, 3) uint8 RGB, and its faces, which do not overlap.
    """
    canvas = _background(size, rng)
    faces: list[ComposedFace] = []
    for index in chosen:
        box = _free_place(size, difficulty.sides, [face.box for face in faces], rng)
        if box is not None:
            _paste(canvas, crops[index], box, difficulty, rng)
            faces.append(ComposedFace(box, index))
    canvas += rng.normal(0, difficulty.noise, canvas.shape)
    return np.clip(canvas, 0, 255).round().astype(np.uint8), faces


def _background(size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return clouds of muted colour at several scales, and some blurred shapes, as float RGB."""
    width, height = size
    canvas = np.full((height, width, 3), rng.uniform(70, 170))
    for cells, strength in ((3, 40), (8, 20), (30, 8)):
        grid = rng.normal(0, strength, (cells, cells, 1)) + rng.normal(0, 12, (cells, cells, 3))
        canvas += cv2.resize(grid, size, interpolation=cv2.INTER_CUBIC)
    for _ in range(int(rng.integers(4, 12))):
        x, y = (int(rng.integers(0, length)) for length in size)
        reach = (int(rng.integers(10, width // 4)), int(rng.integers(10, height // 4)))
        colour = (rng.uniform(30, 220) + rng.normal(0, 20, 3)).tolist()
        if rng.random() < 0.5:
            cv2.ellipse(canvas, (x, y), reach, float(rng.uniform(0, 180)), 0, 360, colour, -1)
        else:
            cv2.rectangle(canvas, (x, y), (x + reach[0], y + reach[1]), colour, -1)
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), 2.0), np.float64)


def _free_place(
    size: tuple[int, int], sides: tuple[int, int], taken: Sequence[Box], rng: np.random.Generator
) -> Box | None:
    """Return a square of whole pixels, apart from the taken ones; None if none is found."""
    width, height = size
    for _ in range(_TRIES):
        side = round(float(np.exp(rng.uniform(*np.log(sides)))))
        if side > min(width, height):
            continue
        x, y = int(rng.integers(0, width - side + 1)), int(rng.integers(0, height - side + 1))
        room = Box(x - side / 4, y - side / 4, x + 1.25 * side, y + 1.25 * side)
        if not any(room.intersection(other) for other in taken):
            return Box(x, y, x + side, y + side)
    return None


def _paste(
    canvas: NDArray[np.float64],
    crop: Image,
    box: Box,
    difficulty: Difficulty,
    rng: np.random.Generator,
) -> None:
    """Blend a crop into the canvas, through a mask that is soft at its rim."""
    side = round(box.width)
    face = resize(crop, side)
    angle = float(rng.uniform(-difficulty.turn, difficulty.turn))
    centre = ((side - 1) / 2, (side - 1) / 2)
    turned = cv2.getRotationMatrix2D(centre, angle, 1.0)
    shown = cv2.warpAffine(face, turned, (side, side), borderMode=cv2.BORDER_REPLICATE)
    contrast, brightness = rng.uniform(-difficulty.light, difficulty.light, 2)
    face = np.asarray((shown - 128.0) * (1 + contrast) + 128 + 255 * brightness / 2, np.float64)
    if rng.random() < difficulty.covered:
        start, depth = int(rng.integers(0, side)), max(1, side // 4)
        face[start : start + depth] = rng.uniform(0, 255, 3)
    blend(canvas, face, round(box.x1), round(box.y1))


def read_crops(data: Path, split: str | None) -> tuple[list[Image], list[int], str]:
    """Read labelled crops from FER2013 or from ``<emotion>/*.png``.

    Returns:
        Crops, each (S, S, 3) uint8 RGB; their indices into ``EMOTIONS``; a fingerprint of both.

    Raises:
        UserError: there are none, or ``split`` is named for a plain folder.
    """
    command.existing(data, "--data")
    if fer.is_fer2013(data, split):
        part = fer.open_part(data, split)
        batches = list(fer.batches(part.data))
        fingerprint = part.data.fingerprint
    else:
        if split is not None:
            raise UserError(f"{data}: --split is for FER2013; leave it out")
        store = open_images(data)
        reader = CropReader(store, scan_crops(store))
        batches = list(reader)
        fingerprint = reader.fingerprint
        for line in reader.failed:
            command.note(COMMAND, line)
    crops = [crop for some, _ in batches for crop in some]
    labels = [label for _, some in batches for label in some]
    if not crops:
        raise UserError(f"{data}: not one of its images can be read")
    return crops, labels, fingerprint


def compose_set(
    crops: Sequence[Image], labels: Sequence[int], arguments: Namespace
) -> Iterator[tuple[Image, list[tuple[Box, dict[str, int]]]]]:
    """Yield the scenes of a set, with the boxes of their faces and what annotations say of them."""
    dealt = deal_crops(labels, np.random.default_rng([arguments.seed, 0]))
    for rng, count in _drawn(arguments, "scenes"):
        chosen = [next(dealt) for _ in range(count)]
        difficulty = DIFFICULTIES[arguments.difficulty]
        image, faces = compose(crops, chosen, tuple(arguments.size), difficulty, rng)
        about = [{"category_id": labels[face.crop] + 1, "crop": face.crop} for face in faces]
        yield image, [(face.box, one) for face, one in zip(faces, about, strict=True)]


def write_clips(cutouts: Sequence[Cutout], arguments: Namespace, out: Path) -> list[dict[str, Any]]:
    """Write the clips of ``--video``; returns their entries in truth.json."""
    from eval.data import clips

    labels = [cutout.emotion for cutout in cutouts]
    dealt = deal_crops(labels, np.random.default_rng([arguments.seed, 0]))
    shape = clips.ClipOptions(size=tuple(arguments.size), seconds=arguments.seconds)
    entries = []
    for number, (rng, count) in enumerate(_drawn(arguments, "clips"), start=1):
        cut = rng.uniform(0.4, 0.6) * shape.seconds if rng.random() < shape.cut else None
        people = [clips.Person(shape, dealt, cut, rng) for _ in range(count)]
        backgrounds = [_background(shape.size, rng) for _ in range(2)]
        frames = clips.compose_clip(backgrounds, cutouts, people, cut, shape, rng)
        name = f"clip_{number:04d}.mp4"
        faces = clips.write_clip(out / name, frames, shape.rate)
        entries.append(clips.clip_truth(name, shape.rate, faces))
    return entries


def _drawn(arguments: Namespace, what: str) -> Iterator[tuple[np.random.Generator, int]]:
    """Yield for each scene or clip its source of randomness and its number of faces."""
    minimum, maximum = arguments.faces
    for number in tqdm(range(1, arguments.count + 1), unit=f" {what}", disable=None):
        rng = np.random.default_rng([arguments.seed, number])
        yield rng, int(rng.integers(minimum, maximum + 1))


def _add_options(parser: ArgumentParser) -> None:
    text = (
        "labelled crops: FER2013, or <emotion>/*.png; for --video also annotated photos: "
        "DIR/annotations.json (COCO) and DIR/images/"
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR|ZIP|CSV", help=text)
    text = "part of FER2013 (default PublicTest, or the only one)"
    parser.add_argument("--split", choices=SPLITS, help=text)
    options.add_folder_option(parser)
    text = "scenes (default %(default)s)"
    parser.add_argument("--count", type=options.positive, default=50, help=text)
    parser.add_argument(
        "--faces",
        type=options.positive,
        nargs=2,
        default=(1, 6),
        metavar=("LEAST", "MOST"),
        help="faces per scene (default 1 6)",
    )
    parser.add_argument("--difficulty", choices=DIFFICULTIES, default="medium")
    options.add_size_option(parser, "a scene", (640, 480))
    parser.add_argument("--seed", type=int, default=0)
    text = (
        "make clips whose faces move, cross, leave and change emotion, for eval.video: "
        "OUT/truth.json and OUT/*.mp4 (needs the extra video)"
    )
    parser.add_argument("--video", action="store_true", help=text)
    text = "length of a clip (default %(default)s)"
    parser.add_argument("--seconds", type=options.positive, default=8, help=text)


def _make(arguments: Namespace) -> None:
    difficulty = DIFFICULTIES[arguments.difficulty]
    if arguments.faces[0] > arguments.faces[1]:
        raise UserError(f"--faces {arguments.faces[0]} {arguments.faces[1]}: least, then most")
    if min(arguments.size) < difficulty.sides[1]:
        raise UserError(
            f"--size: must be at least {difficulty.sides[1]} pixels each way, the largest face of "
            f"{arguments.difficulty} scenes"
        )
    if arguments.seed < 0:
        raise UserError(f"--seed {arguments.seed}: must be 0 or more")
    if arguments.video:
        _make_clips(arguments)
        return
    crops, labels, fingerprint = read_crops(arguments.data, arguments.split)
    info = {
        "description": f"composed scenes, {arguments.difficulty}",
        "limits": LIMITS,
        "command": arguments.made_by,
        "difficulty": asdict(difficulty),
        "crops_fingerprint": fingerprint,
    }
    scenes = compose_set(crops, labels, arguments)
    with options.new_folder(arguments.folder) as folder:
        count, faces = write_set(folder, "scene_{:04d}.png", scenes, EMOTIONS, info)
    print(f"wrote {arguments.folder}/annotations.json: {count} scenes, {faces} faces\n\n{LIMITS}")


def _make_clips(arguments: Namespace) -> None:
    from eval.data import clips as composed

    import_av()  # refused before the wait
    if (arguments.data / "annotations.json").is_file():
        cutouts, fingerprint = composed.read_cutouts(arguments.data)
    else:
        crops, labels, fingerprint = read_crops(arguments.data, arguments.split)
        pairs = zip(crops, labels, strict=True)
        cutouts = [composed.Cutout(crop, composed.WHOLE, label) for crop, label in pairs]
    info = {
        "limits": composed.LIMITS,
        "command": arguments.made_by,
        "crops_fingerprint": fingerprint,
        "match_iou": composed.LOOSE_IOU if cutouts[0].face == composed.WHOLE else MATCH_IOU,
    }
    with options.new_folder(arguments.folder) as folder:
        clips = write_clips(cutouts, arguments, folder)
        write_json(folder / "truth.json", {"info": info, "clips": clips}, indent=None)
    print(f"wrote {arguments.folder}/truth.json: {len(clips)} clips\n\n{composed.LIMITS}")


main = options.Command(COMMAND, f"{__doc__}{LIMITS}", _add_options, _make)

if __name__ == "__main__":
    raise SystemExit(main())
