"""The third tab: all faces of all photos, and the files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import streamlit as st

from demo.analysis import analyzed
from demo.controls import Look, choose_filter, choose_threshold
from demo.corrections import archive
from demo.intake import SAMPLE, session
from demo.render import cards, report, tables
from demo.session import Analysis, Choice, Photo
from faces.emotions import EMOTIONS
from faces.paths import ImageError
from faces.types import ImageResult

Kept = Sequence[tuple[ImageResult, tuple[int, ...]]]
"""Results that a filter keeps, each with the numbers of the faces that it keeps."""

CROPS_AT_ONCE = 500
"""Rows of the table that show the face; more would make the page slow."""


def show_results(photos: Sequence[Photo], choice: Choice, look: Look) -> None:
    """Show all faces of all photos, their totals, and the files."""
    found: dict[str, tuple[Photo, Analysis]] = {}
    for photo in analyzed(photos, choice):
        known = session().known(photo, choice)
        if isinstance(known, Analysis):
            found[photo.name] = (
                photo,
                replace(known, result=replace(known.result, source=photo.name)),
            )
    results = [analysis.result for _, analysis in found.values()]
    st.html(cards.summary_html(cards.summary(results, look.threshold)))
    wanted = choose_filter()
    kept = list(tables.kept_of(results, look.threshold, wanted))
    rows = [row for row in tables.table_rows(results, look.threshold) if wanted.takes(row)]
    left, right = st.columns((2, 3), gap="large")
    with left:
        choose_threshold()
        st.header("What they show", anchor=False)
        st.html(tables.totals_html(tables.totals(rows), len(rows)))
        st.caption("A face that shows several emotions counts for each.")
    with right:
        st.header("Files", anchor=False)
        if wanted.active:
            st.caption(f"Of the {cards.count(len(rows), 'face')} that the filter keeps.")
        show_downloads(kept, choice, look)
        show_more_downloads([found[result.source] for result, _ in kept], choice, look)
        show_command(results, choice, look)
    st.header("All faces", anchor=False)
    if results and any(result.faces for result in results):
        st.caption(f"{len(rows)} of {cards.count(sum(len(r.faces) for r in results), 'face')}")
        show_table(rows, found, choice)
    else:
        st.caption(cards.NO_FACE)


def show_table(
    rows: list[dict[str, Any]], found: dict[str, tuple[Photo, Analysis]], choice: Choice
) -> None:
    """Show a row per face, the first ones with their crops."""
    crops: dict[str, tuple[bytes, ...]] = {}
    for row in rows[:CROPS_AT_ONCE]:
        photo, analysis = found[row["photo"]]
        if photo.name not in crops:
            try:
                crops[photo.name] = session().crops(photo, choice, analysis.result)
            except ImageError:  # it was dropped; its results stay
                crops[photo.name] = ()
        if crops[photo.name]:
            row["crop"] = cards.data_uri(crops[photo.name][row["face"] - 1])
    columns: dict[str, Any] = dict.fromkeys(
        EMOTIONS, st.column_config.NumberColumn(format="%.0f%%")
    )
    columns["crop"] = st.column_config.ImageColumn("")
    order = ("crop", "photo", "face", "shows", *EMOTIONS)
    st.dataframe(
        rows,
        hide_index=True,
        column_config=columns,
        column_order=order,
        row_height=48,
        alt="All faces, a row for each",
    )


def show_downloads(kept: Kept, choice: Choice, look: Look) -> None:
    """Show the buttons that hand out the result files."""
    with st.container(horizontal=True):
        for kind, extension in tables.DOWNLOADS.items():
            offer(
                kind,
                f"faces{extension}",
                "text/csv" if kind == "CSV" else "application/json",
                partial(tables.result_file, kept, look.threshold, extension),
            )


def show_more_downloads(
    found: Sequence[tuple[Photo, Analysis]], choice: Choice, look: Look
) -> None:
    """Show the buttons that hand out pictures, a report and corrections."""
    kept = session()

    def pictures() -> Iterator[tuple[str, bytes]]:
        for photo, analysis in found:
            if kept.holds(photo):
                png = tables.annotated_png(kept.read(photo), analysis.result, look.threshold)
                yield str(PurePosixPath(photo.name).with_suffix("")), png

    def shown() -> Iterator[tuple[Analysis, bytes, Sequence[bytes]]]:
        for photo, analysis in found:
            if kept.holds(photo):
                crops = kept.crops(photo, choice, analysis.result)
                yield analysis, kept.preview(photo), crops

    settings = f"Detector {choice.detector}, classifier {choice.classifier}."
    with st.container(horizontal=True):
        offer(
            "Annotated pictures",
            "annotated.zip",
            "application/zip",
            lambda: tables.annotated_zip(pictures()),
        )
        offer(
            "Report",
            "faces.html",
            "text/html",
            lambda: report.report_html(shown(), look.threshold, settings),
        )
        if kept.corrections:
            offer(
                "Corrections",
                "corrections.zip",
                "application/zip",
                lambda: archive(kept.corrections.values()),
            )


def offer(label: str, name: str, mime: str, make: Any) -> None:
    """Show a button that hands out a file, which is made when it is asked for."""
    st.download_button(
        label,
        make,
        file_name=name,
        mime=mime,
        icon=":material/download:",
        on_click="ignore",
        key=label,
    )


def show_command(results: Sequence[ImageResult], choice: Choice, look: Look) -> None:
    """Show the command that writes the same files."""
    sample = not session().photos
    names = [f"samples/{SAMPLE.name}"] if sample else [result.source for result in results]
    command = tables.command_line(choice, look.threshold, names)
    if command:
        where = "the clone" if sample else "the folder of the photos"
        st.caption(f"The same from the command line, in {where}:")
        st.code(command, language=None, wrap_lines=True)
    else:
        st.caption(
            "`twostage analyze` has no option for another detection score or crop margin: it "
            "writes the same only with these as shipped."
        )
