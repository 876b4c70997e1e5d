"""How photos come in and go: dropped, from a folder, the camera, an address, the samples."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard
from urllib.parse import unquote, urlsplit

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.uploaded_file_manager import UploadedFile

from demo.render import cards
from demo.session import UNDO_SECONDS, Session
from faces.fetch import DeadLinkError, ForbiddenLinkError, Limits, fetch_image
from faces.paths import IMAGE_SUFFIXES

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
SAMPLE = SAMPLES / "group.jpg"
"""Shown while there is no other photo."""

PHOTOS, FOLDER, CAMERA, ADDRESS = "photos", "folder", "camera", "address"

LIMITS = Limits(connect=5.0, read=10.0, total=20.0, attempts=1)
"""Of a photo that comes from an address."""

SERVICE = "TWOSTAGE_SERVICE_URL"
"""The variable that names the service to which corrections are sent."""

ADDRESS_KEY = "photos"
"""Parameter of the page's address: how many photos it shows."""


@dataclass(frozen=True)
class Sample:
    """A photo of ``samples/`` to try: its file, and what it is called."""

    file: str
    name: str


STRIP = (
    Sample("hopper.jpg", "Portrait"),
    Sample("group.jpg", "Group"),
    Sample("dark.jpg", "Dark"),
    Sample("profile.jpg", "Profile"),
)


def session() -> Session:
    """Return what is kept for this visitor."""
    if "session" not in st.session_state:
        st.session_state["session"] = Session((SAMPLE.name, SAMPLE.read_bytes()))
    kept: Session = st.session_state["session"]
    return kept


def show_sources() -> None:
    """Show, in a row, how photos come in."""
    key = f"{PHOTOS} {session().round}"
    st.file_uploader(
        "Drop one photo or many here",
        accept_multiple_files=True,
        key=key,
        on_change=_take,
        args=(key,),
        label_visibility="collapsed",
    )
    camera = st.popover("Camera", icon=":material/photo_camera:", key=CAMERA, on_change="rerun")
    if camera.open:
        with camera:
            show_camera()
    with st.popover("Folder", icon=":material/folder_open:"):
        key = f"{FOLDER} {session().round}"
        st.file_uploader(
            "Choose a folder of photos",
            type=sorted(IMAGE_SUFFIXES),
            accept_multiple_files="directory",
            key=key,
            on_change=_take,
            args=(key,),
        )
    with st.popover("Address", icon=":material/link:"):
        key = f"{ADDRESS} {session().round}"
        st.text_input(
            "Address of a photo", key=key, placeholder="https://…", on_change=_fetch, args=(key,)
        )
        st.caption("The server fetches it, from the public internet only.")


def show_camera() -> None:
    """Show the camera, or why there is none."""
    if not cards.camera_allowed(st.context.url or ""):
        st.info(
            "Browsers give a page the camera only over HTTPS, or on the machine that serves "
            "it (localhost). This page came over plain HTTP from another machine."
        )
    key = f"{CAMERA} {session().round}"
    st.camera_input("Take a photo", key=key, on_change=_take, args=(key,))


def show_samples() -> None:
    """Show a strip of photos to try."""
    with st.container(horizontal=True, key="samples", vertical_alignment="center"):
        st.caption("Or try one:")
        for one in STRIP:
            path = SAMPLES / one.file
            with st.container(key=f"tile-sample-{one.name}", width="content"):
                st.image(_thumbnail_uri(path), width=56, alt="")
                st.button(one.name, key=one.file, type="tertiary", on_click=_add, args=(path,))


@st.cache_data(max_entries=len(STRIP))
def _thumbnail_uri(path: Path) -> str:
    from demo.session import jpeg
    from faces.draw import shrink
    from faces.images import read_image

    return cards.data_uri(jpeg(shrink(read_image(path), 160)))


def _add(path: Path) -> None:
    session().add([(path.name, path.read_bytes())])


def tell_of_photos() -> None:
    """Tell of photos that are gone, were removed, or could not be fetched.

    The page's address says whether there are photos: a reload or a restart of the server loses
    them, and the page then says so.
    """
    kept, address = session(), st.query_params
    if kept.photos:
        address[ADDRESS_KEY] = str(len(kept.photos))
    elif ADDRESS_KEY in address and kept.round == 0:
        st.warning(
            "**Your photos are gone**: the page was loaded again or the server was restarted, and "
            "photos are kept nowhere else. Please add them again; below is the sample.",
            icon=":material/info:",
        )
    else:
        address.pop(ADDRESS_KEY, None)
    if problem := st.session_state.get("problem"):
        st.error(problem)
    kept.forget_removed(UNDO_SECONDS)
    if kept.removed:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f"{cards.count(len(kept.removed), 'photo')} removed.")
            st.button("Undo", key="undo", icon=":material/undo:", on_click=kept.undo)


def tell_of_privacy() -> None:
    """Show what becomes of photos, and what the answers are worth."""
    sent = (
        " A correction is sent to this page's operator, with the crop of its face."
        if os.environ.get(SERVICE)
        else ""
    )
    st.caption(
        f"{'Your' if session().photos else 'This is a sample. Your own'} photos stay in memory "
        "only, are never written to disk, and are freed within a minute of your closing the page."
        f"{sent} "
        "*It names what a face shows, not what a person feels, and it errs often: never use it for "
        "decisions about people.*"
    )


def _take(key: str) -> None:
    """Move uploaded files from Streamlit, which would hold them as long as the session, to ours."""
    value = st.session_state[key]
    files = [f for f in (value if isinstance(value, list) else [value]) if _is_file(f)]
    if key.startswith(CAMERA):
        number = st.session_state["camera photos"] = st.session_state.get("camera photos", 0) + 1
        names = [f"camera-{number}.jpg"] * len(files)
    else:
        names = [cards.sent_name(file.name) for file in files]
    _came(list(zip(names, [file.getvalue() for file in files], strict=True)))
    context = get_script_run_ctx()
    release = getattr(getattr(context, "uploaded_file_mgr", None), "remove_file", None)
    for file in files:
        if release and context:
            release(context.session_id, file.file_id)


def _fetch(key: str) -> None:
    """Fetch the photo at an address; what keeps it away is shown until the next photo comes."""
    url = st.session_state[key].strip()
    if not url:
        return
    try:
        data = fetch_image(url, LIMITS)
    except ForbiddenLinkError:
        cause = "the address is not on the public internet"
    except DeadLinkError as error:
        cause = str(error).removeprefix(f"{url[:80]}: ")
    else:
        name = unquote(urlsplit(url).path.rpartition("/")[2]) or "photo"
        _came([(name, data)])
        return
    st.session_state["problem"] = f"{cards.code(url[:200])}: {cards.plain(cause)}"


def _came(files: list[tuple[str, bytes]]) -> None:
    session().add(files)
    st.session_state["page"] = 1  # the newest photos come first
    st.session_state["open"] = st.session_state["problem"] = None


def _is_file(value: object) -> TypeGuard[UploadedFile]:
    return isinstance(value, UploadedFile)
