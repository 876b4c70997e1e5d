"""Results → columns: a folder of Parquet files, each of which is written whole.

One table holds everything: a row per face; a row whose ``face`` is null for an image without
faces; a row that has nothing but ``source`` and ``error`` for an image that failed. Numbers are
rounded as ``faces.sinks.result_to_dict`` rounds them. pandas, Polars, DuckDB, Spark and pyarrow
read the folder as one table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from faces.command import UserError
from faces.emotions import EMOTIONS
from faces.files import replacing
from faces.paths import ImageError
from faces.sinks import Threshold, result_to_dict
from faces.types import DEFAULT_THRESHOLD, ImageResult

IMAGE = ("width", "height", "seconds", "smallest_face", "turned")
"""The columns that say something of an image."""

NUMBERS = ("x1", "y1", "x2", "y2", "score", *EMOTIONS)
"""The columns of 64-bit floats that a row has only where it is a face."""


def import_pyarrow() -> Any:
    """Import pyarrow with its Parquet module.

    Raises:
        UserError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            f".parquet needs the package pyarrow ({error}); run: pip install pyarrow"
        ) from error
    return pyarrow


def schema() -> Any:
    """Return the ``pyarrow.Schema`` of every file; docs/scale.md describes the columns."""
    pa = import_pyarrow()
    columns: dict[str, Any] = {"source": pa.string(), "width": pa.int32(), "height": pa.int32()}
    columns |= {"seconds": pa.float64(), "smallest_face": pa.float64(), "turned": pa.int32()}
    columns["face"] = pa.int32()
    columns |= dict.fromkeys(NUMBERS, pa.float64())
    columns |= {"labels": pa.list_(pa.string()), "unsure": pa.bool_(), "error": pa.string()}
    return pa.schema(list(columns.items()))


def rows_of(
    entry: ImageResult | ImageError, threshold: Threshold = DEFAULT_THRESHOLD
) -> list[dict[str, Any]]:
    """Return the rows of an image, one at least: column → value; what is missing is null."""
    if isinstance(entry, ImageError):
        return [{"source": valid(entry.source), "error": valid(entry.cause)}]
    plain = result_to_dict(entry, threshold)
    image = {key: plain[key] for key in IMAGE}
    image["source"] = valid(plain["source"])
    faces = [
        {
            **image,
            "face": number,
            **dict(zip(("x1", "y1", "x2", "y2"), map(float, face["box"]), strict=True)),
            "score": face["score"],
            **face["emotions"],
            "labels": face["labels"],
            "unsure": face["unsure"],
        }
        for number, face in enumerate(plain["faces"], start=1)
    ]
    return faces or [image]


def table_of(rows: Iterable[dict[str, Any]]) -> Any:
    """Return rows as a ``pyarrow.Table`` with the schema of the files."""
    return import_pyarrow().Table.from_pylist(list(rows), schema=schema())


def part_files(path: Path) -> list[Path]:
    """Return the files of a table in order: of a folder, or the one file that ``path`` is."""
    return sorted(path.glob("*.parquet")) if path.is_dir() else [path]


def read_rows(path: Path, names: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table, a batch of one file in memory at a time.

    Args:
        path: a folder of files, or one file.
        names: columns to read; None reads all.

    Raises:
        UserError: a file cannot be read.
    """
    pa = import_pyarrow()
    for part in part_files(path):
        try:
            with pa.parquet.ParquetFile(part) as file:
                for batch in file.iter_batches(columns=names):
                    yield from batch.to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{part}: cannot be read as Parquet ({error})") from error


def write_part(path: Path, table: Any) -> None:
    """Write one file, whole or not at all."""
    with replacing(path) as part:
        import_pyarrow().parquet.write_table(table, part, compression="zstd")


def drop_failures(path: Path, sources: Collection[str]) -> None:
    """Rewrite one file without the rows of failures of ``sources``, if it has any."""
    pa = import_pyarrow()
    table = pa.parquet.read_table(path, schema=schema())
    names = pa.array([valid(source) for source in sources], pa.string())
    stale = pa.compute.and_(
        pa.compute.is_valid(table["error"]), pa.compute.is_in(table["source"], value_set=names)
    )
    if pa.compute.any(stale).as_py():
        write_part(path, table.filter(pa.compute.invert(stale)))


def write_sources(path: Path, sources: Iterable[str]) -> None:
    """Write a file that only has the column ``source``."""
    write_part(path, import_pyarrow().table({"source": list(sources)}))


def read_sources(path: Path) -> set[str]:
    """Return the images of a table."""
    return {row["source"] for row in read_rows(path, ["source"])}


def valid(text: str) -> str:
    r"""Return text that UTF-8 can hold: what of a file name is none becomes ``\udcXX``."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
