"""All faces of all photos: table, totals, and the files that ``twostage analyze`` writes."""

from __future__ import annotations

import csv
import html
import io
import itertools
import shlex
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from demo.render.cards import Threshold, css, limits
from demo.session import Choice
from faces.draw import draw_faces, write_annotated
from faces.emotions import EMOTIONS
from faces.pipeline import Image
from faces.scope import Scope
from faces.sinks import CSV_COLUMNS, open_sink, result_to_dict
from faces.types import DEFAULT_THRESHOLD, ImageResult

DOWNLOADS = {"CSV": ".csv", "JSON": ".json", "COCO": ".coco.json"}
"""Kind of result file → its extension, which ``faces.sinks.open_sink`` knows."""

UNSURE = "unsure"
"""Stands in for an emotion where a face shows none clearly."""

NAMED_PHOTOS = 6
"""Maximum number of photos that the command names; more are all photos of a folder."""

ZIP_BYTES = 512 << 20
"""Maximum of all annotated pictures in a ZIP; those that do not fit are listed in it."""


@dataclass(frozen=True)
class Filter:
    """What is looked for among many faces.

    Attributes:
        name: stands in the photo's name, in small letters or capitals.
        shows: emotions or ``UNSURE``, one of which a face shows; none is all.
    """

    name: str = ""
    shows: tuple[str, ...] = ()

    @property
    def active(self) -> bool:
        """Whether it leaves anything out."""
        return bool(self.name or self.shows)

    def takes_name(self, name: str) -> bool:
        """Tell whether a photo's name is looked for."""
        return self.name.casefold() in name.casefold()

    def takes(self, row: Mapping[str, Any]) -> bool:
        """Tell whether a row of ``table_rows`` is looked for."""
        shows = not self.shows or not set(self.shows).isdisjoint(row["shows"])
        return shows and self.takes_name(row["photo"])


def by_score(result: ImageResult) -> ImageResult:
    """Return a result with its faces in the order of the command's, the highest score first."""
    faces = sorted(result.faces, key=lambda face: -face.score)
    return replace(result, faces=tuple(faces))


def kept_of(
    results: Sequence[ImageResult], threshold: Threshold, wanted: Filter
) -> Iterator[tuple[ImageResult, tuple[int, ...]]]:
    """Yield the results that a filter keeps, with the numbers of the faces that it keeps."""
    for result in results:
        rows = table_rows([result], threshold)
        numbers = tuple(row["face"] for row in rows if wanted.takes(row))
        if numbers or (not wanted.shows and wanted.takes_name(result.source)):
            yield result, numbers


def table_rows(results: Iterable[ImageResult], threshold: Threshold) -> list[dict[str, Any]]:
    """Return a row per face of all photos: photo, face, shows, the seven in percent.

    What it shows is a list; of an unsure face, ``unsure`` and its labels with question marks.
    """
    rows = []
    for result in results:
        for number, face in enumerate(result_to_dict(result, threshold)["faces"], start=1):
            shows = face["labels"]
            if face["unsure"]:
                shows = [UNSURE, *(f"{label}?" for label in shows)]
            percents = {name: 100 * p for name, p in face["emotions"].items()}
            row = {"photo": result.source, "face": number, "shows": shows}
            rows.append(row | percents)
    return rows


