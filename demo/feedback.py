"""A visitor's corrections on the page: kept, and sent to a service if one is configured."""

from __future__ import annotations

import os

import streamlit as st

from demo import corrections
from demo.intake import SERVICE, session
from demo.render import cards
from demo.session import Choice, Photo
from faces.command import UserError
from faces.types import ImageResult

TOKEN = "TWOSTAGE_TOKEN"
"""The variable that holds the service's token."""


def correct(photo: Photo, choice: Choice, result: ImageResult, number: int, label: str) -> None:
    """Keep what a face really shows, and send it."""
    made = session().correct(photo, choice, result, number, label)
    url = os.environ.get(SERVICE, "").rstrip("/")
    st.session_state["not sent"] = ""
    if made and url:
        try:
            corrections.send(made, url, os.environ.get(TOKEN, ""))
        except UserError as error:
            st.session_state["not sent"] = str(error)


def tell_of_corrections(photo: Photo, said: dict[int, str]) -> None:
    """Show what was corrected in a photo, and where that goes."""
    if not said:
        return
    where = "They are kept while this page is open; *All faces* has them as files."
    if os.environ.get(SERVICE):
        where += " Each was sent to this page's operator, with the crop of the face."
    st.caption(f"{cards.count(len(said), 'correction')} in {cards.code(photo.name)}. {where}")
    if problem := st.session_state.get("not sent"):
        st.warning(f"The last correction was kept here but not sent: {cards.plain(problem)}")
