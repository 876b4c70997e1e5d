"""Dataturks' "Face Detection in Images": its json, with every fault it circulates with.

The file is JSON lines, one picture a line, or one JSON array (blank lines or a byte order mark
before it are harmless). Boxes are two opposite corners in fractions of the picture, so they fit the
file whatever size it was stored in; ``imageWidth`` and ``imageHeight`` are not used. Look at it
with::

    python -m detection.dataturks show --json face_detection.json --images images/ --out shown/

The pictures themselves lay on the web; many are gone. ``python -m detection.dataturks download``
fetches those that are left.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from tqdm import tqdm

from detection.errors import DataError
from faces.fetch import Limits, Wanted, fetch_all, summary
from faces.files import write_json
from faces.images import ImageError, read_image

LABEL = "face"


@dataclass(frozen=True, slots=True)
class Record:
    """One picture of the set.

    Attributes:
        line: line of the file (JSON lines) or position in the array, counted from 1.
        url: where the picture once lay.
        name: file name, the part of ``url`` after the last slash.
        boxes: one (x1, y1, x2, y2) per face, fractions of the picture in [0, 1], x1 < x2 and y1 <
            y2.
    """

    line: int
    url: str
    name: str
    boxes: tuple[tuple[float, float, float, float], ...]

    def pixel_boxes(self, width: int, height: int) -> list[tuple[float, float, float, float]]:
        """Return the boxes in pixels of a picture that is ``width`` × ``height``."""
        return [(x1 * width, y1 * height, x2 * width, y2 * height) for x1, y1, x2, y2 in self.boxes]


@dataclass(slots=True)
class Report:
    """What was found in a file, and what was mended or left out.

    Attributes:
        pictures: records read.
        faces: boxes kept.
        without_faces: pictures with no box (``annotation`` null or empty among them).
        swapped: boxes whose corners came in another order; put in order.
        clipped: boxes that stuck out of the picture; cut at its edge.
        zero_area: boxes without area, after clipping; dropped.
        malformed: annotations without two finite corners; dropped.
        other_labels: label → annotations of it; dropped.
        duplicates: pictures that appear again; the later ones are dropped.
    """

    pictures: int = 0
    faces: int = 0
    without_faces: int = 0
    swapped: int = 0
    clipped: int = 0
    zero_area: int = 0
    malformed: int = 0
    other_labels: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0

    def lines(self) -> list[str]:
        """Return the report as sentences, faults only where there are any."""
        out = [
            f"{self.pictures} pictures, {self.faces} faces, "
            f"{self.without_faces} pictures without faces"
        ]
        faults = {
            "boxes with swapped corners, put in order": self.swapped,
            "boxes that stuck out of the picture, clipped": self.clipped,
            "boxes without area, dropped": self.zero_area,
            "annotations without two corners, dropped": self.malformed,
            "repeated pictures, dropped": self.duplicates,
        }
        out += [f"{count} {what}" for what, count in faults.items() if count]
        out += [
            f"{n} annotations labelled {name!r}, dropped" for name, n in self.other_labels.items()
        ]
        return out


def read_dataturks(path: str | Path) -> tuple[list[Record], Report]:
    """Read a Dataturks export.

    Args:
        path: JSON lines or one JSON array, UTF-8 with or without byte order mark.

    Raises:
        DataError: the file cannot be read or is not such an export; the message names the line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not UTF-8 text (byte {error.start}); is it the json of the set?"
        ) from error
    return parse_dataturks(text, str(path))


def parse_dataturks(text: str, source: str = "json") -> tuple[list[Record], Report]:
    """Parse the text of a Dataturks export; see ``read_dataturks``.

    Args:
        text: the content.
        source: how messages name it.
    """
    report = Report()
    records: list[Record] = []
    seen: set[str] = set()
    for line, item in _items(text.lstrip("\ufeff"), source):
        record = _record(item, line, source, report)
        if record.name in seen:
            report.duplicates += 1
            continue
        seen.add(record.name)
        records.append(record)
        report.pictures += 1
        report.faces += len(record.boxes)
        report.without_faces += not record.boxes
    if not records:
        raise DataError(f"{source}: no pictures in it; expected JSON lines or one JSON array")
    return records, report


def _items(text: str, source: str) -> Iterator[tuple[int, Any]]:
    """Yield (line or position from 1, object)."""
    if text.lstrip().startswith("["):
        try:
            items = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise DataError(
                f"{source}, {_where(error)}: broken JSON array: {_why(error)}"
            ) from error
        yield from enumerate(items, start=1)
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise DataError(
                f"{source}, line {number}: not a JSON object: {_why(error)}. "
                "Expected one picture per line, or one JSON array"
            ) from error


