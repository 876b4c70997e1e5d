"""The page, driven without a browser, with stand-ins for the models."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
import torch
from numpy.typing import NDArray
from PIL import Image
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.media_file_manager import MediaFileManager
from streamlit.testing.v1 import AppTest

from classification.inference.classifier import NetworkClassifier, TrainedNetwork
from classification.modeling.face_resnet import build_network
from classification.modeling.normalization import Normalization
from demo import analysis, controls, corrections, feedback, intake
from demo import session as sessions
from demo.render import cards, tables
from demo.session import FILE_BYTES, Session
from faces.command import UserError
from faces.emotions import EMOTIONS
from faces.fetch import Limits
from faces.paths import IMAGE_SUFFIXES
from faces.types import Box, Detection
from twostage import cli, model_zoo

SAMPLE = intake.SAMPLE
APP = Path(cards.__file__).parents[1] / "page.py"
PICTURES = NDArray[np.uint8]
ABOUT = {"detector": ("light", "other"), "classifier": ("small", "large")}


class Models:
    """Stand-ins for the models, which count what they are asked."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.seen: list[tuple[str, int]] = []

    def detector(self, name: str, device: str | None = None, **_: Any) -> Detector:
        self.loaded.append(name)
        return Detector(name, self.seen)

    def classifier(self, name: str, device: str | None = None) -> Classifier:
        self.loaded.append(name)
        return Classifier(name, self.seen)


class Detector:
    """Finds two faces in pictures at least 40 pixels wide; the one called other, the first only.

    A third box, with a score of 0.3, counts as a face to neither.
    """

    score_threshold = 0.5

    def __init__(self, name: str, seen: list[tuple[str, int]]) -> None:
        self.name = name
        self.seen = seen

    def detect(
        self, images: Sequence[PICTURES], min_score: float | None = None
    ) -> list[list[Detection]]:
        self.seen += [(self.name, image.shape[1]) for image in images]
        boxes = [(Box(2, 3, 22, 28), 0.9), (Box(20, 3, 38, 25), 0.7), (Box(2, 3, 9, 9), 0.3)]
        found = [Detection(*box) for box in boxes]
        if self.name == "other":
            del found[1]
        least = self.score_threshold if min_score is None else min_score
        found = [detection for detection in found if detection.score >= least]
        return [list(found) if image.shape[1] >= 40 else [] for image in images]


class Classifier:
    """Calls the largest faces happy and surprised (large: happy), the others nothing clear."""

    def __init__(self, name: str, seen: list[tuple[str, int]]) -> None:
        self.name = name
        self.seen = seen

    def probabilities(self, crops: Sequence[PICTURES]) -> NDArray[np.float32]:
        self.seen.append((self.name, len(crops)))
        rows = np.full((len(crops), 7), 1 / 7, np.float32)
        largest = [len(crop) == max(map(len, crops)) for crop in crops]
        happy = 0.8 if self.name == "large" else 0.6
        rows[largest] = [0, 0, 0, happy, 0, 1 - happy, 0]
        return rows


@pytest.fixture(autouse=True)
def stand_ins(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Models]:
    st.cache_resource.clear()
    sample = tmp_path_factory.mktemp("sample") / "group.jpg"
    sample.write_bytes(photo(126, 51))
    monkeypatch.setattr(intake, "SAMPLE", sample)
    qualities = {"Balanced": ("light", "small", "good"), "Faster": ("other", "large", "quick")}
    monkeypatch.setattr(controls, "QUALITIES", qualities)
    found = Models()
    monkeypatch.setattr(model_zoo, "load_detector", found.detector)
    monkeypatch.setattr(model_zoo, "load_classifier", found.classifier)
    monkeypatch.setattr(cli, "fingerprint", lambda stage, name: {name: ""})
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(
        model_zoo,
        "shipped_models",
        lambda stage: {n: model_zoo.ShippedModel(n, f"the {n} {stage}") for n in ABOUT[stage]},
    )
    yield found
    st.cache_resource.clear()


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[[], bytes]]:
    """What the download buttons of the last run would hand out, by file name."""
    handed_out: dict[str, Callable[[], bytes]] = {}
    original = MediaFileManager.add_deferred

    def add_deferred(self: Any, data: Callable[[], bytes], *args: Any, **kwargs: Any) -> str:
        handed_out[kwargs["file_name"]] = data
        return original(self, data, *args, **kwargs)

    monkeypatch.setattr(MediaFileManager, "add_deferred", add_deferred)
    return handed_out


def page(*uploads: tuple[str, bytes], tab: str = "Photos") -> AppTest:
    app = AppTest.from_file(str(APP), default_timeout=60).run()
    assert not app.exception
    if uploads:
        upload(app, *uploads)
    if tab != "Photos":
        open_tab(app, tab)
    return app


def upload(app: AppTest, *uploads: tuple[str, bytes]) -> AppTest:
    app.file_uploader[0].set_value([(n, data, "image/png") for n, data in uploads])
    app.run()
    assert not app.exception
    return app


def open_tab(app: AppTest, name: str) -> AppTest:
    app.session_state["tab"] = name
    app.run()
    assert not app.exception
    return app


def set_percent(app: AppTest, key: str, value: int) -> None:
    """Move one of the page's own sliders."""
    app.session_state[key] = {"value": value}
    app.run()
    assert not app.exception


def percents(app: AppTest) -> list[dict[str, Any]]:
    """What the page's own sliders are told."""
    return [content for content in components(app) if "label" in content]


