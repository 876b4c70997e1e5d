"""Look at a Dataturks export of faces, or fetch its images.

Draw the boxes on the images, in files of a folder and on one contact sheet::

    python -m detection.dataturks show --json face_detection.json --images images/ --out shown/

The images lay on the web; many are gone. ``python -m detection.dataturks download`` fetches those
that are left.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from tqdm import tqdm

from detection.data.dataturks import find_images, read_dataturks
from faces.command import Command, number_for
from faces.fetch import REPORT, Limits, Wanted, fetch_all, summary
from faces.files import replacing, write_json
from faces.images import ImageError, read_image


def draw_boxes(image: NDArray[np.uint8], boxes: Sequence[tuple[float, ...]]) -> Image.Image:
    """Return an (H, W, 3) uint8 RGB image with its boxes, in pixels, outlined."""
    drawn = Image.fromarray(image)
    pen = ImageDraw.Draw(drawn)
    line = max(2, round(max(drawn.size) / 300))
    for box in boxes:
        pen.rectangle(box, outline=(0, 255, 0), width=line)
    return drawn


def contact_sheet(images: Sequence[Image.Image], columns: int = 6, side: int = 240) -> Image.Image:
    """Return one image that shows all of them, shrunk to ``side`` pixels, row by row."""
    rows = math.ceil(len(images) / columns)
    sheet = Image.new("RGB", (columns * side, max(rows, 1) * side), (40, 40, 40))
    for index, image in enumerate(images):
        thumbnail = image.copy()
        thumbnail.thumbnail((side - 4, side - 4))
        sheet.paste(thumbnail, (index % columns * side + 2, index // columns * side + 2))
    return sheet


def show(json_file: str, images: str, out: str, limit: int | None = None) -> list[str]:
    """Draw the boxes of an export on its images, the first ``limit`` (None: all).

    The folder ``out`` gets the drawn images and ``contact_sheet.jpg``. Returns what was read,
    corrected, dropped and written, as sentences.
    """
    annotated, report = read_dataturks(json_file)
    found, missing = find_images(annotated, images)
    folder, sheet, failed = Path(out), [], []
    folder.mkdir(parents=True, exist_ok=True)
    for each, path in tqdm(found[:limit], desc="drawing", unit="image"):
        try:
            image = read_image(path)
        except ImageError as error:
            failed.append(f"left out: {error}")
            continue
        drawn = draw_boxes(image, each.pixel_boxes(image.shape[1], image.shape[0]))
        _save(drawn, folder / f"{each.line:04d}_{Path(each.name).stem[-40:]}.jpg")
        drawn.thumbnail((240, 240))
        sheet.append(drawn)
    _save(contact_sheet(sheet), folder / "contact_sheet.jpg")
    lines = [*report.lines(), *failed]
    if missing:
        lines.append(f"{len(missing)} images are not in {images}, for instance {missing[0].name}")
    return [*lines, f"{len(sheet)} images drawn in {folder}, all on contact_sheet.jpg"]


def download(
    json_file: str,
    out: str,
    report: str | None = None,
    limits: Limits | None = None,
    private: bool = False,
) -> tuple[list[str], int]:
    """Fetch the images of an export; those that are in the folder already stay as they are.

    Args:
        out: folder for the images, under the names that ``find_images`` looks for.
        report: JSON file for the counts and the dead links; None: ``download.json`` in ``out``.
        limits: what an image may cost; None for the defaults.
        private: allow addresses of this machine and its network too.

    Returns:
        What happened, as sentences, and how many links are dead.
    """
    annotated, _ = read_dataturks(json_file)
    wanted = [Wanted(image.url, image.name) for image in annotated]
    target = Path(report) if report else Path(out) / REPORT
    about = summary(list(fetch_all(wanted, Path(out), limits, private=private)))
    write_json(target, about)
    causes = Counter(dead["cause"].split(":")[0] for dead in about["dead_links"])
    lines = [
        f"{about['fetched']} of {about['pictures']} pictures fetched, {about['there']} were there, "
        f"{about['dead']} links are dead"
    ]
    lines += [f"{count} dead: {cause}" for cause, count in causes.most_common()]
    return [*lines, f"every dead link is in {target}"], about["dead"]


def _save(image: Image.Image, path: Path) -> None:
    with replacing(path) as part:
        image.save(part, format="JPEG", quality=90)


def _add_options(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="command", required=True)
    drawing = commands.add_parser("show", help="draw the boxes on the images")
    fetching = commands.add_parser(
        "download",
        help="fetch the images; once more goes on, and tries dead links again (exit status 1 "
        "while there are any)",
    )
    for command in (drawing, fetching):
        command.add_argument("--json", required=True, help="the export")
        command.add_argument("--out", required=True, help="folder for the images")
    drawing.add_argument("--images", required=True, help="folder of its images")
    drawing.add_argument("--limit", type=_positive, help="draw only the first LIMIT images")
    fetching.add_argument("--report", metavar="FILE.json", help="default: download.json in OUT")
    about = "allow addresses of this machine and its network: a mirror of yours"
    fetching.add_argument("--private", action="store_true", help=about)


_positive = number_for("a whole number, 1 or more", lambda x: x >= 1, int)


def _show_or_download(args: argparse.Namespace) -> int:
    dead = 0
    if args.command == "download":
        lines, dead = download(args.json, args.out, args.report, private=args.private)
    else:
        lines = show(args.json, args.images, args.out, args.limit)
    print("\n".join(lines))
    return 1 if dead else 0


main = Command(
    "detection.dataturks", __doc__, _add_options, _show_or_download, "the same command goes on"
)


if __name__ == "__main__":
    sys.exit(main())
