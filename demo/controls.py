"""The page's controls: photos in, models, thresholds. Each returns what was chosen."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.uploaded_file_manager import UploadedFile

from demo.components.percent_slider import percent_slider
from demo.render import cards
from demo.session import SCORE_FLOOR, Choice, Photo, Session
from faces.command import UserError
from faces.crops import CROP_MARGIN
from faces.emotions import EMOTIONS
from faces.paths import IMAGE_SUFFIXES
from faces.pipeline import Detector, EmotionClassifier
from faces.types import DEFAULT_THRESHOLD, UNSURE_BELOW
from twostage import model_zoo
from twostage.worker import Worker

SAMPLE = Path(__file__).resolve().parent.parent / "samples" / "group.jpg"

PHOTOS, FOLDER, CAMERA = "Photos", "Folder", "Camera"

ADDRESS_KEY = "photos"
"""Parameter of the page's address: how many photos it shows."""


@st.cache_resource(show_spinner="Loading the detector…")
def detector_of(name: str, device: str) -> Detector:
    """Load a detector once for all visitors."""
    detector = model_zoo.load_detector(name, device)
    freeze_garbage()
    return detector


@st.cache_resource(show_spinner="Loading the classifier…")
def classifier_of(name: str, device: str) -> EmotionClassifier:
    """Load a classifier once for all visitors."""
    classifier = model_zoo.load_classifier(name, device)
    freeze_garbage()
    return classifier


def freeze_garbage() -> None:
    """Exempt what is loaded by now from garbage collection.

    Streamlit collects after every run of the page, before it answers; among all objects of PyTorch
    that takes longer than the run.
    """
    gc.collect()
    gc.freeze()


@st.cache_resource
def worker() -> Worker:
    """Return the one thread in which the models run, for all visitors."""
    return Worker()


@st.cache_resource(show_spinner="Starting…")
def devices() -> list[str]:
    """Return where models can run here, the best first."""
    import torch

    return [*(f"cuda:{index}" for index in range(torch.cuda.device_count())), "cpu"]


def session() -> Session:
    """Return what is kept for this visitor."""
    if "session" not in st.session_state:
        st.session_state["session"] = Session((SAMPLE.name, SAMPLE.read_bytes()))
    kept: Session = st.session_state["session"]
    return kept


@dataclass(frozen=True)
class Look:
    """The choices that need no model."""

    threshold: cards.Threshold  # from which probability on an emotion is a label
    suppressed: bool  # show the boxes that do not count as faces, too


def choose_photos() -> list[Photo]:
    """Show how photos come in; return those that are there, or else the sample."""
    kind = st.segmented_control(
        "Add your own", (PHOTOS, FOLDER, CAMERA), default=PHOTOS, required=True, key="kind"
    )
    key = f"{kind} {session().round}"
    if kind == CAMERA:
        if not cards.camera_allowed(st.context.url or ""):
            st.info(
                "Browsers give a page the camera only over HTTPS, or on the machine that serves "
                "it (localhost). This page came over plain HTTP from another machine."
            )
        st.camera_input("Take a photo", key=key, on_change=_take, args=(key,))
    else:
        st.file_uploader(
            "Drop one photo or many here" if kind == PHOTOS else "Choose a folder of photos",
            type=None if kind == PHOTOS else sorted(IMAGE_SUFFIXES),
            accept_multiple_files=True if kind == PHOTOS else "directory",
            key=key,
            on_change=_take,
            args=(key,),
            label_visibility="collapsed",
        )
    return session().shown


def tell_of_photos() -> None:
    """Show how many photos are there and what becomes of them; and a button to remove them.

    The page's address says whether there are photos: a reload or a restart of the server loses
    them, and the page then says so.
    """
    kept = (
        "photos stay in memory only, are never written to disk, and are freed within a minute of "
        "your closing the page."
    )
    photos, address = session().photos, st.query_params
    if photos:
        address[ADDRESS_KEY] = str(len(photos))
        with st.container(horizontal=True, vertical_alignment="center", wrap=False):
            st.caption(f"{cards.count(len(photos), 'photo')} on this page. Your {kept}")
            st.button("Remove all", key="remove all", on_click=session().remove, args=(photos,))
        return
    if ADDRESS_KEY in address and session().round == 0:
        st.warning(
            "**Your photos are gone**: the page was loaded again or the server was restarted, and "
            "photos are kept nowhere else. Please add them again; below is the sample.",
            icon=":material/info:",
        )
    else:
        address.pop(ADDRESS_KEY, None)
    st.caption(f"This is a sample. Your own {kept}")


def _take(key: str) -> None:
    """Move uploaded files from Streamlit, which would hold them as long as the session, to ours."""
    value = st.session_state[key]
    files = [f for f in (value if isinstance(value, list) else [value]) if _is_file(f)]
    if key.startswith(CAMERA):
        number = st.session_state["camera photos"] = st.session_state.get("camera photos", 0) + 1
        names = [f"camera-{number}.jpg"] * len(files)
    else:
        names = [cards.sent_name(file.name) for file in files]
    session().add(zip(names, [file.getvalue() for file in files], strict=True))
    st.session_state["page"] = 1  # the newest photos come first
    context = get_script_run_ctx()
    release = getattr(getattr(context, "uploaded_file_mgr", None), "remove_file", None)
    for file in files:
        if release and context:
            release(context.session_id, file.file_id)


