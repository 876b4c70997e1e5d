"""``twostage summary FILE``: how many images, faces and emotions a result file holds."""

from __future__ import annotations

import argparse
import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tabulate import tabulate

from faces.command import UserError, printable
from faces.emotions import EMOTIONS
from faces.files import regular_file, replacing
from twostage.batch.columns import read_rows
from twostage.batch.resume import journal_of, read_journal

MANY_FACES = 10
"""Images with so many faces or more are counted together."""


class FoundFace(NamedTuple):
    """What is counted of a face: its most likely emotion, its labels, whether it is unsure."""

    top: str
    labels: Sequence[str]
    is_unsure: bool


@dataclass
class Summary:
    """What a result file holds.

    Attributes:
        images: number of images that were analysed.
        faces: number of faces.
        per_image: number of faces → number of images.
        top: emotion → number of faces that show it most.
        labels: emotion → number of faces that have it as a label.
        unsure: number of unsure faces.
        failures: cause → number of images that failed of it; None where the file does not say.
    """

    images: int = 0
    faces: int = 0
    per_image: Counter[int] = field(default_factory=Counter)
    top: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    unsure: int = 0
    failures: Counter[str] | None = None

    def add(self, faces: Iterable[FoundFace]) -> None:
        """Count an image."""
        count = 0
        for face in faces:
            count += 1
            self.top[face.top] += 1
            self.labels.update(face.labels)
            self.unsure += face.is_unsure
        self.images += 1
        self.faces += count
        self.per_image[count] += 1


def summarize(path: Path) -> Summary:
    """Read a result file, whatever its length, a few images at a time.

    Args:
        path: ``.jsonl``, ``.json``, ``.csv``, ``.parquet`` of ``twostage analyze``. Of a ``.csv``,
            the journal beside it tells the images without faces; failures are told by a journal or
            in a ``.parquet``.

    Raises:
        UserError: it cannot be read, or is no result file.
    """
    readers: dict[str, Callable[[Path], Summary]] = {
        ".jsonl": _of_objects,
        ".json": _of_objects,
        ".csv": _of_csv,
        ".parquet": _of_parquet,
    }
    if not path.exists():
        raise UserError(f"{path}: no such result file")
    if path.suffix.lower() not in readers:
        raise UserError(f"{path}: no kind of result file that is summed up: {', '.join(readers)}")
    if not path.is_dir():
        regular_file(path)
    try:
        return readers[path.suffix.lower()](path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: is no result file of twostage analyze ({error})") from error


def _of_objects(path: Path) -> Summary:
    summary = Summary(failures=_failures(path))
    for plain in _objects(path):
        summary.add(
            FoundFace(_top(face["emotions"]), face["labels"], face["unsure"])
            for face in plain["faces"]
        )
    return summary


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of JSON lines, or of an array that has one on each line, as we write it."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if (text := line.strip().rstrip(",")) not in ("", "[", "]"):
                yield json.loads(text)


def _of_csv(path: Path) -> Summary:
    summary = Summary(failures=_failures(path))
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        for faces in _grouped(rows, lambda row: row["source"]):
            summary.add(
                FoundFace(
                    _top({emotion: float(row[emotion]) for emotion in EMOTIONS}),
                    row["labels"].split(";") if row["labels"] else (),
                    row["unsure"] == "true",
                )
                for row in faces
            )
    record = read_journal(journal_of(path))
    if record.header is not None:
        summary.per_image[0] += record.images - summary.images
        summary.images = record.images
    return summary


def _of_parquet(path: Path) -> Summary:
    summary = Summary(failures=Counter())
    assert summary.failures is not None
    for rows in _grouped(read_rows(path), lambda row: row["source"]):
        if rows[0]["error"] is not None:
            summary.failures[rows[0]["error"]] += 1
            continue
        summary.add(
            FoundFace(_top(row), row["labels"], row["unsure"])
            for row in rows
            if row["face"] is not None
        )
    return summary


def _grouped(
    rows: Iterable[dict[str, Any]], key: Callable[[dict[str, Any]], object]
) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each image, which follow one another."""
    group: list[dict[str, Any]] = []
    for row in rows:
        if group and key(row) != key(group[0]):
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def _failures(path: Path) -> Counter[str] | None:
    journal = journal_of(path)
    return Counter(read_journal(journal).failed.values()) if journal.exists() else None


def _top(row: dict[str, Any]) -> str:
    return max(EMOTIONS, key=lambda emotion: row[emotion])


def describe(summary: Summary) -> str:
    """Return a summary as text."""
    count = "unknown (no .run file beside it)" if summary.failures is None else "0"
    if summary.failures:
        count = str(sum(summary.failures.values()))
    lines = [f"{summary.images} images, {summary.faces} faces, failed: {count}", ""]
    images = [
        (name, number, _share(number, summary.images)) for name, number in face_counts(summary)
    ]
    lines += [tabulate(images, headers=("faces in an image", "images", "share")), ""]
    emotions: list[tuple[str, int, str, int | str]] = [
        (e, summary.top[e], _share(summary.top[e], summary.faces), summary.labels[e])
        for e in EMOTIONS
    ]
    emotions.append(("unsure", summary.unsure, _share(summary.unsure, summary.faces), ""))
    lines.append(tabulate(emotions, headers=("emotion", "most likely", "share", "label of")))
    if summary.failures:
        lines += ["", tabulate(summary.failures.most_common(10), headers=("failed of", "images"))]
    return "\n".join(lines)


def face_counts(summary: Summary) -> list[tuple[str, int]]:
    """Return ("0", images without faces), ("1", …), …, ("10 or more", …)."""
    last = min(max(summary.per_image, default=0), MANY_FACES - 1)
    rows = [(str(count), summary.per_image[count]) for count in range(last + 1)]
    if many := sum(n for count, n in summary.per_image.items() if count >= MANY_FACES):
        rows.append((f"{MANY_FACES} or more", many))
    return rows


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else ""


def draw(summary: Summary, path: Path) -> None:
    """Draw a summary: images by their faces, faces by their emotions, as PNG, SVG or PDF.

    Raises:
        UserError: matplotlib does not write this kind of file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    names, numbers = zip(*face_counts(summary), strict=True)
    left.bar(names, numbers, color="#2a78d6")
    left.set(title=f"{summary.images:,} images", xlabel="faces in an image", ylabel="images")
    right.barh(EMOTIONS[::-1], [summary.top[e] for e in EMOTIONS[::-1]], color="#2a78d6")
    right.set(title=f"{summary.faces:,} faces", xlabel="faces, by the most likely emotion")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in canvas.get_supported_filetypes():
        raise UserError(f"--picture {path}: no kind of picture; end it in .png, .svg or .pdf")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        figure.savefig(part, format=kind, dpi=150)


def add_summary_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
) -> None:
    """Add ``twostage summary``."""
    command = commands.add_parser("summary", help="sum up a result file")
    command.add_argument("file", type=Path, metavar="FILE", help=".jsonl, .json, .csv, .parquet")
    command.add_argument("--picture", type=Path, metavar="FILE", help="draw it: .png, .svg, .pdf")
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    summary = summarize(args.file)
    print(describe(summary))
    if args.picture:
        draw(summary, args.picture)
        print(f"wrote {printable(str(args.picture))}")
    return 0