def components(app: AppTest) -> list[dict[str, Any]]:
    """What the page's own components are told."""
    return [json.loads(component.proto.json) for component in app.get("bidi_component")]


def by_name(app: AppTest) -> AppTest:
    """Let the models be chosen by their names."""
    app.segmented_control(key="quality").set_value("By name").run()
    assert not app.exception
    return app


def overlays(app: AppTest) -> list[str]:
    """What lies over each photo."""
    bodies = [block.proto.body for block in app.get("html")]
    return [body for body in bodies if 'class="boxes' in body]


def photo(width: int = 64, height: int = 48, shade: int = 90) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (shade, 120, 150)).save(file, "PNG")
    return file.getvalue()


def titles(app: AppTest) -> list[str]:
    """The names of the photos that are shown."""
    blocks = " ".join(block.proto.body for block in app.get("html"))
    return [html.unescape(name) for name in re.findall(r'<h2 class="title">(.*?)</h2>', blocks)]


def labels(app: AppTest) -> list[list[str]]:
    """The labels of each card on the page."""
    bodies = [block.proto.body for block in app.get("html")]
    bodies += [content["html"] for content in components(app) if "html" in content]
    cards = [card for body in bodies for card in body.split("<li")[1:]]
    return [re.findall(r'class="label[^>]*>(?:<i[^>]*></i>)?([\w ]+)', card) for card in cards]


def alts(app: AppTest) -> list[str]:
    """The descriptions of the photos; thumbnails have none."""
    return [alt for picture in app.get("image") if (alt := picture.proto.imgs[0].alt)]


def pictures(app: AppTest) -> list[str]:
    """The photos themselves, without thumbnails."""
    return [image.proto.imgs[0].url for image in app.get("image") if image.proto.imgs[0].alt]


def answers(app: AppTest) -> list[str]:
    """The lines with the answer."""
    bodies = " ".join(block.proto.body for block in app.get("html"))
    return re.findall(r'<p class="summary"[^>]*>(.*?)</p>', bodies)


def tiles(app: AppTest) -> list[str]:
    """The names below the thumbnails."""
    labels = [button.label for button in app.button if str(button.key).startswith("open ")]
    return [label.replace("\\", "") for label in labels]


def captions(app: AppTest) -> str:
    return " ".join(text.value for text in app.caption)


def kept(app: AppTest) -> Session:
    found: Session = app.session_state["session"]
    return found


def test_the_sample_is_there() -> None:
    assert SAMPLE.is_file()


def test_first_view_shows_the_sample_analysed(stand_ins: Models) -> None:
    app = page()
    assert titles(app) == ["group.jpg"]
    assert labels(app) == [["happy", "surprise"], ["unsure"]]
    assert alts(app) == ["group.jpg with 2 faces"]
    assert answers(app) == ["2 faces: 1 happy, 1 surprise, 1 unsure"]
    assert stand_ins.seen == [("light", 126), ("small", 2)]
    assert "never written to disk" in captions(app) and "sample" in captions(app)
    assert "decisions about people" in captions(app)
    assert "light" not in captions(app).replace("\\", "").split("From which score")[0]
    assert not [button for button in app.button if button.label == "Remove"]


def test_uploads_take_the_place_of_the_sample_in_their_order() -> None:
    app = page(("b *.png", photo()), ("a.png", photo(shade=91)))
    assert titles(app) == ["b *.png", "a.png"]
    assert labels(app) == [["happy", "surprise"], ["unsure"]] * 2
    assert answers(app) == ["4 faces in 2 photos: 2 happy, 2 surprise, 2 unsure"]
    upload(app, ("c.png", photo(shade=92)))
    assert titles(app) == ["c.png", "b *.png", "a.png"]
    rows = open_tab(app, "All faces").dataframe[0].value
    assert list(rows["photo"]) == ["c.png"] * 2 + ["b *.png"] * 2 + ["a.png"] * 2
    assert list(map(list, rows["shows"])) == [["happy", "surprise"], ["unsure"]] * 3


def test_the_page_names_the_limit_of_a_file() -> None:
    style = (APP.parent / "render" / "page.css").read_text("utf-8")
    assert style.count(f"up to {FILE_BYTES >> 20} MB each") == 2


def test_photos_are_sent_within_the_page_and_have_no_address() -> None:
    app = page(("a.png", photo()))
    open_tab(app, "Photos")
    for shown in app.get("image"):
        assert shown.proto.imgs[0].url.startswith("data:image/jpeg;base64,")


def test_uploaded_files_are_not_held_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager

    removed: list[str] = []
    original = MemoryUploadedFileManager.remove_file

    def remove_file(self: MemoryUploadedFileManager, session_id: str, file_id: str) -> None:
        original(self, session_id, file_id)
        removed.append(file_id)
        assert file_id not in self.file_storage[session_id]

    monkeypatch.setattr(MemoryUploadedFileManager, "remove_file", remove_file)
    page(("a.png", photo()), ("b.png", photo(shade=91)))
    assert len(set(removed)) == 2


def test_photos_of_any_kind_folders_and_the_camera() -> None:
    app = page()
    assert app.file_uploader[0].accept_multiple_files
    assert not app.file_uploader[0].allowed_type  # any file: a bad one gets a sentence
    folder = app.file_uploader[1]
    assert folder.accept_directory and set(folder.allowed_type) == IMAGE_SUFFIXES
    folder.set_value([("holiday/a.png", photo(), "image/png")]).run()
    app.session_state["camera"] = True
    app.run()
    app.camera_input[0].set_value(("camera.jpg", photo(shade=91), "image/jpeg")).run()
    assert not app.exception
    assert titles(app) == ["camera-1.jpg", "holiday/a.png"]
    app.camera_input[0].set_value(("camera.jpg", photo(shade=92), "image/jpeg")).run()
    assert titles(app)[0] == "camera-2.jpg"


