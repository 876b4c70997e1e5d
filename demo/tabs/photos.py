"""The first tab: photos with their faces, a card per face."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import streamlit as st

from demo.analysis import analysis_of, analyzed
from demo.controls import Look, session
from demo.render import cards, tables
from demo.session import Analysis, Choice, Photo, Session
from faces.paths import ImageError
from faces.types import ImageResult


def show_photos(photos: Sequence[Photo], choice: Choice, look: Look) -> None:
    """Show some photos, each as soon as it is analysed, and analyse the others meanwhile."""
    progress = st.container()
    page, shown = 1, cards.PHOTOS_AT_ONCE
    slots = st.container()
    if len(photos) > shown:
        page = st.pagination(-(-len(photos) // shown), key="page", persist_state="session")
    visible = list(photos[(page - 1) * shown :][:shown])
    with slots:
        places = [st.container() for _ in visible]
    others = [photo for photo in photos if photo not in visible]
    with progress:
        outcomes = analyzed([*visible, *others], choice)
        for position, photo in enumerate(outcomes):
            if position < len(visible):
                with places[position]:
                    show_photo(photo, choice, look, position)


def show_photo(photo: Photo, choice: Choice, look: Look, position: int) -> None:
    """Show one photo: its name, the annotated photo, a card per face, its download."""
    place = st.container(horizontal=True, vertical_alignment="center", wrap=False)
    with place:
        analysis = analysis_of(photo, choice)
    if analysis is None:
        with place:
            show_remove(photo, position)
        return
    result = analysis.result
    with st.container(horizontal=True, vertical_alignment="bottom"):
        with st.container(gap=None):
            st.html(cards.title_html(photo.name))
            st.caption(caption(analysis, look))
        if session().holds(photo):
            st.download_button(
                "Annotated PNG",
                partial(annotated_png, session(), photo, result, look),
                file_name=f"{Path(photo.name).stem}.png",
                mime="image/png",
                icon=":material/download:",
                on_click="ignore",
                key=f"png {position}",
            )
        show_remove(photo, position)
    if cards.cards_beside(result):
        photo_place, beside = st.columns((3, 2))
    else:
        photo_place = beside = st.container()
    try:
        with photo_place:
            show_annotated(photo, analysis, look)
        with beside:
            show_cards(photo, analysis, choice, look, position)
    except ImageError as error:
        photo_place.info(f"{cards.code(photo.name)}: {cards.plain(error.cause)}")


def annotated_png(kept: Session, photo: Photo, result: ImageResult, look: Look) -> bytes:
    """Return the PNG that ``twostage analyze --annotated`` writes."""
    return tables.annotated_png(kept.read(photo), result, look.threshold)


def show_remove(photo: Photo, position: int) -> None:
    """Show a button that removes a photo, unless it is the sample."""
    if photo in session().photos:
        remove = session().remove
        st.button("Remove", key=f"remove {position}", on_click=remove, args=([photo],))


def caption(analysis: Analysis, look: Look) -> str:
    """Return what stands below a photo's name."""
    result = analysis.result
    text = (
        f"{cards.count(len(result.faces), 'face')} · {result.width} × {result.height} pixels · "
        f"{result.seconds:.2f} s"
    )
    if look.suppressed:
        boxes = cards.count(len(analysis.weak) + len(analysis.merged), "box", "boxes")
        text += (
            f" · {boxes} suppressed: {len(analysis.weak)} with a low score, "
            f"{len(analysis.merged)} on the same faces (=)"
        )
    return text


def show_annotated(
    photo: Photo, analysis: Analysis, look: Look, notes: dict[int, str] | None = None
) -> None:
    """Show a photo with its faces boxed and labelled."""
    preview = session().preview(photo)
    annotated = cards.annotated_preview(preview, analysis, look.threshold, look.suppressed, notes)
    st.image(
        cards.data_uri(annotated),
        width=cards.preview_width(analysis.result),
        alt=cards.describe(photo.name, analysis.result, look.threshold),
    )


def show_cards(photo: Photo, analysis: Analysis, choice: Choice, look: Look, position: int) -> None:
    """Show a card per face, some at once."""
    faces = len(analysis.result.faces)
    if not faces:
        st.info(cards.NO_FACE)
        return
    crops = session().crops(photo, choice, analysis.result)
    place = st.container()
    shown = choose_cards(faces, f"faces {position} {photo.digest}")
    place.html(cards.cards_html(analysis.result, crops, look.threshold, shown))


def choose_cards(number: int, key: str) -> slice:
    """Show a page number if there are many cards; return which ones to show."""
    pages, page = -(-number // cards.FACES_AT_ONCE), 1
    if pages > 1:
        page = st.pagination(pages, key=key, persist_state="session")
    return slice((page - 1) * cards.FACES_AT_ONCE, page * cards.FACES_AT_ONCE)
