"""Corrections as files and on their way to a service, held against the service itself."""

from __future__ import annotations

import csv
import io
import zipfile

import pytest

from demo import corrections
from demo.corrections import Correction
from faces.command import UserError
from faces.emotions import EMOTIONS


def correction(label: str = "sad", face: int = 1) -> Correction:
    return Correction("0" * 32, face, label, b"png", "happy", "blend", "haar", 12.5)


def test_the_columns_are_those_of_the_service_s_export() -> None:
    export = pytest.importorskip("service.export")
    assert corrections.COLUMNS == export.COLUMNS
    assert corrections.NOT_A_FACE == export.NOT_A_FACE


def test_an_archive_has_a_folder_per_emotion_and_a_manifest_of_all() -> None:
    said = [correction(), correction("not a face", 2)]
    with zipfile.ZipFile(io.BytesIO(corrections.archive(said))) as folder:
        assert folder.namelist() == [f"sad/{'0' * 32}-1.png", "manifest.csv"]
        assert folder.read(folder.namelist()[0]) == b"png"
        rows = list(csv.DictReader(io.StringIO(folder.read("manifest.csv").decode())))
    assert [(row["file"], row["label"], row["not_a_face"]) for row in rows] == [
        (f"sad/{'0' * 32}-1.png", "sad", "0.0"),
        ("", "not a face", "1.0"),
    ]
    assert [rows[0][name] for name in EMOTIONS] == ["0.0"] * 4 + ["1.0"] + ["0.0"] * 2
    assert rows[0]["predicted"] == "happy" and rows[0]["time"] == "12.5"


def test_a_service_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match=r"v1/predict: no answer"):
        corrections.send(correction(), "http://127.0.0.1:9")