def test_a_bad_file_gets_its_sentence_and_the_rest_goes_on(stand_ins: Models) -> None:
    app = page(("cut.png", photo()[:60]), ("good.png", photo()), ("empty.jpg", b""))
    assert titles(app) == ["good.png"]
    assert len(app.error) == 2
    assert app.error[0].value.startswith("`cut.png`: ")
    assert "is empty" in app.error[1].value
    set_percent(app, "threshold", 50)
    assert len(app.error) == 2
    assert len(stand_ins.seen) == 2 + 2  # the sample and the good one
    app.button(key="remove 0").click().run()
    assert len(app.error) == 1


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "is empty (0 bytes); get it again"),
        (b"no picture", "is a text file, not an image"),
        (b"<!DOCTYPE html><p>Not found</p>", "is a web page, not an image; perhaps its download"),
        (b"%PDF-1.7 1 0 obj", "PDF is not supported; export the page as JPEG"),
        (b"PK\x03\x04" + bytes(40), "a zip archive is not supported; unpack it and take the"),
        (b"\0\0\0\x18ftypheic" + bytes(60), "HEIC"),
        (bytes(range(256)), "is no image of a known format; convert it to JPEG or PNG"),
        (bytes.fromhex("89504e470d0a1a0a") + bytes(80), "get it again or save it as PNG"),
    ],
)
def test_each_kind_of_bad_file_gets_a_sentence(data: bytes, sentence: str) -> None:
    app = page(("a.jpg", data))
    (error,) = app.error
    told = error.value.replace("\\", "")
    assert told.startswith("`a.jpg`: ") and sentence in told


@pytest.mark.parametrize("tab", ["Photos", "Compare", "All faces", "Why"])
def test_only_bad_files(tab: str) -> None:
    app = page(("empty.jpg", b""), tab=tab)
    assert (len(app.error) == 1) == (tab != "All faces")
    assert labels(app) == []


@pytest.mark.parametrize("tab", ["Photos", "Compare", "All faces", "Why"])
def test_a_photo_without_faces_says_what_to_try(tab: str, downloads: dict[str, Any]) -> None:
    app = page(("small.png", photo(20, 20)), tab=tab)
    told = [*app.info, *app.caption, *app.markdown]
    if tab != "Compare":
        assert any("No face found. Try" in text.value for text in told)
    if tab in ("Photos", "Compare"):
        assert set(alts(app)) == {"small.png with 0 faces"}
    assert labels(app) == []
    if tab == "All faces":
        assert json.loads(downloads["faces.json"]())[0]["faces"] == []


def test_the_slider_changes_labels_without_a_model(stand_ins: Models) -> None:
    app = page(("a.png", photo()))
    before = list(stand_ins.seen)
    picture, over = pictures(app), overlays(app)
    set_percent(app, "threshold", 41)
    assert labels(app) == [["happy"], ["unsure"]]
    assert answers(app) == ["2 faces: 1 happy, 1 unsure"]
    assert pictures(app) == picture and overlays(app) != over  # the photo is not sent again
    set_percent(app, "threshold", 61)
    assert labels(app) == [["unsure"], ["unsure"]]
    open_tab(app, "All faces")
    assert list(map(list, app.dataframe[0].value["shows"])) == [["unsure"], ["unsure"]]
    assert stand_ins.seen == before
    assert len(stand_ins.loaded) == 2


def test_each_emotion_can_have_its_threshold_without_a_model(stand_ins: Models) -> None:
    app = page(("a.png", photo()))
    before = list(stand_ins.seen)
    app.toggle(key="each").set_value(True).run()
    (*others, first) = percents(app)
    assert [slider["label"] for slider in others] == list(EMOTIONS)
    assert first["label"] == "Threshold" and first["disabled"]
    assert labels(app) == [["happy", "surprise"], ["unsure"]]
    set_percent(app, "threshold happy", 70)
    assert labels(app) == [["surprise"], ["unsure"]]
    app.toggle(key="each").set_value(False).run()
    assert labels(app) == [["happy", "surprise"], ["unsure"]]
    app.toggle(key="each").set_value(True).run()  # the sliders come back as they were
    assert labels(app) == [["surprise"], ["unsure"]]
    assert [slider["value"] for slider in percents(app)[:-1]] == [30, 30, 30, 70, 30, 30, 30]
    assert stand_ins.seen == before


def test_the_detection_score_asks_the_classifier_only(stand_ins: Models) -> None:
    app = page(("a.png", photo()))
    slider = app.slider(key="score light")
    assert (slider.min, slider.value) == (0.05, 0.5)
    slider.set_value(0.8).run()
    assert len(labels(app)) == 1
    app.slider(key="score light").set_value(0.1).run()
    assert len(labels(app)) == 3
    assert [name for name, _ in stand_ins.seen[2:]] == ["light", "small", "small", "small"]


def test_the_crop_margin_asks_the_classifier_only(stand_ins: Models) -> None:
    app = page(("a.png", photo()))
    app.slider(key="margin").set_value(20).run()
    assert [name for name, _ in stand_ins.seen[2:]] == ["light", "small", "small"]
    assert len(labels(app)) == 2


