r"""Results → files: JSON lines, JSON, CSV, COCO. Written as they come, so memory stays flat.

A sink writes to ``NAME.….part`` beside its target and moves it there when the ``with`` block is
left. Also when it is left by an exception, Ctrl-C included: then the target is a valid file with
the images finished by then (unless there are none: an older target is kept). Only where writing
itself fails, on a full disk for instance, the target is left as it was and the part files stay
(COCO's annotations have one of their own until the end).

JSON is strict and in UTF-8. Parts of a file name that are not valid text become ``\udcXX``
escapes, which Python's reader turns back into the very name.
"""

from __future__ import annotations

import csv
import io
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple, Self

from faces.command import UserError
from faces.emotions import EMOTIONS
from faces.files import new_part, publish
from faces.types import DEFAULT_THRESHOLD, Box, ImageResult

SCHEMA_VERSION = 1
"""Goes up when a key of ``result_to_dict`` changes its meaning or disappears."""

Threshold = float | Mapping[str, float]
"""One probability for all emotions or one per emotion, as ``labels`` takes it."""

CSV_COLUMNS = (
    *("source", "width", "height", "face", "x1", "y1", "x2", "y2", "score"),
    *EMOTIONS,
    *("labels", "unsure"),
)


class SinkError(UserError):
    """A result file that cannot be written; the message names it, the cause and the way out."""


def result_to_dict(result: ImageResult, threshold: Threshold = DEFAULT_THRESHOLD) -> dict[str, Any]:
    """Return one image's result as the JSON object that the project publishes.

    Boxes are clipped to the image and rounded to 1/100 pixel (a box wholly outside stays as it is);
    scores and probabilities are rounded to six decimals, the latter after scaling their sum to 1.
    ``labels`` and ``unsure`` follow from the unrounded probabilities.

    Returns:
        ``{"schema_version": 1, "source": str, "width": px, "height": px, "seconds": s,
        "smallest_face": px or null, "turned": degrees, "faces": [{"box": [x1, y1, x2, y2],
        "score": 0…1, "emotions": {name: 0…1 for the seven}, "labels": [names, most likely first],
        "unsure": bool}, …]}``; see ``ImageResult``.
    """
    faces = []
    for face in result.faces:
        probabilities = face.emotions.as_dict()
        total = sum(probabilities.values())
        faces.append(
            {
                "box": _rounded(face.detection.box, result.width, result.height),
                "score": round(float(face.detection.score), 6),
                "emotions": {name: round(p / total, 6) for name, p in probabilities.items()},
                "labels": face.emotions.labels(threshold),
                "unsure": face.emotions.unsure(threshold),
            }
        )
    return {
        "schema_version": SCHEMA_VERSION,
        "source": result.source,
        "width": int(result.width),
        "height": int(result.height),
        "seconds": round(float(result.seconds), 4),
        "smallest_face": None if result.smallest_face is None else round(result.smallest_face, 2),
        "turned": result.turned,
        "faces": faces,
    }


def json_line(result: ImageResult, threshold: Threshold = DEFAULT_THRESHOLD) -> bytes:
    """Return ``result_to_dict`` as one line of UTF-8, its end included."""
    return _json(result_to_dict(result, threshold)) + b"\n"


def csv_rows(result: ImageResult, threshold: Threshold) -> list[list[Any]]:
    """Return one row per face of an image, in the order of ``CSV_COLUMNS``.

    ``face`` is of ``ImageResult.numbers``, ``labels`` are joined by ``;``, ``unsure`` is a bool.
    """
    return [
        [
            *(result.source, result.width, result.height, number),
            *(*face["box"], face["score"], *face["emotions"].values()),
            *(";".join(face["labels"]), face["unsure"]),
        ]
        for number, face in zip(
            result.numbers, result_to_dict(result, threshold)["faces"], strict=True
        )
    ]


def spreadsheet_text(text: str) -> str:
    """Return the text of a csv cell as spreadsheets show it, and not compute it.

    What begins with ``=``, ``+``, ``-``, ``@``, a tab or a line's end could be a formula, which
    runs where the file is opened: an apostrophe is put before it.
    """
    return f"'{text}" if text[:1] in _FORMULA else text


_FORMULA = tuple(
    "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
)  # the last four are as wide as a letter of CJK


