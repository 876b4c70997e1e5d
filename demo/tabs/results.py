"""The third tab: all faces of all photos, and the result files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import streamlit as st

from demo.analysis import analyzed
from demo.controls import Look, session
from demo.render import cards, tables
from demo.session import Analysis, Choice, Photo
from faces.emotions import EMOTIONS
from faces.types import ImageResult


def show_results(photos: Sequence[Photo], choice: Choice, look: Look) -> None:
    """Show all faces of all photos, their totals, and the result files."""
    found = []
    for photo in analyzed(photos, choice):
        known = session().known(photo, choice)
        if isinstance(known, Analysis):
            found.append(replace(known.result, source=photo.name))
    rows = tables.table_rows(found, look.threshold)
    left, right = st.columns((2, 3), gap="large")
    with left:
        st.subheader("What they show", anchor=False)
        st.html(tables.totals_html(tables.totals(rows), len(rows)))
        st.caption("A face that shows several emotions counts for each.")
    with right:
        st.subheader("Files", anchor=False)
        show_downloads(found, choice, look)
    st.subheader("All faces", anchor=False)
    if rows:
        show_table(rows, found)
    else:
        st.caption(cards.NO_FACE)


def show_table(rows: list[dict[str, object]], found: Sequence[ImageResult]) -> None:
    """Show a row per face, and filters."""
    names = list(dict.fromkeys(result.source for result in found))
    with st.container(horizontal=True):
        shows = st.pills(
            "Only faces that show",
            (*EMOTIONS, tables.UNSURE),
            selection_mode="multi",
            wrap=True,
            key="shows",
            persist_state="session",
        )
        chosen: list[str] = []
        if len(names) > 1:
            chosen = st.multiselect("Only photos", names, placeholder="all")
    kept = tables.filtered(rows, shows, chosen)
    st.caption(f"{len(kept)} of {cards.count(len(rows), 'face')}")
    percent = st.column_config.NumberColumn(format="%.0f %%")
    score = st.column_config.NumberColumn(format="%.2f")
    columns = dict.fromkeys(EMOTIONS, percent) | {"detection score": score}
    st.dataframe(kept, hide_index=True, column_config=columns, alt="All faces, a row for each")


def show_downloads(found: Sequence[ImageResult], choice: Choice, look: Look) -> None:
    """Show the buttons that hand out the result files, and the command that writes them."""
    st.caption(f"With {cards.count(len(found), 'photo')}, whatever the table below is filtered by.")
    with st.container(horizontal=True):
        for kind, extension in tables.DOWNLOADS.items():
            st.download_button(
                kind,
                partial(tables.result_file, found, look.threshold, extension),
                file_name=f"faces{extension}",
                mime="text/csv" if kind == "CSV" else "application/json",
                icon=":material/download:",
                on_click="ignore",
                key=kind,
            )
    command = tables.command_line(choice, look.threshold)
    if command:
        st.caption("The same from the command line:")
        st.code(command, language=None, wrap_lines=True)
    else:
        st.caption(
            "`twostage analyze` has no option for another detection score or crop margin: it "
            "writes the same only with these as shipped."
        )
