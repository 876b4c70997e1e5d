from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import twostage.model_zoo
from eval.data import options
from faces.coco import AnnotatedImage, GroundTruth, GroundTruthFace
from faces.command import UserError
from faces.types import Box


def test_models_of_one_name_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, device: str | None = None, *options: object) -> Any:
        return SimpleNamespace(name=name.rpartition("/")[2], device=device)

    monkeypatch.setattr(twostage.model_zoo, "load_detector", load)
    monkeypatch.setattr(twostage.model_zoo, "load_classifier", load)
    for function in (options.load_detectors, options.load_classifiers):
        models: Sequence[Any] = function(["a/run", "b/run", "c"], "cpu")
        assert [model.name for model in models] == ["run", "b/run", "c"]
        assert {model.device for model in models} == {"cpu"}


def test_what_cannot_be_loaded_is_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, device: str | None = None, *options: object) -> Any:
        raise UserError(f"{name}: damaged")

    monkeypatch.setattr(twostage.model_zoo, "load_detector", load)
    with pytest.raises(UserError, match="x: damaged"):
        options.load_detectors(["x"], None)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "x", "10001", ""])
def test_a_number_out_of_range_exits_2_with_one_line(
    capsys: pytest.CaptureFixture[str], text: str
) -> None:
    def add_options(parser: ArgumentParser) -> None:
        parser.add_argument("--count", type=options.positive)

    command = options.Command("eval.x", "", add_options, lambda arguments: arguments.count)
    assert command(["--count", "10000"]) == 10_000
    assert command([f"--count={text}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("eval.x: argument --count: expected a whole number from 1 to 10000")
    assert error.count("\n") == 1


def test_probabilities_that_are_not_finite_are_refused() -> None:
    options.check_finite(np.array([[0.1, 0.9]], np.float32), "net")
    options.check_finite(np.zeros((0, 7), np.float32), "net")
    for value in (np.nan, np.inf):
        with pytest.raises(UserError, match="net: gives probabilities that are not finite"):
            options.check_finite(np.array([[0.1, value]], np.float32), "net")


def test_a_new_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with options.new_folder(tmp_path / "a" / "out") as folder:
        (folder / "x").write_text("x")
        assert not (tmp_path / "a" / "out").exists()
    assert (tmp_path / "a" / "out" / "x").read_text() == "x"
    with pytest.raises(RuntimeError), options.new_folder(tmp_path / "a" / "other"):
        raise RuntimeError
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["out"]
    with pytest.raises(UserError, match="exists already"), options.new_folder(tmp_path / "a"):
        pass


def test_ground_truth_without_a_face_is_refused() -> None:
    image = AnnotatedImage(
        1, "a.png", None, False, (GroundTruthFace(Box(0, 0, 9, 9), "face", True),)
    )
    truth = GroundTruth(Path("t.json"), (image,), "")
    with pytest.raises(UserError, match=r"t\.json: has no face to find"):
        options.check_truth(truth, "x")


def test_dropped_annotations_are_counted_and_one_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = AnnotatedImage(
        1, "a.png", None, False, (GroundTruthFace(Box(0, 0, 9, 9), "face", False),)
    )
    truth = GroundTruth(Path("t.json"), (image,), "", ("box 7 has no area", "box 9 has no area"))
    assert options.check_truth(truth, "x") is truth
    assert capsys.readouterr().err == (
        "x: t.json: annotations dropped: 2, the first: box 7 has no area\n"
    )
