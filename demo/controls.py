"""The page's settings: models, thresholds, filters. Each control returns what was chosen."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from demo.components.percent_slider import percent_slider, percent_value
from demo.render import cards
from demo.render.tables import UNSURE, Filter
from demo.session import SCORE_FLOOR, Choice, Photo
from faces.command import UserError
from faces.crops import CROP_MARGIN
from faces.emotions import EMOTIONS
from faces.pipeline import (
    Detector,
    EmotionClassifier,
    Pipeline,
    ScalingDetector,
    WholeImage,
)
from faces.scope import DETAILS, Scope
from faces.types import DEFAULT_THRESHOLD, UNSURE_BELOW
from twostage import model_zoo
from twostage.worker import Worker

QUALITIES = {
    "Balanced": (
        *("mobilenet_fpn", "blend"),
        "Emotions as most people would see them.",
    ),
    "More accurate": (
        *("mobilenet_fpn_accurate", "accurate"),
        "Finds small faces better, and agrees more often with test data; takes longer.",
    ),
    "Faster": (
        *("mobilenet_fpn_fast", "fast"),
        "For many photos; misses more small faces, and errs more often.",
    ),
}
"""What matters → detector, classifier, and what that means."""

BY_NAME = "By name"

LOOKS = {
    "fast": "one quick look",
    "standard": "a closer look where needed",
    "full": "a close look everywhere",
}
"""``Scope.detail`` → what the page calls it."""

SMALLEST_FACES = (8, 12, 24, 48, 96)
"""Choices of ``Scope.min_face``."""

DEFAULT_PERCENT = round(100 * DEFAULT_THRESHOLD)


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


def pipeline_of(choice: Choice) -> Pipeline:
    """Return both stages as chosen, loading what is missing."""
    detector: Detector = WholeImage()
    if not choice.whole:
        detector = detector_of(choice.detector, choice.device)
        if isinstance(detector, ScalingDetector):
            detector = detector.with_scope(choice.scope)
    classifier = classifier_of(choice.classifier, choice.device)
    return Pipeline(detector, classifier, margin=choice.margin)


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


@dataclass(frozen=True)
class Look:
    """The choices that need no model."""

    threshold: cards.Threshold  # from which probability on an emotion is a label
    suppressed: bool  # show the boxes that do not count as faces, too


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


def choose_models() -> tuple[str, str]:
    """Show what matters to the visitor, in words; return the names of both models."""
    wish: str = st.segmented_control(
        "What matters",
        (*QUALITIES, BY_NAME),
        default=next(iter(QUALITIES)),
        required=True,
        key="quality",
        bind="query-params",
        persist_state="session",
    )
    if wish in QUALITIES:
        detector, classifier, line = QUALITIES[wish]
        st.caption(line)
        return detector, classifier
    return choose_model("detector"), choose_model("classifier")


def choose_model(stage: str) -> str:
    """Show the models of a stage; return the name of the chosen one."""
    known = model_zoo.shipped_models(stage)
    name: str = st.selectbox(
        stage.capitalize(),
        usable_models(stage),
        key=stage,
        bind="query-params",
        persist_state="session",
    )
    st.caption(cards.plain(known[name].about))
    for model in known.values():
        if model.missing:
            st.caption(f"Without {cards.plain(model.name)}: {model.missing}.")
    return name


def choose_scope() -> tuple[Scope, bool]:
    """Show how closely to look for faces; return it, and whether each photo is one face."""
    whole = st.toggle(
        "Each photo is one face",
        key="whole",
        help="For pictures of faces that are cut out already: none is looked for.",
        bind="query-params",
        persist_state="session",
    )
    with st.container(horizontal=True):
        detail: str = st.selectbox(
            "Small faces",
            DETAILS,
            index=DETAILS.index(Scope().detail),
            format_func=LOOKS.__getitem__,
            key="detail",
            disabled=whole,
            bind="query-params",
            persist_state="session",
        )
        smallest: int = st.selectbox(
            "Smallest face",
            SMALLEST_FACES,
            index=SMALLEST_FACES.index(round(Scope().min_face)),
            format_func=lambda pixels: f"{pixels} pixels",
            key="smallest",
            disabled=whole,
            bind="query-params",
            persist_state="session",
        )
    return Scope(detail, float(smallest)), whole


def choose_device() -> str:
    """Show where models can run; return the chosen place."""
    names = devices()
    device: str = st.selectbox(
        "Device", names, key="device", bind="query-params", persist_state="session"
    )
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
        bind="query-params",
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
        format="%d%%",
        key="margin",
        bind="query-params",
        persist_state="session",
    )
    st.caption("How much around the box the classifier sees; it was trained on tight faces.")
    return (
        None if score == round(own, 2) else score,
        CROP_MARGIN if margin == round(100 * CROP_MARGIN) else margin / 100,
    )


def choose_threshold() -> None:
    """Show the slider beside what it changes."""
    each = bool(st.session_state.get("each"))
    percent_slider("Threshold", "threshold", DEFAULT_PERCENT, each)
    st.caption(
        "Each emotion has its own threshold now, see *Settings*."
        if each
        else "A face shows each emotion whose bar reaches the dashed line. It is *unsure* if none "
        f"does, or if all stay below {cards.percent(UNSURE_BELOW)}."
    )


def choose_thresholds() -> cards.Threshold:
    """Show a switch and, if it is on, a slider per emotion; return the thresholds."""
    if not st.toggle(
        "A threshold for each emotion", key="each", bind="query-params", persist_state="session"
    ):
        return _probability("threshold")
    for name in EMOTIONS:
        percent_slider(name, f"threshold {name}", DEFAULT_PERCENT)
    return {name: _probability(f"threshold {name}") for name in EMOTIONS}


def _probability(key: str) -> float:
    percent = percent_value(key, DEFAULT_PERCENT)
    return DEFAULT_THRESHOLD if percent == DEFAULT_PERCENT else percent / 100


def choose_suppressed() -> bool:
    """Show the switch for boxes that do not count as faces; return its state."""
    return st.toggle(
        "Show suppressed boxes",
        key="suppressed",
        bind="query-params",
        help="What the detector also proposed: boxes whose score is too low to count as a face, "
        "and further boxes on the same face. Of the classical detectors only the former are known.",
        persist_state="session",
    )


def choose_all() -> tuple[Choice, Look]:
    """Show the settings; return what was chosen."""
    detector, classifier = choose_models()
    scope, whole = choose_scope()
    suppressed = choose_suppressed()
    threshold = choose_thresholds()
    with st.expander("Advanced"):
        device = choose_device()
        score, margin = (None, CROP_MARGIN) if whole else choose_cut(detector, device)
    return Choice(detector, classifier, device, margin, score, scope, whole), Look(
        threshold, suppressed
    )


def choose_filter() -> Filter:
    """Show what to look for among many photos or faces; return it."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        shows = st.pills(
            "Only faces that show",
            (*EMOTIONS, UNSURE),
            selection_mode="multi",
            wrap=True,
            key="shows",
            bind="query-params",
            persist_state="session",
        )
        name = st.text_input(
            "Only names with",
            key="find",
            bind="query-params",
            persist_state="session",
        )
    return Filter(name, tuple(shows))
