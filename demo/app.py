"""The page of `make demo`: layout only; what it shows is made in views.py."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import streamlit as st

from demo import views
from faces.emotions import EMOTIONS
from faces.paths import PICTURE_SUFFIXES, ImageError
from faces.pipeline import Detector, EmotionClassifier
from faces.types import DEFAULT_THRESHOLD, ImageResult
from twostage import models

HERE = Path(__file__).resolve().parent
SAMPLE = HERE.parent / "samples" / "group.jpg"


@st.cache_resource(show_spinner="Loading the detector…")
def detector_of(name: str) -> Detector:
    """Load a detector once for all users."""
    return models.load_detector(name)


@st.cache_resource(show_spinner="Loading the classifier…")
def classifier_of(name: str) -> EmotionClassifier:
    """Load a classifier once for all users."""
    return models.load_classifier(name)


@st.cache_resource
def turn() -> threading.Lock:
    """One photo at a time, whoever's it is: it bounds memory, and models need no thread safety."""
    return threading.Lock()


def choose_photos() -> list[views.Photo]:
    """Show the uploader; return what was uploaded, or else the sample."""
    uploads = st.file_uploader(
        "Photos: one or many",
        type=views.sorted_suffixes(PICTURE_SUFFIXES),
        accept_multiple_files=True,
        key="uploads",
    )
    st.caption(
        "Photos are not kept: they stay in memory until you remove them or close the page, and are "
        "never written to disk." + ("" if uploads else " Until you add some, you see a sample.")
    )
    known: dict[str, str] = st.session_state.get("digests", {})
    photos = [views.Photo.of(u.name, u.getvalue(), known.get(u.file_id)) for u in uploads]
    st.session_state.digests = {u.file_id: p.digest for u, p in zip(uploads, photos, strict=True)}
    return photos or [views.Photo.of(SAMPLE.name, SAMPLE.read_bytes())]


def choose_model(stage: str) -> str:
    """Show the shipped models of a stage; return the name of the chosen one."""
    shipped = models.shipped_models(stage)
    name: str = st.selectbox(stage.capitalize(), list(shipped), key=stage)
    st.caption(views.plain(shipped[name].about))
    return name


def choose_threshold() -> float:
    """Show the slider; return the probability."""
    percent = st.slider(
        "Threshold", 0, 100, round(100 * DEFAULT_THRESHOLD), format="%d %%", key="threshold"
    )
    st.caption("A face shows each emotion whose bar reaches the dashed line. If none does: unsure.")
    return percent / 100


def analyze(
    photos: list[views.Photo], detector: str, classifier: str
) -> list[tuple[views.Photo, views.Analysis | str]]:
    """Run the models over the photos that they have not seen yet, with progress.

    Returns:
        Each photo with its analysis, or with the cause why it cannot be read.
    """
    store: dict[views.Key, views.Analysis | str]
    store = st.session_state.setdefault("analyses", {})
    for key in views.stale_keys(store, photos):
        del store[key]
    keys = [(photo.digest, detector, classifier) for photo in photos]
    waiting = {key: photo for key, photo in zip(keys, photos, strict=True) if key not in store}
    place = st.empty()
    for number, (key, photo) in enumerate(waiting.items()):
        text = f"Analysing {views.plain(photo.name)} ({number + 1} of {len(waiting)})"
        place.progress(number / len(waiting), text)
        stages = detector_of(detector), classifier_of(classifier)
        try:
            with turn():
                store[key] = views.analyze_photo(photo, *stages)
        except ImageError as error:
            store[key] = error.cause
    place.empty()
    return [(photo, store[key]) for photo, key in zip(photos, keys, strict=True)]


def show_photo(
    photo: views.Photo, analysis: views.Analysis, threshold: float, position: int
) -> None:
    """Show one photo: its name, the annotated picture, a card per face, its download."""
    result = analysis.result
    st.subheader(views.plain(photo.name), anchor=False)
    st.caption(
        f"{views.count(len(result.faces), 'face')} · {result.width} × {result.height} pixels · "
        f"{result.seconds:.2f} s"
    )
    picture = cards = st.container()
    if views.cards_beside(result):
        picture, cards = st.columns((3, 2))
    picture.image(
        views.annotated_preview(analysis, threshold),
        width=views.preview_width(result),
        alt=views.describe(photo.name, result, threshold),
    )
    if not result.faces:
        cards.info(views.NO_FACE)
        return
    cards.html(views.cards_html(analysis, threshold))
    st.download_button(
        "Annotated picture (PNG)",
        partial(views.annotated_png, photo, result, threshold),
        file_name=f"{Path(photo.name).stem}.png",
        mime="image/png",
        icon=":material/download:",
        on_click="ignore",
        key=f"png {position}",
    )


def show_table(results: list[ImageResult], threshold: float) -> None:
    """Show all faces of all photos, and the result files."""
    st.subheader("All faces", anchor=False)
    rows = views.table_rows(results, threshold)
    st.caption(f"{views.count(len(rows), 'face')} in {views.count(len(results), 'photo')}")
    if rows:
        percent = st.column_config.NumberColumn(format="%.0f %%")
        score = st.column_config.NumberColumn(format="%.2f")
        columns = dict.fromkeys(EMOTIONS, percent) | {"detection score": score}
        st.dataframe(rows, hide_index=True, column_config=columns)
    with st.container(horizontal=True):
        for kind, extension in views.DOWNLOADS.items():
            st.download_button(
                kind,
                partial(views.result_file, results, threshold, extension),
                file_name=f"faces{extension}",
                mime="text/csv" if kind == "CSV" else "application/json",
                icon=":material/download:",
                on_click="ignore",
                key=kind,
            )


def page() -> None:
    """Build the whole page."""
    st.set_page_config(page_title="Faces and their emotions", page_icon="🙂", layout="wide")
    st.html(HERE / "style.css")
    st.title("Faces and their emotions", anchor=False)
    st.markdown(
        f"Finds every face in a photo and says which of {len(EMOTIONS)} emotions it shows: one, "
        "several, or none clearly. **It names what a face shows, not what a person feels, and it "
        "errs often: never use it for decisions about people.**"
    )
    photos = choose_photos()
    left, middle, right = st.columns(3, gap="medium")
    with left:
        threshold = choose_threshold()
    with middle:
        detector = choose_model("detector")
    with right:
        classifier = choose_model("classifier")
    try:
        analysed = analyze(photos, detector, classifier)
    except models.ModelError as error:
        st.error(views.plain(str(error)))
        return
    for photo, outcome in analysed:
        if isinstance(outcome, str):
            st.error(views.plain(f"{photo.name}: {outcome}"))
    good = [(photo, found) for photo, found in analysed if isinstance(found, views.Analysis)]
    if not good:
        return
    shown = range(len(good))
    place = st.container()
    if len(good) > views.PHOTOS_AT_ONCE:
        number = st.pagination(-(-len(good) // views.PHOTOS_AT_ONCE), key="page")
        shown = shown[(number - 1) * views.PHOTOS_AT_ONCE :][: views.PHOTOS_AT_ONCE]
    with place:
        for position in shown:
            show_photo(*good[position], threshold, position)
    show_table([replace(f.result, source=p.name) for p, f in good], threshold)


if __name__ == "__main__":
    page()
