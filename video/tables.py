"""Analysed frames → a table with a row per face and frame, and a table of tracks.

``faces.csv`` gets ``faces.tracks.csv`` beside it; ``.jsonl`` and ``.parquet`` likewise. Tables are
written as the rows come, so memory stays flat, and take their place whole when they are closed.
"""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from faces.command import UserError
from faces.emotions import EMOTIONS
from faces.files import replacing
from faces.types import DEFAULT_THRESHOLD
from video.analyze import VideoFrame
from video.mood import TrackSummary

Threshold = float | Mapping[str, float]

SMOOTHED = tuple(f"smoothed_{name}" for name in EMOTIONS)
SHARES = tuple(f"share_{name}" for name in EMOTIONS)

ROW_COLUMNS: dict[str, type] = {
    **{"source": str, "frame": int, "time": float, "track": int},
    **dict.fromkeys(("x1", "y1", "x2", "y2", "score", *EMOTIONS, *SMOOTHED), float),
    **{"labels": str, "smoothed_labels": str, "mood": str, "unsure": bool},
}
"""Column of the table of faces → its type."""

TRACK_COLUMNS: dict[str, type] = {
    **{"source": str, "track": int, "first": float, "last": float, "frames": int},
    **dict.fromkeys(SHARES, float),
    **{"changes": str, "minutes": str, "best_frame": int, "best_time": float, "best_crop": str},
}
"""Column of the table of tracks → its type."""

KINDS = (".jsonl", ".csv", ".parquet")


def face_rows(frame: VideoFrame, threshold: Threshold = DEFAULT_THRESHOLD) -> list[dict[str, Any]]:
    """Return one row per face of a frame, see ``ROW_COLUMNS``.

    ``time`` is in seconds, ``track`` None where the face has none. Boxes are pixels of the upright
    frame, clipped to it and rounded to 1/100. ``labels`` and ``unsure`` are those of the frame
    alone, ``smoothed_labels`` and ``mood`` those of the track; labels are joined by ``;``.
    """
    rows = []
    for one in frame.faces:
        box, emotions = one.face.box, one.face.emotions
        width, height = frame.width, frame.height
        corners = (
            *(min(max(box.x1, 0.0), width), min(max(box.y1, 0.0), height)),
            *(min(max(box.x2, 0.0), width), min(max(box.y2, 0.0), height)),
        )
        rows.append(
            {"source": frame.source, "frame": frame.index, "time": round(frame.time, 4)}
            | {"track": one.track}
            | dict(
                zip(("x1", "y1", "x2", "y2"), (round(float(v), 2) for v in corners), strict=True)
            )
            | {"score": round(one.face.score, 6)}
            | {name: round(p, 6) for name, p in emotions.as_dict().items()}
            | dict(zip(SMOOTHED, (round(p, 6) for p in one.smoothed.probabilities), strict=True))
            | {
                "labels": ";".join(emotions.labels(threshold)),
                "smoothed_labels": ";".join(one.smoothed.labels(threshold)),
                "mood": one.mood,
                "unsure": emotions.unsure(threshold),
            }
        )
    return rows


def track_row(source: str, track: TrackSummary) -> dict[str, Any]:
    """Return the row of a track, see ``TRACK_COLUMNS``.

    ``changes`` are pairs of a time and the mood from there on, ``minutes`` the mean smoothed
    probabilities per minute; ``best_crop`` is the best crop, a JPEG in base64.
    """
    shares = track.shares()
    crop = track.best_crop
    return (
        {"source": source, "track": track.number}
        | {"first": round(track.first, 4), "last": round(track.last, 4), "frames": track.frames}
        | {f"share_{name}": round(share, 6) for name, share in shares.items()}
        | {"changes": [[round(one.time, 4), one.mood] for one in track.changes]}
        | {
            "minutes": [
                {key: round(value, 6) for key, value in minute.items()}
                for minute in track.per_minute()
            ]
        }
        | {"best_frame": track.best_frame, "best_time": round(track.best_time, 4)}
        | {"best_crop": None if crop is None else base64.b64encode(crop).decode()}
    )


def tracks_path(path: Path) -> Path:
    """Return where the table of tracks stands: ``faces.tracks.csv`` beside ``faces.csv``."""
    return path.with_name(f"{path.stem}.tracks{path.suffix}")


def check_table_path(path: Path) -> None:
    """Make the folder of a table.

    Raises:
        UserError: the extension is unknown, a package for it is missing, or ``path`` is a folder.
    """
    if path.suffix.lower() not in KINDS:
        raise UserError(f"{path}: unknown kind of table; end it in one of {', '.join(KINDS)}")
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name a file in it")
    if path.suffix.lower() == ".parquet":
        _import_parquet(path)
    path.parent.mkdir(parents=True, exist_ok=True)


class TableWriter(Protocol):
    """An open table."""

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows; their keys are the columns."""
        ...


@contextmanager
def open_table(path: Path, columns: Mapping[str, type]) -> Iterator[TableWriter]:
    """Open a table by its extension; it takes its place when the ``with`` block is left.

    Raises:
        UserError: see ``check_table_path``.
        OSError: it cannot be written.
    """
    check_table_path(path)
    with replacing(path) as part:
        match path.suffix.lower():
            case ".jsonl":
                with open(part, "w", encoding="utf-8", errors="backslashreplace") as file:
                    yield _JsonLines(file)
            case ".csv":
                options = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
                with open(part, "w", **options) as file:  # type: ignore[call-overload]
                    yield _Csv(file, columns)
            case _:
                table = _Parquet(part, columns)
                try:
                    yield table
                finally:
                    table.close()


class _JsonLines:
    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            line = json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            self._file.write(line + "\n")


class _Csv:
    def __init__(self, file: Any, columns: Mapping[str, type]) -> None:
        # an image in a cell is of no use to a spreadsheet
        self._columns = [name for name in columns if name != "best_crop"]
        self._writer = csv.DictWriter(file, self._columns, lineterminator="\n")
        self._writer.writeheader()

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            self._writer.writerow({name: _plain(row[name]) for name in self._columns})


class _Parquet:
    _GROUP = 5000

    def __init__(self, path: Path, columns: Mapping[str, type]) -> None:
        self._arrow, parquet = _import_parquet(path)
        types = {
            str: self._arrow.string(),
            int: self._arrow.int64(),
            float: self._arrow.float64(),
            bool: self._arrow.bool_(),
        }
        self._schema = self._arrow.schema([(name, types[kind]) for name, kind in columns.items()])
        self._writer = parquet.ParquetWriter(path, self._schema)
        self._waiting: list[dict[str, Any]] = []

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            self._waiting.append(
                {k: _plain(v) if isinstance(v, list) else v for k, v in row.items()}
            )
        if len(self._waiting) >= self._GROUP:
            self._flush()

    def close(self) -> None:
        if self._waiting:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        self._writer.write_table(self._arrow.Table.from_pylist(self._waiting, schema=self._schema))
        self._waiting = []


def _plain(value: Any) -> Any:
    """Return what stands in one cell: lists as JSON, truth in small letters, nothing for None."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return json.dumps(value, separators=(",", ":"))
    return value


def _import_parquet(path: Path) -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(f"{path}: .parquet needs pyarrow; run: pip install pyarrow") from error
    return pyarrow, pyarrow.parquet
