"""The page, driven without a browser, with stand-ins for the models."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
from numpy.typing import NDArray
from PIL import Image
from streamlit.runtime.media_file_manager import MediaFileManager
from streamlit.testing.v1 import AppTest

from demo import views
from faces.paths import PICTURE_SUFFIXES
from faces.types import Box, Detection
from twostage import cli, models

APP = Path(views.__file__).with_name("app.py")
PICTURES = NDArray[np.uint8]
ABOUT = {"detector": ("light", "other"), "classifier": ("small", "large")}


class Models:
    """Stand-ins for the models, which count what they are asked."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.seen: list[tuple[str, int]] = []

    def detector(self, name: str, device: str | None = None) -> Detector:
        self.loaded.append(name)
        return Detector(name, self.seen)

    def classifier(self, name: str, device: str | None = None) -> Classifier:
        self.loaded.append(name)
        return Classifier(name, self.seen)


class Detector:
    """Finds two faces in pictures at least 40 pixels wide; the one called other, the first only."""

    score_threshold = 0.5

    def __init__(self, name: str, seen: list[tuple[str, int]]) -> None:
        self.name = name
        self.seen = seen

    def detect(
        self, images: Sequence[PICTURES], min_score: float | None = None
    ) -> list[list[Detection]]:
        self.seen += [(self.name, image.shape[1]) for image in images]
        found = [Detection(Box(2, 3, 22, 28), 0.9), Detection(Box(20, 3, 38, 25), 0.7)]
        found = found[: 1 if self.name == "other" else 2]
        return [list(found) if image.shape[1] >= 40 else [] for image in images]


class Classifier:
    """Calls the first face happy and surprised, the others nothing clear."""

    def __init__(self, name: str, seen: list[tuple[str, int]]) -> None:
        self.name = name
        self.seen = seen

    def scores(self, crops: Sequence[PICTURES]) -> NDArray[np.float32]:
        self.seen.append((self.name, len(crops)))
        rows = np.full((len(crops), 7), 1 / 7, np.float32)
        rows[:1] = [0, 0, 0, 0.6, 0, 0.4, 0]
        return rows


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> Iterator[Models]:
    st.cache_resource.clear()
    found = Models()
    monkeypatch.setattr(models, "load_detector", found.detector)
    monkeypatch.setattr(models, "load_classifier", found.classifier)
    monkeypatch.setattr(
        models,
        "shipped_models",
        lambda stage: {n: models.ShippedModel(n, f"the {n} {stage}") for n in ABOUT[stage]},
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


def page(*uploads: tuple[str, bytes]) -> AppTest:
    app = AppTest.from_file(str(APP), default_timeout=60).run()
    assert not app.exception
    return upload(app, *uploads) if uploads else app


def upload(app: AppTest, *uploads: tuple[str, bytes]) -> AppTest:
    app.file_uploader(key="uploads").set_value([(n, data, "image/png") for n, data in uploads])
    app.run()
    assert not app.exception
    return app


def photo(width: int = 64, height: int = 48, shade: int = 90) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (shade, 120, 150)).save(file, "PNG")
    return file.getvalue()


def titles(app: AppTest) -> list[str]:
    return [heading.value for heading in app.subheader]


def labels(app: AppTest) -> list[list[str]]:
    """The labels of each card on the page."""
    cards = [card for block in app.get("html") for card in block.proto.body.split("<li>")[1:]]
    return [re.findall(r'class="label[^>]*>(?:<i[^>]*></i>)?(\w+)', card) for card in cards]


def alts(app: AppTest) -> list[str]:
    return [picture.proto.imgs[0].alt for picture in app.get("image")]