def test_suppressed_boxes_can_be_shown(stand_ins: Models) -> None:
    app = page(("a.png", photo()))
    before = overlays(app)
    assert "suppressed" not in captions(app)
    app.toggle(key="suppressed").set_value(True).run()
    assert "1 box suppressed: 1 with a low score, 0 on the same faces" in captions(app)
    assert overlays(app) != before
    assert len(labels(app)) == 2


def test_devices_are_a_choice(stand_ins: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page()
    assert app.selectbox(key="device").options == ["cpu"]
    assert "no GPU" in captions(app)
    st.cache_resource.clear()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    app = page()
    assert app.selectbox(key="device").options == ["cuda:0", "cuda:1", "cpu"]
    loaded = len(stand_ins.loaded)
    app.selectbox(key="device").set_value("cpu").run()
    assert len(stand_ins.loaded) == loaded + 2


def test_the_address_tells_of_photos_and_a_new_session_that_they_are_gone() -> None:
    app = page(("a.png", photo()))
    assert app.query_params["photos"] in ("1", ["1"]) and not app.warning
    again = AppTest.from_file(str(APP), default_timeout=60)
    again.query_params["photos"] = "1"
    again.run()
    assert "Your photos are gone" in again.warning[0].value
    again.run()
    assert again.warning
    upload(again, ("a.png", photo()))
    assert not again.warning
    again.button(key="remove all").click().run()
    assert not again.warning and "photos" not in again.query_params


def test_models_are_chosen_and_their_analyses_kept(stand_ins: Models) -> None:
    app = by_name(page(("a.png", photo())))
    app.selectbox(key="detector").set_value("other").run()
    assert labels(app) == [["happy", "surprise"]]
    assert "the other detector" in captions(app)
    app.selectbox(key="classifier").set_value("large").run()
    assert labels(app) == [["happy"]]
    assert stand_ins.seen[-1] == ("large", 1)
    assert stand_ins.loaded == ["light", "small", "other", "large"]
    count = len(stand_ins.seen)
    app.selectbox(key="classifier").set_value("small").run()
    app.selectbox(key="detector").set_value("light").run()
    assert labels(app) == [["happy", "surprise"], ["unsure"]]
    assert len(stand_ins.seen) == count


def test_models_are_loaded_once_for_all_users_who_do_not_see_each_other(stand_ins: Models) -> None:
    one, other = page(("a.png", photo())), page()
    assert stand_ins.loaded == ["light", "small"]
    set_percent(one, "threshold", 41)
    other.run()
    assert (titles(one), titles(other)) == (["a.png"], ["group.jpg"])
    assert labels(other) == [["happy", "surprise"], ["unsure"]]


def test_a_model_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, device: str | None = None) -> None:
        raise UserError("light: the shipped weights are missing; restore them")

    monkeypatch.setattr(model_zoo, "load_detector", fail)
    for tab in ("Photos", "Compare", "All faces", "Why"):
        app = page(tab=tab)
        assert [error.value for error in app.error] == [
            r"light\: the shipped weights are missing\; restore them"
        ]
        names = [shown.label for shown in app.tabs]
        assert names[:4] == ["Photos", "Compare", "All faces", "Why"]
    assert by_name(app).selectbox(key="detector").options == ["light", "other"]


def test_a_model_that_lacks_its_package_is_not_offered_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models = {
        name: model_zoo.ShippedModel(name, "about", needs=needs)
        for name, needs in (("light", ""), ("other", ""), ("old", "no_such_package"))
    }
    monkeypatch.setattr(model_zoo, "shipped_models", lambda stage: models)
    app = by_name(page(tab="Compare"))
    assert app.selectbox(key="detector").options == ["light", "other"]
    told = captions(app).replace("\\", "")
    assert "Without old: its package no_such_package is not installed; run `make old`." in told
    app.segmented_control(key="stage").set_value("detector").run()
    assert app.selectbox(key="second detector").options == ["other"]


def test_cancelled_photos_wait_until_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, stand_ins: Models
) -> None:
    app = page()
    original = Session.analyze

    def analyze(self: Session, found: Any, choice: Any, *stages: Any) -> None:
        original(self, found, choice, *stages)
        self.cancelled = choice  # what the button does, between two photos

    monkeypatch.setattr(Session, "analyze", analyze)
    upload(app, *((f"{i}.png", photo(shade=i)) for i in range(3)))
    assert titles(app) == ["0.png"]
    assert [text.value for text in app.info] == ["`1.png`: not analysed", "`2.png`: not analysed"]
    assert "2 photos not analysed" in app.warning[0].value
    count = len(stand_ins.seen)
    set_percent(app, "threshold", 41)
    assert len(stand_ins.seen) == count
    monkeypatch.setattr(Session, "analyze", original)
    app.button(key="go on").click().run()
    assert len(titles(app)) == 3 and not app.warning


@pytest.mark.parametrize("quick", [0.0, 0.05, 60.0])
def test_progress_is_shown_once_it_takes_long(
    monkeypatch: pytest.MonkeyPatch, quick: float
) -> None:
    shown = []
    original, detect = analysis.show_progress, Detector.detect

    def show_progress(*arguments: Any) -> Any:
        shown.append(arguments)
        return original(*arguments)

    def slowly(*arguments: Any) -> Any:
        time.sleep(0.03)
        return detect(*arguments)

    app = page()
    monkeypatch.setattr(analysis, "QUICK", quick)
    monkeypatch.setattr(analysis, "show_progress", show_progress)
    monkeypatch.setattr(Detector, "detect", slowly)
    upload(app, *((f"{i}.png", photo(shade=i)) for i in range(4)))
    assert len(shown) == (quick < 60)
    assert len(tiles(app)) == 4 and not app.get("progress")


