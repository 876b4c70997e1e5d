"""The second tab: one photo under two detectors or two classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st

from demo.analysis import analysis_of, analyzed
from demo.controls import Look, choose_photo, choose_threshold, usable_models
from demo.intake import session
from demo.render import cards, comparison
from demo.session import Choice, Photo
from demo.tabs.photos import caption, choose_cards, show_annotated


def show_comparison(photos: Sequence[Photo], choice: Choice, look: Look) -> None:
    """Show a photo under two detectors or two classifiers, differences marked."""
    with st.container(horizontal=True):
        stage = st.segmented_control(
            "Compare two",
            ("classifier", "detector"),
            default="classifier",
            required=True,
            format_func=lambda name: f"{name}s",
            key="stage",
            persist_state="session",
        )
        first = getattr(choice, stage)
        names = [name for name in usable_models(stage) if name != first]
        if not names:
            st.info(f"Only one {stage} is there: nothing to compare {cards.plain(first)} with.")
            return
        second: str = st.selectbox("With", names, key=f"second {stage}", persist_state="session")
        photo = choose_photo(photos)
    if stage == "detector":
        other = replace(choice, detector=second, score=None)
    else:
        other = replace(choice, classifier=second)
    for one in (choice, other):
        list(analyzed([photo], one))
    left = analysis_of(photo, choice)
    right = analysis_of(photo, other) if left else None
    if left is None or right is None:
        return
    both = left.result, right.result
    pairs = comparison.pair_faces(*both)
    st.html(cards.summary_html(comparison.summary(pairs, *both, look.threshold)))
    choose_threshold()
    notes = comparison.notes(pairs, *both, look.threshold)
    sides = zip("AB", st.columns(2), (first, second), (left, right), notes, strict=True)
    for side, column, name, analysis, marks in sides:
        with column:
            st.markdown(f"**{side}** · {cards.plain(name)}")
            show_annotated(photo, analysis, look, f"stage-{side}", marks)
            st.caption(caption(analysis, look))
    crops = session().crops(photo, choice, both[0]), session().crops(photo, other, both[1])
    st.caption("On each card, A has the upper bar and B the hatched one below it.")
    place = st.container()
    shown = choose_cards(len(pairs), f"pairs {photo.digest}")
    place.html(comparison.pairs_html(pairs[shown], both, crops, look.threshold))
