from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import twostage.model_zoo
from eval.data import options
from eval.data.annotated import locate
from faces.coco import load_coco
from faces.command import UserError


def test_models_of_one_name_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, device: str | None = None) -> Any:
        return SimpleNamespace(name=name.rpartition("/")[2], device=device)

    monkeypatch.setattr(twostage.model_zoo, "load_detector", load)
    monkeypatch.setattr(twostage.model_zoo, "load_classifier", load)
    for function in (options.load_detectors, options.load_classifiers):
        models: Sequence[Any] = function(["a/run", "b/run", "c"], "cpu")
        assert [model.name for model in models] == ["run", "b/run", "c"]
        assert {model.device for model in models} == {"cpu"}


def test_what_cannot_be_loaded_is_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, device: str | None = None) -> Any:
        raise UserError(f"{name}: damaged")

    monkeypatch.setattr(twostage.model_zoo, "load_detector", load)
    with pytest.raises(UserError, match="x: damaged"):
        options.load_detectors(["x"], None)


def test_the_most_likely_emotion() -> None:
    classifier: Any = SimpleNamespace(name="net")
    scores = np.array([[0.1, 0.9], [0.5, 0.5]], np.float32)
    assert options.top_emotions(classifier, scores).tolist() == [1, 0]
    assert options.top_emotions(classifier, np.zeros((0, 7), np.float32)).tolist() == []
    with pytest.raises(UserError, match="net: gives probabilities that are not finite"):
        options.top_emotions(classifier, np.array([[0.1, np.nan]], np.float32))


def truth_of(folder: Path, *names: str) -> Path:
    images = [{"id": i, "file_name": name} for i, name in enumerate(names)]
    face = {"id": 0, "image_id": 0, "category_id": 0, "bbox": [1, 2, 3, 4]}
    kinds = [{"id": 0, "name": "face"}]
    document = {"images": images, "annotations": [face], "categories": kinds}
    (folder / "truth.json").write_text(json.dumps(document))
    return folder / "truth.json"


def test_pictures_of_a_folder_lie_where_the_file_says(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.jpg").write_text("")
    (tmp_path / ".hidden.jpg").write_text("")
    truth = load_coco(truth_of(tmp_path, "./sub/a.jpg", ".hidden.jpg"))
    assert locate(truth, tmp_path).names == {0: "sub/a.jpg", 1: ".hidden.jpg"}
    with pytest.raises(UserError, match=r"lacks 1 of the 1 .*: a\.jpg;.*--images"):
        locate(load_coco(truth_of(tmp_path, "a.jpg")), tmp_path)


def test_pictures_of_a_zip_lie_in_any_one_folder(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in ("one/images/a.jpg", "one/b.jpg", "two/b.jpg"):
            archive.writestr(name, "")
    names = locate(load_coco(truth_of(tmp_path, "a.jpg", "two/b.jpg")), tmp_path / "x.zip").names
    assert names == {0: "one/images/a.jpg", 1: "two/b.jpg"}
    with pytest.raises(UserError, match=r"more than once \(one/b.jpg, two/b.jpg\)"):
        locate(load_coco(truth_of(tmp_path, "b.jpg")), tmp_path / "x.zip")
    with pytest.raises(UserError, match="lacks 4 of the 4"):
        locate(load_coco(truth_of(tmp_path, *"cdef")), tmp_path / "x.zip")