def test_first_view_shows_the_sample_analysed(stand_ins: Models) -> None:
    app = page()
    assert titles(app) == [r"group\.jpg", "All faces"]
    assert labels(app) == [["happy", "surprise"], ["unsure"]]
    assert alts(app) == ["group.jpg with 2 faces, face 1 happy and surprise, face 2 unsure"]
    assert len(app.dataframe[0].value) == 2
    assert stand_ins.seen == [("light", 1260), ("small", 2)]
    told = " ".join(text.value for text in [*app.caption, *app.markdown])
    assert "not kept" in told and "decisions about people" in told
    assert "the light detector" in told and "the small classifier" in told


def test_uploads_take_the_place_of_the_sample_in_their_order(stand_ins: Models) -> None:
    app = page(("b *.png", photo()), ("a.png", photo(shade=91)))
    assert titles(app) == [r"b \*\.png", r"a\.png", "All faces"]
    assert labels(app) == [["happy", "surprise"], ["unsure"]] * 2
    assert list(app.dataframe[0].value["photo"]) == ["b *.png"] * 2 + ["a.png"] * 2
    assert list(app.dataframe[0].value["shows"]) == ["happy, surprise", "unsure"] * 2
    assert len(stand_ins.loaded) == 2


def test_every_readable_kind_can_be_uploaded() -> None:
    app = page()
    assert app.file_uploader(key="uploads").accept_multiple_files
    assert set(app.file_uploader(key="uploads").allowed_type) >= PICTURE_SUFFIXES


def test_a_bad_file_gets_its_sentence_and_the_rest_goes_on(stand_ins: Models) -> None:
    app = page(("cut.png", photo()[:60]), ("good.png", photo()), ("empty.jpg", b""))
    assert [title for title in titles(app)] == [r"good\.png", "All faces"]
    assert len(app.error) == 2
    assert app.error[0].value.startswith(r"cut\.png\: ")
    assert "is empty" in app.error[1].value
    app.slider(key="threshold").set_value(50).run()
    assert len(app.error) == 2
    assert len(stand_ins.seen) == 2 + 2  # the sample and the good one


def test_only_bad_files() -> None:
    app = page(("empty.jpg", b""))
    assert len(app.error) == 1
    assert titles(app) == []


def test_a_photo_without_faces_says_what_to_try(downloads: dict[str, Any]) -> None:
    app = page(("small.png", photo(20, 20)))
    assert "No face found. Try" in app.info[0].value
    assert alts(app) == ["small.png with 0 faces"]
    assert labels(app) == []
    assert json.loads(downloads["faces.json"]())[0]["faces"] == []


def test_the_slider_changes_labels_without_a_model(stand_ins: Models) -> None:
    app = page(("a.png", photo()))
    before = list(stand_ins.seen)
    picture = app.get("image")[0].proto.imgs[0].url
    app.slider(key="threshold").set_value(41).run()
    assert labels(app) == [["happy"], ["unsure"]]
    assert list(app.dataframe[0].value["shows"]) == ["happy", "unsure"]
    assert alts(app) == ["a.png with 2 faces, face 1 happy, face 2 unsure"]
    assert app.get("image")[0].proto.imgs[0].url != picture
    app.slider(key="threshold").set_value(61).run()
    assert labels(app) == [["unsure"], ["unsure"]]
    assert stand_ins.seen == before
    assert len(stand_ins.loaded) == 2


def test_models_are_chosen_and_their_analyses_kept(stand_ins: Models) -> None:
    app = page(("a.png", photo()))
    app.selectbox(key="detector").set_value("other").run()
    assert labels(app) == [["happy", "surprise"]]
    assert "the other detector" in [text.value for text in app.caption]
    app.selectbox(key="classifier").set_value("large").run()
    assert stand_ins.seen[-2:] == [("other", 64), ("large", 1)]
    assert stand_ins.loaded == ["light", "small", "other", "large"]
    count = len(stand_ins.seen)
    app.selectbox(key="classifier").set_value("small").run()
    app.selectbox(key="detector").set_value("light").run()
    assert labels(app) == [["happy", "surprise"], ["unsure"]]
    assert len(stand_ins.seen) == count


