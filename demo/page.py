"""The page: layout only, a module per tab; what these show is made in others."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from demo import controls, intake
from demo.analysis import ahead
from demo.render import cards
from demo.tabs.compare import show_comparison
from demo.tabs.photos import show_photos
from demo.tabs.results import show_results
from demo.tabs.why import show_reasons
from faces.command import UserError

TABS = {
    "Photos": show_photos,
    "Compare": show_comparison,
    "All faces": show_results,
    "Why": show_reasons,
}

STYLES = "faces.css", "page.css"


def page() -> None:
    """Build the whole page; photos that have just come are analysed before anything is sent."""
    with ahead():
        draw()


def draw() -> None:
    """Send the whole page; what keeps a tab from being drawn stands in that tab."""
    st.set_page_config(page_title="Faces and their emotions", page_icon="🙂", layout="wide")
    for name in STYLES:
        st.html(Path(__file__).with_name("render") / name)
    st.title("Faces and their emotions", anchor=False)
    with st.container(horizontal=True, key="bar"):
        intake.show_sources()
        with st.popover("Settings", icon=":material/tune:"):
            choice, look = controls.choose_all()
    if not intake.session().photos:
        intake.show_samples()
    intake.tell_of_photos()
    photos = intake.session().shown
    tabs = st.tabs(list(TABS), key="tab", on_change="rerun", bind="query-params")
    intake.tell_of_privacy()  # stands below the tabs, but does not wait for their photos
    for tab, show in zip(tabs, TABS.values(), strict=True):
        if tab.open:
            with tab:
                try:
                    show(photos, choice, look)
                except UserError as error:
                    st.error(cards.plain(str(error)))
    intake.session().choice = choice


if __name__ == "__main__":
    page()
