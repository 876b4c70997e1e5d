"""Photos through the models, with progress and a way to cancel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from demo import controls, views
from demo.controls import session
from demo.session import Analysis, Choice, Photo


def analyzed(photos: Sequence[Photo], choice: Choice) -> Iterator[Photo]:
    """Run what is missing, with progress; yield each photo as soon as its outcome is known."""
    place = st.empty()
    waiting = len({p.digest for p in photos if session().known(p, choice) is None})
    done = 0
    bar = None
    for photo in photos:
        if session().known(photo, choice) is None and session().cancelled != choice:
            text = f"Analysing {views.plain(photo.name)} ({done + 1} of {waiting})"
            if bar is None:
                bar = show_progress(place, choice)
            bar.progress(done / waiting, text)
            stages = (
                controls.detector_of(choice.detector, choice.device),
                controls.classifier_of(choice.classifier, choice.device),
            )
            with controls.turn():
                session().analyze(photo, choice, *stages)
            done += 1
        yield photo
    place.empty()
    left = sum(session().known(photo, choice) is None for photo in photos)
    if left:
        with place.container(horizontal=True, vertical_alignment="center"):
            st.warning(f"Cancelled: {views.count(left, 'photo')} not analysed.")
            st.button("Go on", key="go on", on_click=cancel, args=(None,))


def show_progress(place: DeltaGenerator, choice: Choice) -> DeltaGenerator:
    """Show a bar and a button to cancel; return the bar's place."""
    with place.container(horizontal=True, vertical_alignment="center"):
        bar = st.empty()
        st.button("Cancel", key="cancel", on_click=cancel, args=(choice,))
    return bar


def cancel(choice: Choice | None) -> None:
    """Analyse no more photos under these choices; None: all."""
    session().cancelled = choice


def analysis_of(photo: Photo, choice: Choice) -> Analysis | None:
    """Return a photo's analysis under its own name, or show why there is none."""
    known = session().known(photo, choice)
    if isinstance(known, Analysis):
        return replace(known, result=replace(known.result, source=photo.name))
    if known:
        st.error(views.plain(f"{photo.name}: {known}"), icon=":material/broken_image:")
    else:
        st.info(views.plain(f"{photo.name}: not analysed"))
    return None