def test_new_photos_are_analysed_before_the_page_is_drawn(
    monkeypatch: pytest.MonkeyPatch, stand_ins: Models
) -> None:
    app = page()
    when_drawn = []
    original = st.title

    def title(*arguments: Any, **keywords: Any) -> Any:
        when_drawn.append(len(stand_ins.seen))
        return original(*arguments, **keywords)

    monkeypatch.setattr(st, "title", title)
    monkeypatch.setattr(analysis, "QUICK", 60.0)
    by_name(app)
    when_drawn.clear()
    app.selectbox(key="classifier").set_value("large").run()
    assert (when_drawn, len(stand_ins.seen)) == ([2], 3)  # this one comes while it is drawn
    upload(app, ("a.png", photo()), ("b.png", photo(shade=91)))
    assert (when_drawn[1:], len(stand_ins.seen)) == ([3 + 4], 3 + 4)
    assert [name for name, _ in stand_ins.seen[3:]] == ["light", "large"] * 2
    assert labels(app) == [["happy"], ["unsure"]] * 2


def test_the_page_is_drawn_while_a_new_photo_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, waited = threading.Event(), []
    original, detect = st.title, Detector.detect

    def title(*arguments: Any, **keywords: Any) -> Any:
        drawn.set()
        return original(*arguments, **keywords)

    def slowly(*arguments: Any) -> Any:
        waited.append(drawn.wait(30))
        return detect(*arguments)

    app = page()
    monkeypatch.setattr(analysis, "QUICK", 0.0)
    monkeypatch.setattr(st, "title", title)
    monkeypatch.setattr(Detector, "detect", slowly)
    upload(app, *((f"{i}.png", photo(shade=i)) for i in range(3)))
    assert waited == [True] * 3
    assert len(titles(app)) == 3


def test_a_classifier_that_cannot_be_loaded_leaves_the_page_to_choose_another(
    monkeypatch: pytest.MonkeyPatch, stand_ins: Models
) -> None:
    def fail(name: str, device: str | None = None) -> Classifier:
        if name == "large":
            raise UserError("large: is damaged; restore it")
        return stand_ins.classifier(name, device)

    monkeypatch.setattr(model_zoo, "load_classifier", fail)
    app = by_name(page())
    app.selectbox(key="classifier").set_value("large").run()
    upload(app, ("a.png", photo()))
    assert [error.value for error in app.error] == [r"large\: is damaged\; restore it"]
    app.selectbox(key="classifier").set_value("small").run()
    assert labels(app) == [["happy", "surprise"], ["unsure"]] and not app.error


def test_removed_photos_are_forgotten(stand_ins: Models) -> None:
    app = page(("a.png", photo()), ("same.png", photo()), ("b.png", photo(shade=91)))
    assert len(stand_ins.seen) == 2 + 4  # the sample, then two different pictures
    app.button(key="remove 0").click().run()
    assert titles(app) == ["same.png", "b.png"]
    assert len(stand_ins.seen) == 2 + 4
    app.button(key="remove all").click().run()
    assert titles(app) == ["group.jpg"]
    assert kept(app).photos == []
    app.button(key="undo").click().run()
    assert titles(app) == ["same.png", "b.png"]
    assert len(stand_ins.seen) == 2 + 4


def test_many_photos_come_as_pages_of_thumbnails_and_one_table(
    stand_ins: Models, downloads: dict[str, Any]
) -> None:
    app = page(*((f"{i}.png", photo(shade=i)) for i in range(50)))
    assert tiles(app) == [f"{i}.png" for i in range(cards.THUMBNAILS_AT_ONCE)]
    assert answers(app) == ["100 faces in 50 photos: 50 happy, 50 surprise, 50 unsure"]
    count = len(stand_ins.seen)
    assert count == 2 + 2 * 50
    app.pagination(key="page").set_value(2).run()
    assert tiles(app) == [f"{i}.png" for i in range(24, 48)]
    open_tab(app, "All faces")
    assert len(app.dataframe[0].value) == 100
    assert len(downloads["faces.csv"]().splitlines()) == 101
    assert len(stand_ins.seen) == count


def test_a_thumbnail_opens_its_photo_and_leads_to_its_neighbours_and_back() -> None:
    app = page(*((f"{i}.png", photo(shade=i)) for i in range(4)))
    app.button(key="open 1").click().run()
    assert titles(app) == ["1.png"] and not tiles(app)
    app.button(key="Next").click().run()
    app.button(key="Next").click().run()
    assert titles(app) == ["3.png"] and app.button(key="Next").disabled
    app.button(key="Previous").click().run()
    app.button(key="remove 0").click().run()
    assert titles(app) == ["0.png", "1.png", "3.png"]  # few enough to be shown whole
    app.button(key="undo").click().run()
    assert titles(app) == ["2.png"]  # still open
    app.button(key="back").click().run()
    assert len(tiles(app)) == 4


