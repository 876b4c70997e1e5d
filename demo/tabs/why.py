"""The fourth tab: why a face got its emotions, what the models are, where the time went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from demo import controls
from demo.analysis import analysis_of, analyzed, in_turn
from demo.controls import Look, choose_photo, session
from demo.render import cards, explanations
from demo.session import Analysis, Choice, Photo
from faces.command import UserError
from faces.crops import crop_face
from faces.emotions import EMOTIONS
from twostage import model_zoo


def show_reasons(photos: Sequence[Photo], choice: Choice, look: Look) -> None:
    """Show why a face got its emotions, what the models are, and where the time went."""
    photo = choose_photo(photos)
    list(analyzed([photo], choice))
    analysis = analysis_of(photo, choice)
    if analysis is None:
        return
    if analysis.result.faces:
        show_face_reasons(photo, analysis, choice, look)
    else:
        st.info(cards.NO_FACE)
    st.subheader("Where the time went", anchor=False)
    st.html(explanations.times_html(analysis.seconds))
    for stage in ("classifier", "detector"):
        show_card(stage, getattr(choice, stage))


def show_face_reasons(photo: Photo, analysis: Analysis, choice: Choice, look: Look) -> None:
    """Show a face's saliency map and the feature maps of a layer."""
    from classification.inference import explain
    from classification.inference.classifier import NetworkClassifier

    faces = analysis.result.faces
    with st.container(horizontal=True, vertical_alignment="bottom"):
        number: int = st.selectbox("Face", range(1, len(faces) + 1), key=f"face of {photo.digest}")
        face = faces[number - 1]
        ranked = sorted(EMOTIONS, key=lambda name: -face.emotions.as_dict()[name])
        emotion: str = st.selectbox("Emotion", ranked, key=f"emotion of {photo.digest} {number}")
    classifier = controls.classifier_of(choice.classifier, choice.device)
    key = (photo.digest, *face.detection.box.as_tuple(), choice.margin, choice.classifier)
    left, right = st.columns((2, 3), gap="large")

    def crop() -> NDArray[np.uint8]:
        return crop_face(photo.read(), face.detection.box, choice.margin)

    with left:
        st.subheader(f"What speaks for {emotion}", anchor=False)

        def saliency() -> tuple[bytes, ...]:
            cut = crop()
            found = in_turn(lambda: explain.saliency_map(classifier, cut, emotion))
            return (explanations.saliency_picture(cut, found),)

        with st.spinner("Hiding one part of the face after another…"):
            (picture,) = session().keep((*key, emotion), saliency)
        st.image(picture, alt=f"Face {number}: which parts speak for {emotion}")
        st.caption(
            "**Orange** speaks for it, **blue** against it: how the probability changes when this "
            "part is hidden behind a grey square, in 81 places. It tells what the classifier looks "
            "at, not whether it is right."
        )
    with right:
        st.subheader("What a layer sees", anchor=False)
        if not isinstance(classifier, NetworkClassifier):
            st.info(
                f"{cards.plain(choice.classifier)} has no layers: it is no convolutional network."
            )
            return
        layers = in_turn(lambda: explain.layers(classifier))
        layer: str = st.selectbox(
            "Layer",
            list(layers),
            format_func=lambda name: "{}: {} maps of {} × {}".format(name, *layers[name]),
            key=f"layer of {choice.classifier}",
            persist_state="session",
        )

        def sheet() -> tuple[bytes, ...]:
            cut = crop()
            maps = in_turn(lambda: explain.feature_maps(classifier, cut, layer))
            return (explanations.feature_sheet(maps),)

        (picture,) = session().keep((*key, "layer", layer), sheet)
        st.image(picture, alt=f"Feature maps of layer {layer} for face {number}")
        shown = min(explanations.MAPS_AT_ONCE, layers[layer][0])
        st.caption(
            f"The {shown} maps of this layer that vary most over this face; yellow is strong."
        )


def show_card(stage: str, name: str) -> None:
    """Show a model's card, and what is known of how often it is right."""
    try:
        card = model_zoo.shipped_models(stage)[name].card()
    except UserError:
        st.caption(f"{cards.plain(name)} has no card.")
        return
    st.subheader(f"The {stage}: {cards.plain(name)}", anchor=False)
    if stage == "classifier":
        left, right = st.columns(2, gap="large")
        left.html(explanations.card_html(card))
        with right:
            show_quality(card)
    else:
        st.html(explanations.card_html(card))
    with st.expander("The whole card"):
        st.json(card, expanded=1)


def show_quality(card: Mapping[str, Any]) -> None:
    """Show what a classifier's card says of how often it is right."""
    calibration, measured = card.get("calibration"), card.get("public_test")
    if "measured" in card:  # as shipped; public_test is from before the calibration
        measured = card["measured"]["PublicTest"]["single"]
    if calibration:
        st.markdown(explanations.calibration_text(calibration))
        if bins := calibration["after"].get("reliability"):
            st.html(explanations.reliability_svg(bins))
    else:
        st.markdown("Not calibrated: do not read its probabilities as frequencies.")
    if measured and "confusion" in measured:
        st.markdown(
            f"Right on {cards.percent(measured['accuracy'])} of {measured['n']} pictures of "
            "FER2013's PublicTest. Of the faces labelled with each emotion it names:"
        )
        st.html(explanations.recall_html(measured["confusion"]))
