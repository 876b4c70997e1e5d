"""The fourth tab: why a face got its emotions, what the models are, where the time went."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from demo import controls
from demo.analysis import analysis_of, analyzed
from demo.controls import Look, choose_photo, worker
from demo.intake import session
from demo.render import cards, explanations
from demo.session import Analysis, Choice, Photo
from faces.command import UserError
from faces.crops import crop_face
from faces.emotions import EMOTIONS
from faces.pipeline import Image
from faces.types import Face
from twostage import model_zoo


def show_reasons(photos: Sequence[Photo], choice: Choice, look: Look) -> None:
    """Show why a face got its emotions, or what the models are."""
    one, models = st.tabs(
        ["This face", "The models"], key="why", on_change="rerun", bind="query-params"
    )
    if one.open:
        with one:
            show_face(photos, choice)
    if models.open:
        with models:
            for stage in ("classifier", "detector"):
                show_card(stage, getattr(choice, stage))


def show_face(photos: Sequence[Photo], choice: Choice) -> None:
    """Show why a face got its emotions, and where the time went."""
    photo = choose_photo(photos)
    list(analyzed([photo], choice))
    analysis = analysis_of(photo, choice)
    if analysis is None:
        return
    if analysis.result.faces:
        show_face_reasons(photo, analysis, choice)
    else:
        st.info(cards.NO_FACE)
    st.header("Where the time went", anchor=False)
    st.html(explanations.times_html(analysis.seconds))


def show_face_reasons(photo: Photo, analysis: Analysis, choice: Choice) -> None:
    """Show a face's saliency map and the feature maps of a layer."""
    faces = analysis.result.faces
    with st.container(horizontal=True, vertical_alignment="bottom"):
        number: int = st.selectbox("Face", range(1, len(faces) + 1), key=f"face of {photo.digest}")
        face = faces[number - 1]
        ranked = sorted(EMOTIONS, key=lambda name: -face.emotions[name])
        emotion: str = st.selectbox("Emotion", ranked, key=f"emotion of {photo.digest} {number}")
    left, right = st.columns((2, 3), gap="large")
    with left:
        show_saliency(photo, face, number, emotion, choice)
    with right:
        show_layers(photo, face, number, choice)


def show_saliency(photo: Photo, face: Face, number: int, emotion: str, choice: Choice) -> None:
    """Show which parts of a face speak for an emotion."""
    from twostage import explain

    def render() -> tuple[bytes, ...]:
        crop = _crop(photo, face, choice)
        saliency = worker().run(lambda: explain.saliency_map(classifier, crop, emotion))
        return (explanations.saliency_jpeg(crop, saliency),)

    st.header(f"What speaks for {emotion}", anchor=False)
    classifier = controls.classifier_of(choice.classifier, choice.device)
    with st.spinner("Hiding one part of the face after another…"):
        (jpeg,) = session().keep((*_key(photo, face, choice), emotion), render)
    st.image(cards.data_uri(jpeg), alt=f"Face {number}: which parts speak for {emotion}")
    st.caption(
        "**Orange** speaks for it, **blue** against it: how the probability changes when this "
        "part is hidden behind a grey square, in 81 places. It tells what the classifier looks "
        "at, not whether it is right."
    )


def show_layers(photo: Photo, face: Face, number: int, choice: Choice) -> None:
    """Show the feature maps of a layer that the visitor selects."""
    from twostage import explain

    def render() -> tuple[bytes, ...]:
        crop = _crop(photo, face, choice)
        maps = worker().run(lambda: explain.feature_maps(classifier, crop, layer))
        return (explanations.feature_sheet(maps),)

    st.header("What a layer sees", anchor=False)
    classifier = controls.classifier_of(choice.classifier, choice.device)
    layers = worker().run(lambda: explain.layers(classifier))
    if not layers:
        st.info(f"{cards.plain(choice.classifier)} has no layers: it is no convolutional network.")
        return
    layer: str = st.selectbox(
        "Layer",
        list(layers),
        format_func=lambda name: "{}: {} maps of {} × {}".format(name, *layers[name]),
        key=f"layer of {choice.classifier}",
        persist_state="session",
    )
    (jpeg,) = session().keep((*_key(photo, face, choice), "layer", layer), render)
    st.image(cards.data_uri(jpeg), alt=f"Feature maps of layer {layer} for face {number}")
    shown = min(explanations.MAPS_AT_ONCE, layers[layer][0])
    st.caption(f"The {shown} maps of this layer that vary most over this face; yellow is strong.")


def show_card(stage: str, name: str) -> None:
    """Show a model's card, and how often the model is right."""
    try:
        card = model_zoo.shipped_models(stage)[name].card()
    except UserError:
        st.caption(f"{cards.plain(name)} has no card.")
        return
    st.header(f"The {stage}: {cards.plain(name)}", anchor=False)
    st.caption(cards.plain(model_zoo.shipped_models(stage)[name].about))
    if stage == "classifier":
        left, right = st.columns(2, gap="large")
        left.html(explanations.card_html(card))
        with right:
            show_quality(card)
    else:
        st.html(explanations.card_html(card))
    with st.expander("The whole card"):
        st.code(json.dumps(card, indent=1, ensure_ascii=False), language=None)


def show_quality(card: Mapping[str, Any]) -> None:
    """Show how often a classifier is right, by its card."""
    calibration, measured = card.get("calibration"), card.get("public_test")
    if "measured" in card:  # as shipped; public_test is from before the calibration
        measured = card["measured"]["PublicTest"]["single"]
    if calibration:
        st.markdown(explanations.calibration_text(calibration))
        if bins := calibration["after"].get("reliability"):
            st.image(
                explanations.reliability_svg(bins),
                width=explanations.DIAGRAM_WIDTH,
                alt=explanations.reliability_text(bins),
            )
    else:
        st.markdown("Not calibrated: do not read its probabilities as frequencies.")
    if measured and "confusion" in measured:
        st.markdown(
            f"Right on {cards.percent(measured['accuracy'])} of {measured['n']} pictures of "
            "FER2013's PublicTest. Of the faces labelled with each emotion it names:"
        )
        st.html(explanations.recall_html(measured["confusion"]))


def _crop(photo: Photo, face: Face, choice: Choice) -> Image:
    return crop_face(session().read(photo), face.box, choice.margin)


def _key(photo: Photo, face: Face, choice: Choice) -> tuple[str | float, ...]:
    return photo.digest, *face.box.as_tuple(), choice.margin, choice.classifier