def test_thumbnails_are_found_by_name_and_by_emotion() -> None:
    app = page(*((f"{i}.png", photo(20 if i == 2 else 64, shade=i)) for i in range(4)))
    app.text_input(key="find").set_value("3.P").run()
    assert tiles(app) == ["3.png"]
    app.text_input(key="find").set_value("").run()
    app.pills(key="shows").set_value(["happy"]).run()
    assert tiles(app) == ["0.png", "1.png", "3.png"]
    app.pills(key="shows").set_value(["fear"]).run()
    assert not tiles(app) and "The filter keeps 0 of 4 photos" in captions(app)


def test_new_photos_are_seen_first_wherever_the_page_was() -> None:
    app = page(*((f"{i}.png", photo(shade=i)) for i in range(30)))
    app.pagination(key="page").set_value(2).run()
    upload(app, ("new.png", photo(shade=99)))
    assert tiles(app)[:3] == ["new.png", "0.png", "1.png"]
    app.button(key="open 1").click().run()
    upload(app, ("newer.png", photo(shade=98)))
    assert tiles(app)[0] == "newer.png"


def test_progress_counts_all_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    original = DeltaGenerator.progress

    def progress(self: Any, value: float, text: str) -> Any:
        told.append(text)
        return original(self, value, text)

    app = page()
    monkeypatch.setattr(DeltaGenerator, "progress", progress)
    monkeypatch.setattr(analysis, "QUICK", 0.0)
    upload(app, *((f"{i}.png", photo(shade=i)) for i in range(4)))
    assert told[-1] == "Analysing `3.png` (4 of 4)"
    assert {text.split()[-1] for text in told} == {"4)"}


def test_photos_of_equal_names_are_numbered(downloads: dict[str, Any]) -> None:
    app = page(("a.png", photo()), ("a.png", photo(shade=91)))
    assert titles(app) == ["a.png", "a (2).png"]
    assert {"a.png", "a (2).png"} <= set(downloads)


@pytest.mark.parametrize(
    "name", [":material_delete:.png", "*a* `b` $x$ :red[c] <b>.png", "=1+1.png"]
)
def test_names_reach_the_page_and_its_files_as_they_are(
    name: str, downloads: dict[str, Any]
) -> None:
    app = page((name, photo()), ("bad" + name, b""))
    assert titles(app) == [name]
    assert app.error[0].value.startswith(cards.code("bad" + name))
    open_tab(app, "All faces")
    assert json.loads(downloads["faces.json"]())[0]["source"] == name


def test_a_quotation_mark_in_a_name_survives_the_upload() -> None:
    app = page(("the %22best%22 one.png", photo()))  # as browsers send it
    assert titles(app) == ['the "best" one.png']


def test_many_faces_come_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [Detection(Box(x, y, x + 5, y + 6), 0.9) for y in range(0, 40, 8) for x in range(10)]
    monkeypatch.setattr(Detector, "detect", lambda *_: [many])
    app = page()
    assert len(labels(app)) == cards.FACES_AT_ONCE
    app.pagination[0].set_value(5).run()
    assert len(labels(app)) == 2
    open_tab(app, "Compare")
    assert len(labels(app)) == cards.FACES_AT_ONCE


@pytest.mark.parametrize("tab", ["Photos", "Compare", "Why"])
def test_a_dropped_photo_says_so(monkeypatch: pytest.MonkeyPatch, tab: str) -> None:
    monkeypatch.setattr(sessions, "PHOTO_BYTES", 1)
    monkeypatch.setattr(sessions, "RENDERING_BYTES", 1)
    app = page(*((f"{i}.png", photo(shade=i)) for i in range(3)))
    by_name(open_tab(app, tab))
    if tab != "Photos":
        app.selectbox(key="photo of 3").set_value(2).run()
    told = [text.value for text in [*app.error, *app.info] if "was dropped" in text.value]
    assert len(told) == (2 if tab == "Photos" else 1)
    app.selectbox(key="classifier").set_value("large").run()
    assert not app.exception
    rows = open_tab(app, "All faces").dataframe[0].value
    assert list(rows["photo"]) == ["0.png"] * 2
    app.selectbox(key="classifier").set_value("small").run()
    assert len(app.dataframe[0].value) == 6  # the results of the first classifier stay


def test_table_filters_totals_and_files(downloads: dict[str, Any]) -> None:
    app = page(("a.png", photo()), ("b.png", photo(shade=91)), tab="All faces")
    found = [block.proto.body for block in app.get("html")]
    (totals,) = [body for body in found if 'class="faces totals"' in body]
    assert re.findall(r'share">(\d+)', totals) == ["0", "0", "0", "2", "0", "2", "0", "2"]
    assert all(uri.startswith("data:image/jpeg") for uri in app.dataframe[0].value["crop"])
    app.pills(key="shows").set_value(["happy"]).run()
    assert list(app.dataframe[0].value["face"]) == [1, 1]
    app.text_input(key="find").set_value("b.png").run()
    assert list(app.dataframe[0].value["photo"]) == ["b.png"]
    assert "1 of 4 faces" in captions(app)
    rows = list(csv.DictReader(io.StringIO(downloads["faces.csv"]().decode())))
    assert [(row["source"], row["face"]) for row in rows] == [("b.png", "1")]
    assert len(json.loads(downloads["faces.json"]())) == 1
    with zipfile.ZipFile(io.BytesIO(downloads["annotated.zip"]())) as folder:
        assert folder.namelist() == ["b.png"]


