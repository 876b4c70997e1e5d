"""The cards of a photo's faces, linked to the boxes over the photo; a face can be corrected."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import streamlit as st

_mount = st.components.v2.component(
    "face_cards",
    html="<div></div>",
    js=Path(__file__).with_suffix(".js").read_text("utf-8"),
    isolate_styles=False,  # faces.css has its looks
)


def face_cards(
    html: str, key: str, turn: int, on_correction: Callable[[int, str], None] | None = None
) -> None:
    """Show cards.

    Args:
        html: of ``demo.render.cards.cards_html``, whose texts are escaped.
        key: of this component.
        turn: how often photos have come; when it grows, a phone scrolls to the answer.
        on_correction: called with the number of a face and what a visitor chose for it.
    """

    def changed() -> None:
        number, _, label = (st.session_state[key].get("correction") or "").partition(" ")
        if number and on_correction:
            on_correction(int(number), label)

    _mount(key=key, data={"html": html, "round": turn}, on_correction_change=changed)