def _where(error: Exception) -> str:
    return f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "line 1"


def _why(error: Exception) -> str:
    return error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"


def _record(item: Any, line: int, source: str, report: Report) -> Record:
    where = f"{source}, line {line}"
    if not isinstance(item, dict):
        raise DataError(f"{where}: expected a JSON object per picture, got {type(item).__name__}")
    url = item.get("content")
    if not isinstance(url, str) or not file_name(url):
        raise DataError(f'{where}: no "content" with the address of the picture')
    annotations = item.get("annotation")
    if annotations is not None and not isinstance(annotations, list):
        raise DataError(f'{where}: "annotation" must be a list or null')
    boxes = [_box(annotation, report) for annotation in annotations or []]
    return Record(line, url, file_name(url), tuple(box for box in boxes if box is not None))


def file_name(url: str) -> str:
    """Return what follows an address's last slash, without query, percent-decoded."""
    path = urlsplit(url).path if "://" in url else url
    return unquote(path).replace("\\", "/").rsplit("/", 1)[-1]


def _box(annotation: Any, report: Report) -> tuple[float, float, float, float] | None:
    """Return a face's (x1, y1, x2, y2) in [0, 1], or None; count the faults."""
    if not isinstance(annotation, dict):
        report.malformed += 1
        return None
    labels = annotation.get("label")
    names = [str(name) for name in labels] if isinstance(labels, list) else [str(labels)]
    if LABEL not in (name.strip().lower() for name in names):
        report.other_labels[" ".join(names) or "(none)"] += 1
        return None
    points = annotation.get("points")
    corners = [_corner(point) for point in points] if isinstance(points, list) else []
    if len(corners) < 2 or None in corners:
        report.malformed += 1
        return None
    xs, ys = zip(*(corner for corner in corners if corner is not None), strict=True)
    x1, x2, y1, y2 = min(xs), max(xs), min(ys), max(ys)
    report.swapped += len(corners) == 2 and (xs[0] > xs[1] or ys[0] > ys[1])
    inside = (_clip(x1), _clip(y1), _clip(x2), _clip(y2))
    report.clipped += inside != (x1, y1, x2, y2)
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        report.zero_area += 1
        return None
    return inside


def _corner(point: Any) -> tuple[float, float] | None:
    """Return (x, y) of ``{"x": …, "y": …}`` or ``[x, y]``; None unless two finite numbers."""
    if isinstance(point, dict):
        point = [point.get("x"), point.get("y")]
    if not isinstance(point, list) or len(point) != 2:
        return None
    for value in point:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
    try:
        x, y = float(point[0]), float(point[1])
    except OverflowError:
        return None
    return (x, y) if math.isfinite(x) and math.isfinite(y) else None