def _is_file(value: object) -> TypeGuard[UploadedFile]:
    return isinstance(value, UploadedFile)


def choose_photo(photos: Sequence[Photo]) -> Photo:
    """Show the photos' names; return the chosen photo."""
    if len(photos) == 1:
        return photos[0]
    index: int = st.selectbox(
        "Photo",
        range(len(photos)),
        format_func=lambda i: photos[i].name,
        key=f"photo of {len(photos)}",
        persist_state="session",
    )
    return photos[index]


def usable_models(stage: str) -> list[str]:
    """Return the names of the models of a stage that can be loaded here, the default first."""
    return [name for name, model in model_zoo.shipped_models(stage).items() if not model.missing]


def choose_model(stage: str) -> str:
    """Show the models of a stage; return the name of the chosen one."""
    known = model_zoo.shipped_models(stage)
    names = usable_models(stage)
    name: str = st.selectbox(stage.capitalize(), names, key=stage, persist_state="session")
    st.caption(cards.plain(known[name].about))
    for model in known.values():
        if model.missing:
            st.caption(f"Without {cards.plain(model.name)}: {model.missing}.")
    return name


def choose_device() -> str:
    """Show where models can run; return the chosen place."""
    names = devices()
    device: str = st.selectbox("Device", names, key="device", persist_state="session")
    st.caption(
        "This machine has no GPU that PyTorch can use."
        if len(names) == 1
        else "Where both stages run: a GPU is faster, the results agree to the third digit."
    )
    return device


def choose_cut(detector: str, device: str) -> tuple[float | None, float]:
    """Show detection score and crop margin; return both as ``Choice`` takes them."""
    try:
        own = detector_of(detector, device).score_threshold
    except UserError:  # each tab says why
        return None, CROP_MARGIN
    score = st.slider(
        "Detection score",
        SCORE_FLOOR,
        1.0,
        min(max(round(own, 2), SCORE_FLOOR), 1.0),
        key=f"score {detector}",
        persist_state="session",
    )
    st.caption(
        f"From which score on a box counts as a face. {cards.plain(detector)} was tuned to "
        f"{own:.3g}: lower finds more faces, and more that are none."
    )
    margin = st.slider(
        "Crop margin",
        0,
        60,
        round(100 * CROP_MARGIN),
        5,
        format="%d %%",
        key="margin",
        persist_state="session",
    )
    st.caption("How much around the box the classifier sees; it was trained on tight faces.")
    return (
        None if score == round(own, 2) else score,
        CROP_MARGIN if margin == round(100 * CROP_MARGIN) else margin / 100,
    )


def choose_threshold(disabled: bool) -> float:
    """Show the slider; return the probability."""
    value = _threshold("Threshold", "threshold", disabled)
    st.caption(
        "Each emotion has its own threshold now, see *Advanced*."
        if disabled
        else "A face shows each emotion whose bar reaches the dashed line. It is *unsure* if none "
        f"does, or if all stay below {cards.percent(UNSURE_BELOW)}."
    )
    return value


def choose_thresholds() -> dict[str, float] | None:
    """Show a switch and, if it is on, a slider per emotion; return their probabilities."""
    if not st.toggle("A threshold for each emotion", key="each", persist_state="session"):
        return None
    return {name: _threshold(name, f"threshold {name}") for name in EMOTIONS}


def choose_suppressed() -> bool:
    """Show the switch for boxes that do not count as faces; return its state."""
    return st.toggle(
        "Show suppressed boxes",
        key="suppressed",
        help="What the detector also proposed: boxes whose score is too low to count as a face, "
        "and further boxes on the same face. Of the classical detectors only the former are known.",
        persist_state="session",
    )


def _threshold(label: str, key: str, disabled: bool = False) -> float:
    default = round(100 * DEFAULT_THRESHOLD)
    percent = percent_slider(label, key, default, disabled)
    return DEFAULT_THRESHOLD if percent == default else percent / 100


def choose_all() -> tuple[Choice, Look, list[Photo]]:
    """Show all controls; return what was chosen."""
    beside = st.sidebar
    with beside:
        st.header("Models", anchor=False)
        detector = choose_model("detector")
        classifier = choose_model("classifier")
        advanced = st.expander("Advanced")
    with advanced:
        suppressed = choose_suppressed()
        thresholds = choose_thresholds()
        place = st.container()
    left, right = st.columns((3, 2), gap="medium")
    with left:
        photos = choose_photos()
    with right:
        threshold = choose_threshold(thresholds is not None)
    tell_of_photos()
    with place:
        device = choose_device()
        score, margin = choose_cut(detector, device)
    choice = Choice(detector, classifier, device, margin, score)
    return choice, Look(thresholds or threshold, suppressed), photos
