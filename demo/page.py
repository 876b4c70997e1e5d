"""The page: layout only, a module per tab; what these show is made in others."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from demo import controls
from demo.analysis import ahead
from demo.render import cards
from demo.tabs.compare import show_comparison
from demo.tabs.photos import show_photos
from demo.tabs.results import show_results
from demo.tabs.why import show_reasons
from faces.command import UserError
from faces.emotions import EMOTIONS

TABS = {
    "Photos": show_photos,
    "Compare": show_comparison,
    "All faces": show_results,
    "Why": show_reasons,
}


def page() -> None:
    """Build the whole page; photos that have just come are analysed before anything is sent."""
    with ahead():
        draw()


def draw() -> None:
    """Send the whole page; what keeps a tab from being drawn stands in that tab."""
    st.set_page_config(page_title="Faces and their emotions", page_icon="🙂", layout="wide")
    st.html(Path(__file__).with_name("render") / "style.css")
    st.title("Faces and their emotions", anchor=False)
    st.markdown(
        f"Finds every face in a photo and says which of {len(EMOTIONS)} emotions it shows: one, "
        "several, or none clearly. **It names what a face shows, not what a person feels, and it "
        "errs often: never use it for decisions about people.**"
    )
    choice, look, photos = controls.choose_all()
    for tab, show in zip(
        st.tabs(list(TABS), key="tab", on_change="rerun"), TABS.values(), strict=True
    ):
        if tab.open:
            with tab:
                try:
                    show(photos, choice, look)
                except UserError as error:
                    st.error(cards.plain(str(error)))
    controls.session().choice = choice


if __name__ == "__main__":
    page()
