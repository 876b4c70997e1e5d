"""The first tab: photos with their faces, a card per face; many photos as thumbnails."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import streamlit as st

from demo import feedback
from demo.analysis import analysis_of, analyzed
from demo.components.face_cards import face_cards
from demo.controls import Look, choose_filter, choose_threshold
from demo.intake import session
from demo.render import cards, overlay, tables
from demo.session import Analysis, Choice, Photo, Session
from faces.paths import ImageError
from faces.types import ImageResult


def show_photos(photos: Sequence[Photo], choice: Choice, look: Look) -> None:
    """Show the answer in a line; below it some photos, the open one of many, or thumbnails."""
    opened = next((p for p in photos if p.name == st.session_state.get("open")), None)
    many = len(photos) > cards.PHOTOS_AT_ONCE
    wanted = tables.Filter()
    with st.container(horizontal=True, vertical_alignment="center", key="answer"):
        answer = st.empty()
        if many and not opened:
            with st.popover("Filter", icon=":material/filter_list:"):
                wanted = choose_filter()
                choose_threshold()
        if session().photos:
            remove = session().remove
            st.button("Remove all", key="remove all", on_click=remove, args=(session().photos,))
    progress = st.container()
    if not many:
        places = [st.container(key=f"photo-{position}") for position in range(len(photos))]
        with progress:
            for position, photo in enumerate(analyzed(photos, choice)):
                with places[position]:
                    show_photo(photo, choice, look, position)
    elif opened:
        show_way_back(photos, opened)
        with progress:
            list(analyzed([opened], choice))
        with st.container(key="photo-0"):
            show_photo(opened, choice, look, 0)
    else:
        with progress:
            show_thumbnails(photos, choice, look, wanted)
    results = [known.result for p in photos if (known := _known(p, choice))]
    answer.html(cards.summary_html(cards.summary(results, look.threshold)))


def _known(photo: Photo, choice: Choice) -> Analysis | None:
    known = session().known(photo, choice)
    return known if isinstance(known, Analysis) else None


def show_thumbnails(
    photos: Sequence[Photo], choice: Choice, look: Look, wanted: tables.Filter
) -> None:
    """Show a page of thumbnails, each as soon as its photo is analysed; others meanwhile."""
    progress = st.container()
    place, shown = st.container(horizontal=True, key="grid"), cards.THUMBNAILS_AT_ONCE
    if wanted.shows:  # which ones to show is known once all are analysed
        with progress:
            list(analyzed(photos, choice))
    found = [photo for photo in photos if _takes(wanted, photo, choice, look)]
    if wanted.active:
        progress.caption(f"The filter keeps {len(found)} of {len(photos)} photos.")
    page = 1
    if len(found) > shown:
        page = st.pagination(
            -(-len(found) // shown), key="page", bind="query-params", persist_state="session"
        )
    visible = found[(page - 1) * shown :][:shown]
    with place:
        tiles = [
            st.container(key=f"tile-{position}", width=176) for position in range(len(visible))
        ]
    others = [photo for photo in photos if photo not in visible]
    with progress:
        for position, photo in enumerate(analyzed([*visible, *others], choice)):
            if position < len(visible):
                with tiles[position]:
                    show_tile(photo, choice, look, position)


def _takes(wanted: tables.Filter, photo: Photo, choice: Choice, look: Look) -> bool:
    if not wanted.takes_name(photo.name):
        return False
    known = _known(photo, choice)
    rows = tables.table_rows([known.result], look.threshold) if known else []
    return not wanted.shows or any(set(wanted.shows) & set(row["shows"]) for row in rows)


def show_tile(photo: Photo, choice: Choice, look: Look, position: int) -> None:
    """Show a thumbnail that opens its photo, and the answer below it."""
    known = session().known(photo, choice)
    try:
        st.image(cards.data_uri(session().thumbnail(photo)), width="stretch", alt="")
    except ImageError as error:
        known = error.cause
    st.button(
        cards.plain(photo.name),
        key=f"open {position}",
        type="tertiary",
        on_click=_open,
        args=(photo.name,),
    )
    if isinstance(known, Analysis):
        st.caption(cards.summary([known.result], look.threshold))
    else:
        st.caption(cards.plain(known or "not analysed"))


def _open(name: str | None) -> None:
    st.session_state["open"] = name


def show_way_back(photos: Sequence[Photo], opened: Photo) -> None:
    """Show the way from a photo to all, and to its neighbours."""
    place = photos.index(opened)
    with st.container(horizontal=True):
        icon = ":material/grid_view:"
        st.button(f"All {len(photos)} photos", key="back", icon=icon, on_click=_open, args=(None,))
        for label, other in (("Previous", place - 1), ("Next", place + 1)):
            name = photos[other % len(photos)].name
            end = not 0 <= other < len(photos)
            st.button(label, key=label, on_click=_open, args=(name,), disabled=end)


def show_photo(photo: Photo, choice: Choice, look: Look, position: int) -> None:
    """Show one photo: the annotated photo, a card per face, its name and download."""
    place = st.container(horizontal=True, vertical_alignment="center", wrap=False)
    with place:
        analysis = analysis_of(photo, choice)
    if analysis is None:
        with place:
            show_remove(photo, position)
        return
    result = analysis.result
    beside = cards.cards_beside(result)
    photo_place, cards_place = st.columns((3, 2), gap="medium") if beside else (st.container(),) * 2
    try:
        with photo_place:
            show_annotated(photo, analysis, look, f"stage-{position}")
            show_title(photo, analysis, look, position)
        with cards_place:
            if position == 0:
                choose_threshold()
            show_cards(photo, analysis, choice, look, position)
    except ImageError as error:
        photo_place.info(f"{cards.code(photo.name)}: {cards.plain(error.cause)}")


def show_title(photo: Photo, analysis: Analysis, look: Look, position: int) -> None:
    """Show a photo's name and size, its download, and a button that removes it."""
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.container(gap=None):
            st.html(cards.title_html(photo.name))
            st.caption(caption(analysis, look))
        if session().holds(photo):
            st.download_button(
                "Annotated PNG",
                partial(annotated_png, session(), photo, analysis.result, look),
                file_name=f"{Path(photo.name).stem}.png",
                mime="image/png",
                icon=":material/download:",
                on_click="ignore",
                key=f"png {position}",
            )
        show_remove(photo, position)


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
    photo: Photo, analysis: Analysis, look: Look, key: str, notes: dict[int, str] | None = None
) -> None:
    """Show a photo with its faces boxed and labelled."""
    result = analysis.result
    with st.container(key=key, width=cards.preview_width(result)):
        preview = session().preview(photo)
        st.image(cards.data_uri(preview), width="stretch", alt=cards.describe(photo.name, result))
        st.html(overlay.overlay_html(analysis, look.threshold, look.suppressed, notes))


def show_cards(photo: Photo, analysis: Analysis, choice: Choice, look: Look, position: int) -> None:
    """Show a card per face, some at once."""
    faces = len(analysis.result.faces)
    if not faces:
        st.info(cards.NO_FACE)
        return
    crops = session().crops(photo, choice, analysis.result)
    place = st.container()
    shown = choose_cards(faces, f"faces {position} {photo.digest}")
    said = session().corrected(photo, analysis.result)
    with place:
        face_cards(
            cards.cards_html(analysis.result, crops, look.threshold, shown, said),
            f"cards {position}",
            session().round,
            partial(feedback.correct, photo, choice, analysis.result),
        )
    feedback.tell_of_corrections(photo, said)


def choose_cards(number: int, key: str) -> slice:
    """Show a page number if there are many cards; return which ones to show."""
    pages, page = -(-number // cards.FACES_AT_ONCE), 1
    if pages > 1:
        page = st.pagination(pages, key=key, persist_state="session")
    return slice((page - 1) * cards.FACES_AT_ONCE, page * cards.FACES_AT_ONCE)