def test_two_classifiers_are_compared(stand_ins: Models) -> None:
    app = page(("a.png", photo()), ("b.png", photo(shade=91)), tab="Compare")
    assert labels(app) == [["happy", "surprise", "happy"], ["unsure", "unsure"]]
    assert "agree on the emotions of 1" in answers(app)[0]
    assert len(alts(app)) == 2
    count = len(stand_ins.seen)
    set_percent(app, "threshold", 50)
    assert "agree on the emotions of 2" in answers(app)[0]
    assert len(stand_ins.seen) == count
    app.selectbox(key="photo of 2").set_value(1).run()
    assert alts(app)[0].startswith("b.png")


def test_two_detectors_are_compared(stand_ins: Models) -> None:
    app = page(("a.png", photo()), tab="Compare")
    app.segmented_control(key="stage").set_value("detector").run()
    assert labels(app) == [["happy", "surprise"] * 2, ["unsure", "not found"]]
    assert "only A finds 1" in answers(app)[0]


def test_one_model_alone_is_compared_with_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ABOUT, "classifier", ("small",))
    app = page(tab="Compare")
    assert "Only one classifier" in app.info[0].value


def test_why_shows_maps_times_and_cards(stand_ins: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    card = {
        "intended_use": "intended",
        "public_test": {"accuracy": 0.5, "n": 7, "confusion": [[1] * 7] * 7},
    }
    monkeypatch.setattr(model_zoo.ShippedModel, "card", lambda self: card)
    app = page(("a.png", photo()), tab="Why")
    assert "What speaks for happy" in [heading.value for heading in app.header]
    assert alts(app) == ["Face 1: which parts speak for happy"]
    assert "no layers" in app.info[0].value
    html = " ".join(block.proto.body for block in app.get("html"))
    assert "find the faces" in html and "intended" not in html
    app.session_state["why"] = "The models"
    app.run()
    html = " ".join(block.proto.body for block in app.get("html"))
    assert "intended" in html and "the small classifier" in captions(app)
    assert any("Not calibrated" in text.value for text in app.markdown)
    app.session_state["why"] = "This face"
    app.run()
    count = len(stand_ins.seen)
    set_percent(app, "threshold", 50)
    assert len(stand_ins.seen) == count  # the map is kept
    (emotion,) = [box for box in app.selectbox if box.label == "Emotion"]
    emotion.set_value("sad").run()
    assert alts(app) == ["Face 1: which parts speak for sad"]


def test_why_shows_the_reliability_diagram_as_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    after = {"ece": 0.02, "reliability": [[0.5, 0.25, 10], [0.9, 0.95, 20]]}
    calibration = {"before": {"ece": 0.1}, "after": after, "pictures": 30, "fitted_on": "some"}
    monkeypatch.setattr(model_zoo.ShippedModel, "card", lambda self: {"calibration": calibration})
    app = page(("a.png", photo()), tab="Why")
    app.session_state["why"] = "The models"
    app.run()
    (diagram,) = [
        found for found in app.get("image") if found.proto.imgs[0].alt.startswith("Relia")
    ]
    assert "says 90%, right 95%" in diagram.proto.imgs[0].alt
    assert diagram.proto.imgs[0].url.startswith("data:image/svg+xml;base64,")
    assert "<svg" not in " ".join(block.proto.body for block in app.get("html"))


def test_why_shows_the_layers_of_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = {"widths": [4, 4, 4, 4], "depths": [1, 1, 1, 1]}
    described = TrainedNetwork("face_resnet", arguments, Normalization(0.5, 0.25))
    state = build_network("face_resnet", arguments).state_dict()
    network = NetworkClassifier(described, state, torch.device("cpu"), "small")
    monkeypatch.setattr(model_zoo, "load_classifier", lambda *_: network)
    monkeypatch.setattr(model_zoo.ShippedModel, "card", lambda self: {})
    app = page(("a.png", photo()), tab="Why")
    layer = app.selectbox(key="layer of small")
    assert layer.options[0] == "stem.0: 4 maps of 48 × 48"
    assert alts(app)[1] == "Feature maps of layer stem.0 for face 1"
    layer.set_value("stages.2").run()
    assert alts(app)[1] == "Feature maps of layer stages.2 for face 1"


def test_downloads_are_what_the_command_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stand_ins: Models, downloads: dict[str, Any]
) -> None:
    uploads = {"a.png": photo(), "b ü.jpg": photo(shade=91), "none.png": photo(20, 20)}
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, data in uploads.items():
        (folder / name).write_bytes(data)
    app = page(*uploads.items())
    set_percent(app, "threshold", 41)
    open_tab(app, "All faces")
    for extension in tables.DOWNLOADS.values():
        out = tmp_path / f"faces{extension}"
        command = ["analyze", str(folder), "--out", str(out), "--threshold", "0.41"]
        assert cli.main([*command, "--annotated", str(tmp_path / "marked")]) == 0
        expected = out.read_text("utf-8").replace(f"{folder}/", "")
        assert timeless(downloads[out.name]().decode()) == timeless(expected)
    rows = list(csv.DictReader(io.StringIO(downloads["faces.csv"]().decode())))
    assert [row["source"] for row in rows] == ["a.png"] * 2 + ["b ü.jpg"] * 2
    assert [row["labels"] for row in rows] == ["happy", ""] * 2
    for name in ("a.png", "b ü.png"):
        shown = Image.open(io.BytesIO(downloads[name]()))
        assert shown.tobytes() == Image.open(tmp_path / "marked" / name).tobytes()


