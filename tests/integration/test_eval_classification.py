"""eval.classification from command line to report, with a classifier whose answers are known."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage

import eval.classification
from classification.data.fer2013 import SPLITS
from eval.data import crop_folders, options
from faces.emotions import EMOTIONS
from faces.pipeline import Image

STEP = 30


def shade(emotion: str) -> int:
    return STEP * EMOTIONS.index(emotion) + STEP // 2


class ShadeClassifier:
    """Reads the emotion off the grey value of the crop's centre; remembers what it was shown."""

    dtype = "torch.bfloat16"

    def __init__(self, name: str) -> None:
        self.name = name
        self.shapes: list[tuple[int, ...]] = []
        self.batches: list[int] = []

    def probabilities(self, crops: Sequence[Image]) -> NDArray[np.float32]:
        self.batches.append(len(crops))
        for crop in crops:
            assert crop.dtype == np.uint8 and crop.ndim == 3 and crop.shape[0] == crop.shape[1]
            self.shapes.append(crop.shape)
        centres = [int(crop[crop.shape[0] // 2, crop.shape[1] // 2].mean()) for crop in crops]
        return np.eye(7, dtype=np.float32)[[centre // STEP for centre in centres]]


class BrokenClassifier:
    name = "broken"

    def probabilities(self, crops: Sequence[Image]) -> NDArray[np.float32]:
        return np.full((len(crops), 7), np.nan, np.float32)


@pytest.fixture(autouse=True)
def classifiers(monkeypatch: pytest.MonkeyPatch) -> list[ShadeClassifier]:
    made: list[ShadeClassifier] = []

    def load(names: Sequence[str], device: str | None) -> list[Any]:
        made[:] = [ShadeClassifier(name) for name in names if name != "broken"]
        return [*made, *(BrokenClassifier() for name in names if name == "broken")]

    monkeypatch.setattr(options, "load_classifiers", load)
    monkeypatch.setattr(
        "twostage.model_zoo.classifier_facts", lambda name: {"weights_sha256": {name: "0"}}
    )
    return made


Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def call(data: Path, *arguments: str, classifier: str = "shade") -> int:
        out = tmp_path / "out" / "r.json"
        options = ["--data", str(data), "--classifier", classifier, "--out", str(out)]
        return eval.classification.main([*options, *arguments])

    return call


def report(tmp_path: Path) -> Any:
    return json.loads((tmp_path / "out" / "r.json").read_text())


def picture(emotion: str, size: tuple[int, int] = (20, 20), mode: str = "RGB") -> PillowImage.Image:
    return PillowImage.new("L", size, shade(emotion)).convert(mode)


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """Three happy faces, one of which looks sad; two sad ones; of several sizes and kinds."""
    root = tmp_path / "crops"
    for name, image in {
        "Happy/a.png": picture("happy"),
        "Happy/b.jpg": picture("happy", (30, 50)),
        "happiness/c.png": picture("sad", (64, 48), "L"),
        "SADNESS/d.webp": picture("sad", (48, 48)),
        "SADNESS/e.png": picture("sad", (9, 3), "LA"),
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(root / name)
    return root


def test_metrics_of_a_plain_folder_equal_those_by_hand(
    tmp_path: Path,
    crops: Path,
    run: Run,
    classifiers: list[ShadeClassifier],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(crops) == 0
    got = report(tmp_path)
    assert (got["classifier"], got["n"], got["views"], got["split"]) == ("shade", 5, "single", None)
    assert got["accuracy"] == 0.8
    assert got["macro_f1"] == pytest.approx((0.8 + 0.8) / 2)
    assert got["balanced_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    happy = got["per_class"]["happy"]
    assert happy == {"precision": 1, "recall": 2 / 3, "f1": pytest.approx(0.8), "support": 3}
    absent = {"precision": None, "recall": None, "f1": None, "support": 0}
    assert got["per_class"]["fear"] == absent
    expected = np.zeros((7, 7), int)
    expected[3, 3], expected[3, 4], expected[4, 4] = 2, 1, 2
    assert got["confusion"] == expected.tolist()
    assert got["classes"] == list(EMOTIONS)
    assert got["accuracy_ci"] == pytest.approx([0.3755, 0.9638], abs=1e-4)
    assert got["ms_per_face"] > 0
    assert got["precision"] == "bfloat16"
    assert got["unreadable"] == 0
    shown = classifiers[0]
    assert shown.batches == [5, 5]  # warm-up, then the batch that counts
    assert sorted({shape[0] for shape in shown.shapes}) == [9, 20, 48, 50, 64]
    out = capsys.readouterr().out
    assert "80.00 %" in out and "surprise" in out


def test_a_zip_gives_the_same(tmp_path: Path, crops: Path, run: Run) -> None:
    assert run(crops) == 0
    expected = report(tmp_path)
    with zipfile.ZipFile(tmp_path / "crops.zip", "w") as archive:
        for path in sorted(crops.rglob("*.*")):
            archive.write(path, f"wrapped/{path.relative_to(crops)}")
    assert run(tmp_path / "crops.zip") == 0
    changing = {"data", "ms_per_face", "command"}
    assert {k: v for k, v in report(tmp_path).items() if k not in changing} == {
        k: v for k, v in expected.items() if k not in changing
    }


@pytest.mark.parametrize(("views", "factor"), [("single", 1), ("flip", 2), ("ten", 10)])
def test_views_are_averaged(
    tmp_path: Path,
    crops: Path,
    run: Run,
    classifiers: list[ShadeClassifier],
    views: str,
    factor: int,
) -> None:
    assert run(crops, "--views", views) == 0
    assert report(tmp_path)["views"] == views
    assert report(tmp_path)["accuracy"] == 0.8
    assert classifiers[0].batches == [5 * factor] * 2


def test_each_classifier_gets_a_row(tmp_path: Path, crops: Path, run: Run) -> None:
    assert run(crops, "--classifier", "b", "c", classifier="a") == 0
    assert [r["classifier"] for r in report(tmp_path)["runs"]] == ["a", "b", "c"]


def test_unreadable_images_are_named_and_counted(
    tmp_path: Path, crops: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    (crops / "Happy" / "empty.png").write_bytes(b"")
    (crops / "Happy" / "text.jpg").write_text("no picture")
    assert run(crops) == 1
    assert (report(tmp_path)["n"], report(tmp_path)["unreadable"]) == (5, 2)
    errors = [x for x in capsys.readouterr().err.splitlines() if x.startswith("eval.")]
    assert "empty.png" in errors[0] and "text.jpg" in errors[1] and errors[2].endswith(": 2")


def test_unknown_folders_exit_2_unless_ignored(
    tmp_path: Path, crops: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    (crops / "contempt").mkdir()
    picture("happy").save(crops / "contempt" / "x.png")
    assert run(crops) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "contempt" in error and "--ignore-class" in error
    assert run(crops, "--ignore-class", "Contempt") == 0
    assert report(tmp_path)["ignored"] == {"contempt": 1}


def test_memory_stays_flat_with_large_crops(
    crops: Path, run: Run, classifiers: list[ShadeClassifier], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crop_folders, "BATCH_PIXELS", 50 * 50)
    assert run(crops) == 0
    assert max(classifiers[0].batches) == 2
    assert sum(classifiers[0].batches[1:]) == 5


# --- FER2013

PARTS = {"Training": ["happy", "sad"], "PublicTest": ["fear"] * 3, "PrivateTest": ["angry", "sad"]}


def as_csv(parts: dict[str, list[str]]) -> str:
    rows = ["emotion,Usage,pixels"]
    for part, emotions in parts.items():
        for emotion in emotions:
            pixels = " ".join([str(shade(emotion))] * 48 * 48)
            rows.append(f"{EMOTIONS.index(emotion)},{part},{pixels}")
    return "\n".join(rows) + "\n"


def as_folder(root: Path, parts: dict[str, list[str]]) -> Path:
    for part, emotions in parts.items():
        for number, emotion in enumerate(emotions):
            folder = root / ("train" if part == "Training" else "test") / emotion
            folder.mkdir(parents=True, exist_ok=True)
            picture(emotion, (48, 48), "L").save(folder / f"{part}_{number}.png")
    return root


@pytest.fixture(params=["csv", "folder", "zip"])
def fer2013(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "csv":
        path = tmp_path / "fer2013.csv"
        path.write_text(as_csv(PARTS))
        return path
    folder = as_folder(tmp_path / "fer2013", PARTS)
    if request.param == "folder":
        return folder
    with zipfile.ZipFile(tmp_path / "fer2013.zip", "w") as archive:
        for path in folder.rglob("*.png"):
            archive.write(path, path.relative_to(folder))
    return tmp_path / "fer2013.zip"


@pytest.mark.parametrize("split", SPLITS)
def test_each_part_of_fer2013_is_measured_in_every_form(
    tmp_path: Path, fer2013: Path, run: Run, split: str
) -> None:
    assert run(fer2013, "--split", split) == 0
    got = report(tmp_path)
    assert (got["n"], got["split"], got["accuracy"]) == (len(PARTS[split]), split, 1)
    assert got["official"] is False
    assert len(got["fingerprint"]) == 64


def test_public_test_is_the_default(
    tmp_path: Path, fer2013: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(fer2013) == 0
    assert (report(tmp_path)["split"], report(tmp_path)["n"]) == ("PublicTest", 3)
    assert "not the official FER2013 PublicTest" in capsys.readouterr().err


def test_the_only_part_is_the_default(tmp_path: Path, run: Run) -> None:
    only = as_folder(tmp_path / "x", {"PrivateTest": ["sad"]})
    assert run(only) == 0
    assert report(tmp_path)["split"] == "PrivateTest"


def test_a_plain_folder_of_its_images_is_measured_whole_unless_asked(
    tmp_path: Path, run: Run
) -> None:
    test = (
        as_folder(tmp_path / "x", {"PublicTest": ["sad"], "PrivateTest": ["sad", "fear"]}) / "test"
    )
    (test / "sad" / "broken.png").write_bytes(b"")
    assert run(test) == 1
    assert (report(tmp_path)["n"], report(tmp_path)["split"]) == (3, None)
    (test / "sad" / "broken.png").unlink()
    assert run(test, "--split", "PrivateTest") == 0
    assert (report(tmp_path)["n"], report(tmp_path)["split"]) == (2, "PrivateTest")


def test_a_part_that_is_not_there_exits_2_with_one_line(
    tmp_path: Path, crops: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    several = {"Training": ["sad"], "PrivateTest": ["sad"]}
    folder = as_folder(tmp_path / "x", several)
    for data, arguments, cause in [
        (folder, [], "--split Training or PrivateTest"),
        (folder, ["--split", "PublicTest"], "no image of PublicTest, only of Training"),
        (folder, ["--ignore-class", "sad"], "--ignore-class is for plain"),
        (crops, ["--split", "PublicTest"], "leave --split out"),
    ]:
        capsys.readouterr()
        assert run(data, *arguments) == 2
        lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("eval.")]
        assert len(lines) == 1 and cause in lines[0]


def test_bad_data_exit_2_with_one_line(
    tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str], crops: Path
) -> None:
    broken = tmp_path / "broken.csv"
    broken.write_text("emotion,pixels\n0,1 2 3\n")
    empty = tmp_path / "empty"
    (empty / "happy").mkdir(parents=True)
    unreadable = tmp_path / "unreadable"
    (unreadable / "happy").mkdir(parents=True)
    (unreadable / "happy" / "a.png").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "table.zip", "w") as archive:
        archive.writestr("a/other.csv", "emotion,pixels\n")
    (tmp_path / "x.rar").write_bytes(b"Rar!")
    for data, arguments, cause in [
        (tmp_path / "none", [], "none: no such file or folder"),
        (broken, [], "lacks the column"),
        (tmp_path / "table.zip", [], "lacks the column"),
        (empty, [], "holds no image"),
        (tmp_path / "x.rar", [], "neither a folder nor a readable zip"),
        (crops, ["--out", str(tmp_path)], "is a folder"),
        (crops, ["--classifier", "broken"], "broken: gives probabilities that are not finite"),
        (unreadable, [], "not one of its images can be read (1 failed)"),
    ]:
        capsys.readouterr()
        assert run(data, *arguments) == 2, cause
        lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("eval.")]
        assert cause in lines[-1], lines


def test_reading_from_a_zip_counts_damaged_members(tmp_path: Path, run: Run) -> None:
    buffer = io.BytesIO()
    picture("happy").save(buffer, "png")
    path = tmp_path / "crops.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("happy/a.png", buffer.getvalue())
        archive.writestr("happy/b.png", b"0123456789")
    path.write_bytes(path.read_bytes().replace(b"0123456789", b"012345678X"))
    assert run(path) == 1
    assert (report(tmp_path)["n"], report(tmp_path)["unreadable"]) == (1, 1)