def _clip(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def find_images(
    records: Sequence[Record], folder: str | Path
) -> tuple[list[tuple[Record, Path]], list[Record]]:
    """Match records with the pictures of a folder, by file name.

    Returns:
        The records whose picture is there, with its path, and the records whose picture is missing.

    Raises:
        DataError: the folder does not exist, or holds none of the pictures.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; --images names the one with the pictures")
    files = {file.name: file for file in folder.iterdir() if file.is_file()}
    found = [(record, files[record.name]) for record in records if record.name in files]
    if not found:
        raise DataError(
            f"{folder}: holds none of the {len(records)} pictures of the json "
            f"(for instance {records[0].name})"
        )
    missing = [record for record in records if record.name not in files]
    return found, missing


def draw_boxes(image: NDArray[np.uint8], boxes: Sequence[tuple[float, ...]]) -> Image.Image:
    """Return an (H, W, 3) uint8 RGB picture with its boxes, in pixels, outlined."""
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    line = max(2, round(max(picture.size) / 300))
    for box in boxes:
        pen.rectangle(box, outline=(0, 255, 0), width=line)
    return picture


def contact_sheet(
    pictures: Sequence[Image.Image], columns: int = 6, side: int = 240
) -> Image.Image:
    """Return one picture that shows all of them, shrunk to ``side`` pixels, row by row."""
    rows = math.ceil(len(pictures) / columns)
    sheet = Image.new("RGB", (columns * side, max(rows, 1) * side), (40, 40, 40))
    for index, picture in enumerate(pictures):
        thumbnail = picture.copy()
        thumbnail.thumbnail((side - 4, side - 4))
        sheet.paste(thumbnail, (index % columns * side + 2, index // columns * side + 2))
    return sheet


def show(json_file: str, images: str, out: str, limit: int | None = None) -> list[str]:
    """Draw the boxes of an export on its pictures.

    Args:
        json_file: the export.
        images: folder of the pictures.
        out: folder for the drawn pictures and ``contact_sheet.jpg``.
        limit: draw only that many, the first; None draws all.

    Returns:
        What was read, mended, left out and written, as sentences.

    Raises:
        DataError: nothing to draw, or ``out`` cannot be written.
    """
    records, report = read_dataturks(json_file)
    found, missing = find_images(records, images)
    folder, sheet, failed = Path(out), [], []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for record, path in tqdm(found[:limit], desc="drawing", unit="picture"):
            try:
                image = read_image(path)
            except ImageError as error:
                failed.append(f"left out: {error}")
                continue
            drawn = draw_boxes(image, record.pixel_boxes(image.shape[1], image.shape[0]))
            _save(drawn, folder / f"{record.line:04d}_{Path(record.name).stem[-40:]}.jpg")
            drawn.thumbnail((240, 240))
            sheet.append(drawn)
        _save(contact_sheet(sheet), folder / "contact_sheet.jpg")
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror or error}") from error
    lines = [*report.lines(), *failed]
    if missing:
        lines.append(f"{len(missing)} pictures are not in {images}, for instance {missing[0].name}")
    return [*lines, f"{len(sheet)} pictures drawn in {folder}, all on contact_sheet.jpg"]


def download(
    json_file: str,
    out: str,
    report: str | None = None,
    limits: Limits | None = None,
    private: bool = False,
) -> tuple[list[str], int]:
    """Fetch the pictures of an export; those that are in the folder already stay as they are.

    Args:
        json_file: the export.
        out: folder for the pictures, under the names that ``find_images`` looks for.
        report: JSON file for the counts and the dead links; None: ``download.json`` in ``out``.
        limits: what a picture may cost; None for the defaults.
        private: allow addresses of this machine and its network too.

    Returns:
        What happened, as sentences, and how many links are dead.

    Raises:
        DataError: the export is none, or ``out`` or ``report`` cannot be written.
    """
    records, _ = read_dataturks(json_file)
    wanted = [Wanted(record.url, record.name) for record in records]
    target = Path(report) if report else Path(out) / "download.json"
    try:
        about = summary(list(fetch_all(wanted, Path(out), limits, private=private)))
        write_json(target, about)
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror or error}") from error
    causes = Counter(dead["cause"].split(":")[0] for dead in about["dead_links"])
    lines = [
        f"{about['fetched']} of {about['pictures']} pictures fetched, {about['there']} were there, "
        f"{about['dead']} links are dead"
    ]
    lines += [f"{count} dead: {cause}" for cause, count in causes.most_common()]
    return [*lines, f"every dead link is in {target}"], about["dead"]


def _save(picture: Image.Image, path: Path) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    picture.save(temporary, format="JPEG", quality=90)
    os.replace(temporary, path)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m detection.dataturks``; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m detection.dataturks",
        description="Fetch the pictures of a Dataturks face export; look at what is in it.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    drawing = commands.add_parser("show", help="draw the boxes on the pictures")
    drawing.add_argument("--json", required=True, help="the export")
    drawing.add_argument("--images", required=True, help="folder of its pictures")
    drawing.add_argument("--out", required=True, help="folder for the drawn pictures")
    drawing.add_argument("--limit", type=_positive, help="draw only the first LIMIT pictures")
    fetching = commands.add_parser(
        "download",
        help="fetch the pictures; once more goes on, and tries dead links again (exit status 1 "
        "while there are any)",
    )
    fetching.add_argument("--json", required=True, help="the export")
    fetching.add_argument("--out", required=True, help="folder for the pictures")
    fetching.add_argument("--report", metavar="FILE.json", help="default: download.json in OUT")
    fetching.add_argument(
        "--private",
        action="store_true",
        help="allow addresses of this machine and its network: a mirror of yours",
    )
    args = parser.parse_args(argv)
    try:
        if args.command == "download":
            lines, dead = download(args.json, args.out, args.report, private=args.private)
            print("\n".join(lines))
            return 1 if dead else 0
        print("\n".join(show(args.json, args.images, args.out, args.limit)))
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
    return 0


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


if __name__ == "__main__":
    sys.exit(main())
