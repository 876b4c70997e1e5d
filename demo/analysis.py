"""Photos through the models, with progress and a way to cancel."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from demo import controls
from demo.controls import worker
from demo.intake import session
from demo.render import cards
from demo.session import Analysis, Choice, Photo
from faces.command import UserError

QUICK = 0.3
"""Seconds before progress is shown. Sooner it would flicker, and drawing it slows the models."""


@contextmanager
def ahead() -> Iterator[None]:
    """Analyse photos that have just come before the block draws the page.

    The browser draws on the cores on which the models run, so each would slow the other. What is
    not done after ``QUICK`` is left to ``analyzed``, which shows progress.
    """
    choice, end = session().take_fresh(), time.monotonic() + QUICK
    with ExitStack() as running:
        with suppress(UserError):  # the tab that needs the model says so
            for photo in session().photos:
                if choice and session().wants(photo, choice):
                    outcome = running.enter_context(worker().submitted(analysis(photo, choice)))
                    if wait([outcome], max(0.0, end - time.monotonic())).not_done:
                        break
        yield


def analyzed(photos: Sequence[Photo], choice: Choice) -> Iterator[Photo]:
    """Run what is missing, with progress; yield each photo as soon as its outcome is known."""
    place = st.empty()
    total = len({photo.digest for photo in photos})
    done = total - len({p.digest for p in photos if session().known(p, choice) is None})
    start = 0.0
    bar = None
    for photo in photos:
        if session().wants(photo, choice):
            start = start or time.monotonic()
            with worker().submitted(analysis(photo, choice)) as outcome:
                quick = max(0.0, start + QUICK - time.monotonic())
                if bar is not None or wait([outcome], quick).not_done:
                    bar = show_progress(place, choice) if bar is None else bar
                    text = f"Analysing {cards.code(photo.name)} ({done + 1} of {total})"
                    bar.progress(done / total, text)
            done += 1
        yield photo
    place.empty()
    left = sum(session().known(photo, choice) is None for photo in photos)
    if left:
        with place.container(horizontal=True, vertical_alignment="center"):
            st.warning(f"Cancelled: {cards.count(left, 'photo')} not analysed.")
            st.button("Go on", key="go on", on_click=cancel, args=(None,))


def analysis(photo: Photo, choice: Choice) -> Callable[[], None]:
    """Return what analyses a photo, unless that has been done by then."""
    kept = session()
    pipeline = controls.pipeline_of(choice)

    def analyze() -> None:
        if kept.wants(photo, choice):
            kept.analyze(photo, choice, pipeline)

    return analyze


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
        text = f"{cards.code(photo.name)}: {cards.plain(known)}"
        st.error(text, icon=":material/broken_image:")
    else:
        st.info(f"{cards.code(photo.name)}: not analysed")
    return None