def test_no_photo_touches_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, downloads: dict[str, Any]
) -> None:
    folders: list[Path] = []
    original = tables.open_sink

    def open_sink(path: Path, threshold: float) -> Any:
        assert list(path.parent.iterdir()) == []
        folders.append(path.parent.parent)
        return original(path, threshold)

    monkeypatch.setattr(tables, "open_sink", open_sink)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in ("write_bytes", "write_text"):
        monkeypatch.setattr(Path, name, lambda *_: pytest.fail("written"))
    page(("a.png", photo()), tab="All faces")
    for data in list(downloads.values()):
        data()
    assert folders == [tmp_path] * len(tables.DOWNLOADS)
    assert list(tmp_path.iterdir()) == []


def timeless(text: str) -> str:
    return re.sub(r'"seconds":[\d.e-]+', '"seconds":0', text)


def test_the_quality_in_words_chooses_both_models(stand_ins: Models) -> None:
    app = page(("a.png", photo()))
    app.segmented_control(key="quality").set_value("Faster").run()
    assert "quick" in captions(app)
    assert labels(app) == [["happy"]] and stand_ins.seen[-2:] == [("other", 64), ("large", 1)]


def test_a_sample_of_the_strip_is_analysed_and_the_strip_goes() -> None:
    app = page()
    app.button(key="profile.jpg").click().run()
    assert titles(app) == ["profile.jpg"]
    assert "profile.jpg" not in [button.key for button in app.button]


def test_each_photo_can_be_one_face(stand_ins: Models) -> None:
    app = page(("a.png", photo()))
    app.toggle(key="whole").set_value(True).run()
    assert labels(app) == [["happy", "surprise"]]
    assert stand_ins.seen[-1] == ("small", 1)
    assert "--no-detector" in open_tab(app, "All faces").code[0].value


def test_settings_stand_in_the_address_and_come_from_it() -> None:
    app = page(("a.png", photo()))
    set_percent(app, "threshold", 41)
    assert app.query_params["threshold"] in ("41", ["41"])
    again = AppTest.from_file(str(APP), default_timeout=60)
    for name, value in {"threshold": "41", "quality": "Faster", "tab": "All faces"}.items():
        again.query_params[name] = value
    again.run()
    assert not again.exception
    assert [slider["value"] for slider in percents(again)] == [41]
    set_percent(app, "threshold", 30)
    assert "threshold" not in app.query_params


@pytest.mark.parametrize("value", ["-3", "abc", "1e2", "9999", "²"])
def test_a_threshold_in_the_address_that_is_none_is_ignored(value: str) -> None:
    app = AppTest.from_file(str(APP), default_timeout=60)
    app.query_params["threshold"] = value
    app.run()
    assert not app.exception and percents(app)[-1]["value"] == 30


def fetch(app: AppTest, url: str) -> AppTest:
    box = next(text for text in app.text_input if str(text.key).startswith("address"))
    box.set_value(url).run()
    assert not app.exception
    return app


def test_a_photo_comes_from_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch_image(url: str, limits: Limits) -> bytes:
        asked.append(url)
        return photo()

    monkeypatch.setattr(intake, "fetch_image", fetch_image)
    app = fetch(page(), " https://example.org/a%20b.png?x=1 ")
    assert titles(app) == ["a b.png"]
    assert asked == ["https://example.org/a%20b.png?x=1"]


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("http://127.0.0.1/a.png", "not on the public internet"),
        ("http://[::1]:8501/", "not on the public internet"),
        ("file:///etc/passwd", "neither http nor https"),
    ],
)
def test_an_address_that_is_not_public_is_refused_in_words(url: str, cause: str) -> None:
    app = fetch(page(), url)
    assert cause in app.error[0].value and titles(app) == ["group.jpg"]
    upload(app, ("a.png", photo()))
    assert not app.error


def test_a_report_holds_photos_boxes_and_cards_and_needs_nothing_else(
    downloads: dict[str, Any],
) -> None:
    page(("<b>.png", photo()), ("b.png", photo(shade=91)), tab="All faces")
    text = downloads["faces.html"]().decode()
    assert text.count('class="stage"') == 2 and text.count('<li class="card"') == 4
    assert "4 faces in 2 photos" in text and "&lt;b&gt;.png" in text and "<b>.png" not in text
    assert set(re.findall(r'(?:src|href)="(\w+):', text)) == {"data"}


def test_a_correction_is_kept_shown_exported_and_sent(
    monkeypatch: pytest.MonkeyPatch, downloads: dict[str, Any]
) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(corrections, "send", lambda *arguments: sent.append(arguments))
    app = page(("a.png", photo()))
    (analysed,) = kept(app).photos
    monkeypatch.setenv("TWOSTAGE_SERVICE_URL", "http://service:1/")
    monkeypatch.setenv("TWOSTAGE_TOKEN", "secret")
    found = kept(app).known(analysed, kept(app).choice)  # type: ignore[arg-type]
    with monkeypatch.context() as inside:
        inside.setattr(feedback, "session", lambda: kept(app))
        feedback.correct(analysed, kept(app).choice, found.result, 2, "sad")  # type: ignore
    app.run()
    assert "1 correction in `a.png`" in captions(app)
    (cards_shown,) = [one["html"] for one in components(app) if "html" in one]
    assert "<option selected>sad</option>" in cards_shown
    assert [(one.label, *where) for one, *where in sent] == [("sad", "http://service:1", "secret")]
    open_tab(app, "All faces")
    with zipfile.ZipFile(io.BytesIO(downloads["corrections.zip"]())) as folder:
        assert folder.namelist() == [f"sad/{analysed.digest}-2.png", "manifest.csv"]