def open_sink(path: str | os.PathLike[str], threshold: Threshold = DEFAULT_THRESHOLD) -> Sink:
    """Return the sink for a file, by its extension; use it as a context manager.

    Args:
        path: ends in ``.jsonl`` (one object a line, see ``result_to_dict``), ``.json`` (an array of
            them), ``.csv`` (a row per face, see ``CsvSink``) or ``.coco.json`` (COCO's ``images``,
            ``annotations`` and ``categories``, see ``CocoSink``). Missing folders are made.
        threshold: from which probability on an emotion is a label.

    Raises:
        SinkError: unknown extension; or the file cannot be written there.
    """
    name = os.fspath(path)
    for extension, kind in _KINDS.items():
        if name.lower().endswith(extension):
            return kind(Path(os.path.realpath(name)), threshold)
    raise SinkError(f"{name}: unknown kind of result file; end it in one of {', '.join(_KINDS)}")


class _Position(NamedTuple):
    """Up to where a sink's files are complete; replaced as a whole, so no interrupt splits it."""

    images: int = 0
    faces: int = 0
    end: int = 0
    waiting_end: int = 0


class Sink(ABC):
    """An open result file: ``write`` one image at a time, leave the ``with`` block to finish it.

    Raises:
        SinkError: on construction and entry, where the target cannot be written; by ``write`` and
            on leaving, where writing fails.
    """

    _head = b""
    _middle = b""
    _tail = b""

    def __init__(self, path: Path, threshold: Threshold) -> None:
        self.path = path
        self._threshold = threshold
        self._part = self._waiting_part = path  # until they are made
        self._file: FileIO | None = None
        self._waiting: FileIO | None = None  # what must follow the last image
        self._at = _Position()
        self._check_target()

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._part = new_part(self.path)
            self._waiting_part = new_part(self.path.with_name(f"{self.path.name}.annotations"))
            self._file = FileIO(self._part, "r+")
            self._waiting = FileIO(self._waiting_part, "r+")
            _write_all(self._file, self._head)
        except OSError as error:
            self._remove_parts()
            raise SinkError(f"{self.path}: cannot be written: {error.strerror}") from error
        self._at = _Position(end=len(self._head))
        return self

    @property
    def head(self) -> bytes:
        """What the file begins with, before the first image."""
        return self._head

    def encode(self, result: ImageResult) -> bytes:
        """Return what an image adds to a file of lines (``.jsonl``, ``.csv``)."""
        return self._record(result)[0]

    def write(self, result: ImageResult) -> None:
        """Add one image; once this returns, a crash of the program does not lose it."""
        if self._file is None or self._waiting is None:
            raise SinkError(f"{self.path}: not open; use the sink in a `with` block")
        at = self._at
        record, waiting = self._record(result)
        self._append(self._file, at.end, record)
        self._append(self._waiting, at.waiting_end, waiting)
        self._at = _Position(
            at.images + 1,
            at.faces + len(result.faces),
            at.end + len(record),
            at.waiting_end + len(waiting),
        )

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        assert self._file is not None and self._waiting is not None
        with self._waiting as waiting, self._file as file:
            file.truncate(self._at.end)  # an interrupted write may have left half a record
            waiting.truncate(self._at.waiting_end)
            if error is not None and self._at.images == 0:
                self._remove_parts()
                return
            if isinstance(error, SinkError):
                if self._at.waiting_end == 0:
                    self._waiting_part.unlink()
                return
            try:
                file.seek(self._at.end)
                _write_all(file, self._middle)
                waiting.seek(0)
                while block := waiting.read(1 << 20):
                    _write_all(file, block)
                _write_all(file, self._tail)
                publish(self._part, self.path)
                self._waiting_part.unlink()
            except OSError as failure:
                raise self._failed(failure) from failure

    def _append(self, file: FileIO, end: int, data: bytes) -> None:
        try:
            file.seek(end)
            _write_all(file, data)
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> SinkError:
        kept = f"; what was written is in {self._part}" if self._at.images else ""
        return SinkError(f"{self.path}: writing failed: {error.strerror}{kept}")

    def _remove_parts(self) -> None:
        for part in {self._part, self._waiting_part} - {self.path}:
            part.unlink(missing_ok=True)

    def _check_target(self) -> None:
        if self.path.is_dir():
            raise SinkError(f"{self.path}: is a folder; name a file in it")
        if self.path.exists() and not self.path.is_file():
            raise SinkError(f"{self.path}: is no regular file")
        folder = self.path.parent
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if not folder.is_dir():
            raise SinkError(f"{self.path}: {folder} is not a folder")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise SinkError(f"{self.path}: no permission to write to {folder}")
        if self.path.exists() and not os.access(self.path, os.W_OK):
            raise SinkError(f"{self.path}: no permission to write to it")

    @abstractmethod
    def _record(self, result: ImageResult) -> tuple[bytes, bytes]:
        """Return what an image adds to the file, and what it adds to the part after all images.

        Both start with their separator from what stands before them.
        """


