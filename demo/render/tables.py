"""All faces of all photos: table, totals, and the files that ``twostage analyze`` writes."""

from __future__ import annotations

import html
import io
import shlex
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from demo.render.cards import Threshold, css, limits
from demo.session import Choice
from faces.draw import draw_faces, write_annotated
from faces.emotions import EMOTIONS
from faces.pipeline import Image
from faces.sinks import open_sink, result_to_dict
from faces.types import DEFAULT_THRESHOLD, ImageResult

DOWNLOADS = {"CSV": ".csv", "JSON": ".json", "COCO": ".coco.json"}
"""Kind of result file → its extension, which ``faces.sinks.open_sink`` knows."""

UNSURE = "unsure"
"""Stands in for an emotion where a face shows none clearly."""


def table_rows(results: Iterable[ImageResult], threshold: Threshold) -> list[dict[str, Any]]:
    """Return a row per face of all photos: photo, face, shows, the seven in percent, score.

    What it shows is a list; of an unsure face, ``unsure`` and its labels with question marks.
    """
    rows = []
    for result in results:
        for number, face in enumerate(result_to_dict(result, threshold)["faces"], start=1):
            shows = face["labels"]
            if face["unsure"]:
                shows = [UNSURE, *(f"{label}?" for label in shows)]
            percents = {name: 100 * p for name, p in face["emotions"].items()}
            rows.append(
                {"photo": result.source, "face": number, "shows": shows}
                | percents
                | {"detection score": face["score"]}
            )
    return rows


def filtered(
    rows: Iterable[dict[str, Any]], shows: Collection[str], photos: Collection[str]
) -> list[dict[str, Any]]:
    """Return the rows that show one of some emotions, in one of some photos; none named is all."""
    return [
        row
        for row in rows
        if (not shows or not set(shows).isdisjoint(row["shows"]))
        and (not photos or row["photo"] in photos)
    ]


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


def result_file(results: Iterable[ImageResult], threshold: Threshold, extension: str) -> bytes:
    """Return the file that ``twostage analyze --out`` writes, with an extension of ``DOWNLOADS``.

    Only results pass through the temporary folder, which is removed at once.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"faces{extension}")
        with open_sink(path, threshold) as sink:
            for result in results:
                sink.write(result)
        return path.read_bytes()


def annotated_png(image: Image, result: ImageResult, threshold: Threshold) -> bytes:
    """Return the PNG that ``twostage analyze --annotated`` writes, at the photo's full size."""
    file = io.BytesIO()
    write_annotated(draw_faces(image, result, threshold), file)
    return file.getvalue()


def command_line(choice: Choice, threshold: Threshold) -> str | None:
    """Return the command that writes the same results; None where the command lacks the choice."""
    if choice.score is not None or choice.margin != Choice("", "", "").margin:
        return None
    words = ["--detector", choice.detector, "--classifier", choice.classifier]
    chosen = limits(threshold)
    if len(set(chosen.values())) > 1:
        named = [f"{name}={value:g}" for name, value in chosen.items()]
        words += ["--threshold", *named]
    elif (value := chosen[EMOTIONS[0]]) != DEFAULT_THRESHOLD:
        words += ["--threshold", f"{value:g}"]
    return "twostage analyze PHOTOS --out faces.csv --annotated marked " + shlex.join(words)