def test_models_are_loaded_once_for_all_users(stand_ins: Models) -> None:
    page()
    page()
    assert stand_ins.loaded == ["light", "small"]


def test_a_model_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, device: str | None = None) -> None:
        raise models.ModelError("light: the shipped weights are missing; restore them")

    monkeypatch.setattr(models, "load_detector", fail)
    app = page()
    assert [error.value for error in app.error] == [
        r"light\: the shipped weights are missing\; restore them"
    ]


def test_removed_photos_are_forgotten(stand_ins: Models) -> None:
    app = page(("a.png", photo()), ("same.png", photo()), ("b.png", photo(shade=91)))
    assert len(app.session_state["analyses"]) == 2
    assert len(stand_ins.seen) == 2 + 4  # the sample, then two different pictures
    upload(app, ("b.png", photo(shade=91)))
    assert len(app.session_state["analyses"]) == len(app.session_state["digests"]) == 1
    assert len(stand_ins.seen) == 2 + 4
    upload(app)
    assert titles(app) == [r"group\.jpg", "All faces"]
    assert len(app.session_state["analyses"]) == 1


def test_many_photos_come_in_pages_and_one_table(stand_ins: Models) -> None:
    app = page(*((f"{i}.png", photo(shade=i)) for i in range(views.PHOTOS_AT_ONCE + 2)))
    assert len(titles(app)) == views.PHOTOS_AT_ONCE + 1
    assert len(app.dataframe[0].value) == 2 * (views.PHOTOS_AT_ONCE + 2)
    count = len(stand_ins.seen)
    app.get("pagination")[0].set_value(2).run()
    assert titles(app) == [r"5\.png", r"6\.png", "All faces"]
    assert len(stand_ins.seen) == count


def test_downloads_are_what_the_command_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stand_ins: Models, downloads: dict[str, Any]
) -> None:
    monkeypatch.setattr(cli, "load_detector", stand_ins.detector)
    monkeypatch.setattr(cli, "load_classifier", stand_ins.classifier)
    uploads = {"a.png": photo(), "b ü.jpg": photo(shade=91), "none.png": photo(20, 20)}
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, data in uploads.items():
        (folder / name).write_bytes(data)
    app = page(*uploads.items())
    app.slider(key="threshold").set_value(41).run()
    for extension in views.DOWNLOADS.values():
        out = tmp_path / f"faces{extension}"
        command = ["analyze", str(folder), "--out", str(out), "--threshold", "0.41"]
        assert cli.main([*command, "--annotated", str(tmp_path / "marked")]) == 0
        expected = out.read_text("utf-8").replace(f"{folder}/", "")
        assert timeless(downloads[out.name]().decode()) == timeless(expected)
    rows = list(csv.DictReader(io.StringIO(downloads["faces.csv"]().decode())))
    assert [row["source"] for row in rows] == ["a.png"] * 2 + ["b ü.jpg"] * 2
    assert [row["labels"] for row in rows] == ["happy", ""] * 2
    for name in ("a.png", "b ü.png"):
        assert downloads[name]() == (tmp_path / "marked" / name).read_bytes()


def test_no_photo_touches_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, downloads: dict[str, Any]
) -> None:
    folders: list[Path] = []
    original = views.open_sink

    def open_sink(path: Path, threshold: float) -> Any:
        assert list(path.parent.iterdir()) == []
        folders.append(path.parent.parent)
        return original(path, threshold)

    monkeypatch.setattr(views, "open_sink", open_sink)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in ("write_bytes", "write_text"):
        monkeypatch.setattr(Path, name, lambda *_: pytest.fail("written"))
    page(("a.png", photo()))
    for data in list(downloads.values()):
        data()
    assert folders == [tmp_path] * len(views.DOWNLOADS)
    assert list(tmp_path.iterdir()) == []


def timeless(text: str) -> str:
    return re.sub(r'"seconds":[\d.e-]+', '"seconds":0', text)