class JsonLinesSink(Sink):
    """One JSON object per line and image."""

    def _record(self, result: ImageResult) -> tuple[bytes, bytes]:
        return json_line(result, self._threshold), b""


class JsonSink(Sink):
    """One JSON array with an object per image, each on a line of its own."""

    _head = b"["
    _tail = b"\n]\n"

    def _record(self, result: ImageResult) -> tuple[bytes, bytes]:
        plain = result_to_dict(result, self._threshold)
        return _separator(self._at.images) + _json(plain), b""


class CsvSink(Sink):
    """A header, then one row per face; images without faces have no row.

    No cell is a formula, see ``spreadsheet_text``.
    """

    _head = ",".join(CSV_COLUMNS).encode() + b"\n"

    def _record(self, result: ImageResult) -> tuple[bytes, bytes]:
        lines = ""
        for source, *values, unsure in csv_rows(result, self._threshold):
            row = io.StringIO()
            writer = csv.writer(row, lineterminator="\r\n")  # so that names with these are quoted
            writer.writerow([spreadsheet_text(source), *values, str(unsure).lower()])
            lines += row.getvalue().removesuffix("\r\n") + "\n"
        return _utf_8(lines), b""


class CocoSink(Sink):
    """A COCO object with one category, ``face``, and the emotions as extra fields.

    ``images``: id (from 1), file_name (the source), width, height, seconds. ``annotations``: id
    (from 1), image_id, category_id 1, bbox [x, y, width, height], area, iscrowd 0, score, emotions,
    labels, unsure. pycocotools' ``COCO`` loads the file, ``loadRes`` the annotations as results.
    """

    _category = 1
    _middle = b'\n],"annotations":['
    _tail = b"\n]}\n"

    def __init__(self, path: Path, threshold: Threshold) -> None:
        super().__init__(path, threshold)
        header = {
            "info": {"description": "faces and their emotions", "version": str(SCHEMA_VERSION)},
            "categories": [{"id": self._category, "name": "face", "supercategory": "person"}],
        }
        self._head = _json(header)[:-1] + b',"images":['

    def _record(self, result: ImageResult) -> tuple[bytes, bytes]:
        plain = result_to_dict(result, self._threshold)
        image = {
            "id": self._at.images + 1,
            "file_name": plain["source"],
            **{key: plain[key] for key in ("width", "height", "seconds")},
        }
        annotations = b""
        for number, face in enumerate(plain["faces"], start=self._at.faces):
            x1, y1, x2, y2 = face.pop("box")
            width, height = round(x2 - x1, 2), round(y2 - y1, 2)
            annotation = {
                "id": number + 1,
                "image_id": image["id"],
                "category_id": self._category,
                "bbox": [x1, y1, width, height],
                "area": round(width * height, 4),
                "iscrowd": 0,
                **face,
            }
            annotations += _separator(number) + _json(annotation)
        return _separator(self._at.images) + _json(image), annotations


_KINDS: dict[str, type[Sink]] = {
    ".jsonl": JsonLinesSink,
    ".coco.json": CocoSink,
    ".json": JsonSink,
    ".csv": CsvSink,
}


def _write_all(file: FileIO, data: bytes) -> None:
    """Write without a buffer, from which a failed write would come back when the file is closed."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _separator(before: int) -> bytes:
    return b",\n" if before else b"\n"


def _rounded(box: Box, width: int, height: int) -> list[float]:
    """Return (x1, y1, x2, y2), clipped to the image and rounded, as far as an area remains."""
    corners = [float(value) for value in box.as_tuple()]
    x1, y1, x2, y2 = (
        round(min(max(value, 0.0), float(limit)), 2)
        for value, limit in zip(corners, (width, height) * 2, strict=True)
    )
    return [x1, y1, x2, y2] if x1 < x2 and y1 < y2 else corners


def _json(value: dict[str, Any]) -> bytes:
    return _utf_8(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")))


def _utf_8(text: str) -> bytes:
    return text.encode("utf-8", errors="backslashreplace")