def totals(rows: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Return how many faces show each emotion, and how many are unsure; several count for each."""
    found = Counter(name for row in rows for name in row["shows"])
    return {name: found[name] for name in (*EMOTIONS, UNSURE)}


def totals_html(counts: dict[str, int], faces: int) -> str:
    """Return a bar per emotion; its length is the fraction of faces that show it."""
    rows = []
    for name, number in counts.items():
        colour = f";background:{css(name)}" if name in EMOTIONS else ""
        rows.append(
            f'<dt class="name">{html.escape(name)}</dt>'
            f'<dd class="track shown" aria-hidden="true"><b></b>'
            f'<i style="width:{100 * number / max(1, faces):.1f}%{colour}"></i></dd>'
            f'<dd class="share">{number}</dd>'
        )
    return f'<div class="faces totals"><dl class="bars">{"".join(rows)}</dl></div>'


def result_file(
    kept: Iterable[tuple[ImageResult, tuple[int, ...]]], threshold: Threshold, extension: str
) -> bytes:
    """Return the file that ``twostage analyze --out`` writes, with an extension of ``DOWNLOADS``.

    Only results pass through the temporary folder, which is removed at once. In CSV, faces keep
    the numbers that they have on the page.

    Args:
        kept: results, and the numbers of those of their faces that go into the file.
        threshold: from which probability on an emotion is a label.
        extension: of the file.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"faces{extension}")
        kept = list(kept)
        with open_sink(path, threshold) as sink:
            for result, numbers in kept:
                faces = tuple(result.faces[number - 1] for number in numbers)
                sink.write(
                    by_score(result if extension == ".csv" else replace(result, faces=faces))
                )
        data = path.read_bytes()
    return _csv_part(data, kept) if extension == ".csv" else data


def _csv_part(data: bytes, kept: Iterable[tuple[ImageResult, tuple[int, ...]]]) -> bytes:
    """Return the header and the rows of the faces that are kept."""
    rows = csv.reader(io.StringIO(data.decode(), newline=""))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(next(rows))
    number = CSV_COLUMNS.index("face")
    for result, numbers in kept:
        for row in itertools.islice(rows, len(result.faces)):
            if int(row[number]) in numbers:
                writer.writerow(row)
    return out.getvalue().encode()


def annotated_png(image: Image, result: ImageResult, threshold: Threshold) -> bytes:
    """Return the PNG that ``twostage analyze --annotated`` writes, at the photo's full size."""
    file = io.BytesIO()
    write_annotated(draw_faces(image, by_score(result), threshold), file)
    return file.getvalue()


def annotated_zip(pictures: Iterable[tuple[str, bytes]]) -> bytes:
    """Return a ZIP of pictures, each a photo's name and a PNG."""
    packed, left = io.BytesIO(), []
    with zipfile.ZipFile(packed, "w") as folder:
        for name, png in pictures:
            if packed.tell() + len(png) > ZIP_BYTES:
                left.append(f"{name}\n")
                continue
            path = PurePosixPath(name.replace("\\", "/"))
            parts = [part for part in path.parts if part not in ("/", "..")]
            folder.writestr(str(PurePosixPath(*parts)) + ".png", png)
        if left:
            folder.writestr("left out, too large together.txt", "".join(left))
    return packed.getvalue()


def command_line(choice: Choice, threshold: Threshold, photos: Sequence[str]) -> str | None:
    """Return the command that writes the same results; None where the command lacks the choice.

    Args:
        choice: the models and how they look.
        threshold: from which probability on an emotion is a label.
        photos: names of files, in the folder in which the command is called; many are that folder.
    """
    if choice.score is not None or choice.margin != Choice("", "", "").margin:
        return None
    named = photos if len(photos) <= NAMED_PHOTOS else ["."]
    words = [f"./{name}" if name.startswith("-") else name for name in named]
    words += ["--out", "faces.csv", "--annotated", "marked", "--classifier", choice.classifier]
    words += ["--no-detector"] if choice.whole else ["--detector", choice.detector]
    if choice.scope.detail != Scope().detail:
        words += ["--detail", choice.scope.detail]
    if choice.scope.min_face != Scope().min_face:
        words += ["--min-face", f"{choice.scope.min_face:g}"]
    chosen = limits(threshold)
    if len(set(chosen.values())) > 1:
        words += ["--threshold", *(f"{name}={value:g}" for name, value in chosen.items())]
    elif (value := chosen[EMOTIONS[0]]) != DEFAULT_THRESHOLD:
        words += ["--threshold", f"{value:g}"]
    return "twostage analyze " + shlex.join(words)
