"""eval.joint from the command line to the report, with models whose answers are known."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage

import eval.crops
import eval.joint
from eval.data import options
from eval.data.pairs import crop_name
from faces.emotions import EMOTIONS
from faces.pipeline import Image
from faces.types import Box, Detection
from tests.stand_ins import ScriptedClassifier, ScriptedDetector, probabilities

STEP = 30


def known_detector(
    name: str, found: dict[int, list[tuple[list[float], float]]]
) -> ScriptedDetector:
    """A detector that tells its answer by the red value of the top left pixel."""

    def answer(image: Image) -> list[Detection]:
        return [Detection(Box(*box), score) for box, score in found.get(int(image[0, 0, 0]), [])]

    return ScriptedDetector(answer, name)


class CornerClassifier:
    """Reads the emotion off the green value of the crop's top left pixel."""

    name = "corner"

    def probabilities(self, crops: Sequence[Image]) -> NDArray[np.float32]:
        assert all(c.shape[0] == c.shape[1] and c.dtype == np.uint8 for c in crops)
        indices = [int(crop[0, 0, 1]) // STEP for crop in crops]
        return np.eye(7, dtype=np.float32)[indices]


# red value → faces: (x, y, side, emotion as the file has it)
SCENES: dict[int, list[tuple[int, int, int, str]]] = {
    10: [(10, 10, 40, "Happiness"), (100, 10, 40, "sad")],
    20: [(20, 20, 40, "fear")],
    40: [],
}
FOUND: dict[int, list[tuple[list[float], float]]] = {
    10: [
        ([10, 10, 50, 50], 0.9),  # exact
        ([96, 10, 136, 50], 0.8),  # IoU 0.82; its corner lies outside the face: classified wrongly
        ([12, 12, 48, 48], 0.7),  # repeats the first
        ([100, 80, 120, 100], 0.6),  # false
        ([100, 10, 140, 50], 0.4),  # below the threshold
    ],
    40: [([5, 5, 25, 25], 0.7)],  # false
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    names = ["anger", "Happiness", "sad", "fear", "contempt"]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for red, faces in SCENES.items():
        pixels = np.zeros((120, 160, 3), np.uint8)
        pixels[..., 0] = red
        for x, y, side, name in faces:
            emotion = {"Happiness": "happy"}.get(name, name)
            pixels[y : y + side, x : x + side, 1] = STEP * EMOTIONS.index(emotion) + STEP // 2
            row = {"image_id": red, "category_id": names.index(name), "bbox": [x, y, side, side]}
            annotations.append(row | {"id": len(annotations) + 1, "iscrowd": 0})
        PillowImage.fromarray(pixels).save(tmp_path / "pictures" / f"{red}.png")
        images.append({"id": red, "file_name": f"{red}.png"})
    categories = [{"id": index, "name": name} for index, name in enumerate(names)]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    return tmp_path


@pytest.fixture(autouse=True)
def detectors(monkeypatch: pytest.MonkeyPatch) -> dict[str, ScriptedDetector]:
    made = {"known": known_detector("known", FOUND), "blind": known_detector("blind", {})}
    classifiers = {
        "corner": CornerClassifier(),
        "happy": ScriptedClassifier(probabilities(happy=1.0), "happy"),
    }
    monkeypatch.setattr(options, "load_detectors", lambda names, _: [made[n] for n in names])
    monkeypatch.setattr(
        options, "load_classifiers", lambda names, _: [classifiers[n] for n in names]
    )
    return made


Run = Callable[..., int]


@pytest.fixture
def run(data: Path) -> Run:
    def call(*arguments: str) -> int:
        paths = ["--coco", str(data / "truth.json"), "--images", str(data / "pictures")]
        return eval.joint.main([*paths, "--out", str(data / "out" / "r.json"), *arguments])

    return call


def report(data: Path) -> Any:
    return json.loads((data / "out" / "r.json").read_text())


def edit(data: Path, change: Callable[[dict[str, Any]], None]) -> None:
    truth = json.loads((data / "truth.json").read_text())
    change(truth)
    (data / "truth.json").write_text(json.dumps(truth))


def test_metrics_equal_those_by_hand(
    data: Path, run: Run, detectors: dict[str, ScriptedDetector], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--detector", "known", "--classifier", "corner") == 0
    got = report(data)
    assert (got["detector"], got["classifier"], got["images"]) == ("known", "corner", 3)
    assert got["faces"] == 3
    assert got["coverage"] == pytest.approx(2 / 3)
    assert got["accuracy_on_matched"] == 0.5
    assert got["accuracy_on_true_boxes"] == 1
    assert got["true_box_accuracy_of_matched"] == 1
    assert got["cascade_gap"] == 0.5
    assert got["joint_accuracy"] == pytest.approx(1 / 3)
    assert got["false_per_image"] == pytest.approx(2 / 3)
    assert got["duplicates_per_image"] == pytest.approx(1 / 3)
    assert got["per_emotion"]["happy"] == {
        "faces": 1,
        "coverage": 1,
        "accuracy_on_true_boxes": 1,
        "joint_accuracy": 1,
        "precision": 0.5,  # the repeated face is named happy again
        "ap50": pytest.approx(1),
    }
    assert got["per_emotion"]["sad"]["joint_accuracy"] == 0
    assert got["macro_joint_accuracy"] == pytest.approx(1 / 3)
    assert got["macro_f1"] == pytest.approx((2 * 1 / (2 + 1) + 0 + 0) / 3)
    # happy; sad, which a detection below the threshold shows right; fear, which none does
    assert got["mean_ap50"] == pytest.approx((1 + 1 + 0) / 3)
    assert got["per_emotion"]["angry"]["coverage"] is None
    assert detectors["known"].calls == [1] * 4  # each picture once, and the warm-up
    out = capsys.readouterr().out
    assert "33.33 %" in out and "happy" in out and "disgust" not in out


def test_each_detector_sees_each_image_once_for_all_pairs(
    data: Path, run: Run, detectors: dict[str, ScriptedDetector]
) -> None:
    assert run("--detector", "known", "blind", "--classifier", "corner", "happy") == 0
    runs = report(data)["runs"]
    pairs = [(r["detector"], r["classifier"]) for r in runs]
    assert pairs == [(d, c) for d in ("known", "blind") for c in ("corner", "happy")]
    assert [r["joint_accuracy"] for r in runs] == pytest.approx([1 / 3, 1 / 3, 0, 0])
    assert [r["accuracy_on_true_boxes"] for r in runs] == pytest.approx([1, 1 / 3, 1, 1 / 3])
    assert [r["accuracy_on_matched"] for r in runs] == [0.5, 0.5, None, None]
    assert [detector.calls for detector in detectors.values()] == [[1] * 4] * 2
    assert "joint_accuracy_difference" not in runs[0]
    assert {r["compared_with"] for r in runs[1:]} == {"known, corner"}
    assert [r["joint_accuracy_difference"] for r in runs[1:]] == pytest.approx([0, -1 / 3, -1 / 3])
    assert runs[1]["joint_accuracy_difference_ci"] == [0, 0]  # both right about the one happy face
    assert runs[2]["coverage_difference"] == pytest.approx(-2 / 3)


def test_doubtful_faces_and_slices(data: Path, run: Run) -> None:
    def change(truth: dict[str, Any]) -> None:
        truth["annotations"][1]["doubtful"] = True  # the sad face, found but taken for another

    edit(data, change)
    assert run("--detector", "known", "--classifier", "corner") == 0
    got = report(data)
    certain = got["without_doubtful"]
    assert (certain["faces"], certain["coverage"], certain["joint_accuracy"]) == (2, 0.5, 0.5)
    assert certain["accuracy_on_matched"] == 1
    by_count = {part["from"]: part for part in got["slices"]["faces_per_picture"]}
    assert [(low, part["faces"]) for low, part in by_count.items()] == [(1, 1), (2, 2)]
    assert (by_count[1]["coverage"], by_count[1]["accuracy_on_matched"]) == (0, None)
    assert by_count[2]["joint_accuracy"] == 0.5
    assert [(p["from"], p["faces"]) for p in got["slices"]["face_height"]] == [(32, 3)]
    assert sum(part["faces"] for part in got["slices"]["brightness"]) == 3


def test_the_gallery_sorts_errors_by_kind(data: Path, run: Run) -> None:
    page = data / "out" / "page.html"
    assert run("--detector", "known", "--classifier", "corner", "--gallery", str(page)) == 0
    text = page.read_text()
    sections = {part.split("<")[0].split(",")[0]: part for part in text.split("<h2>")[1:]}
    counts = {name: part.count("<figure>") for name, part in sections.items()}
    assert counts == {
        "Missed faces": 1,
        "False detections": 2,
        "Faces found again": 1,
        "Wrong emotions": 1,
    }
    assert "fear, 40 px high" in sections["Missed faces"]
    assert "angry 100%; is sad" in sections["Wrong emotions"]
    assert text.count("src=") == text.count("data:image/jpeg;base64,/9j/") == 5


def test_other_programs_take_part_by_files(
    data: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = ["--coco", str(data / "truth.json"), "--images", str(data / "pictures")]
    cut = ["--detector", "known", "blind", "--out", str(data / "cut")]
    assert eval.crops.main([*paths, *cut]) == 0
    assert "known 6" in capsys.readouterr().out  # five and one, those below the threshold too
    assert eval.crops.main([*paths, *cut]) == 2
    assert "exists already" in capsys.readouterr().err

    def answer(folder: str) -> None:
        crops = sorted((data / "cut" / folder).glob("*.png"))
        images = [np.asarray(PillowImage.open(path)) for path in crops]
        rows = CornerClassifier().probabilities(images) if images else []
        lines = [",".join(["name", *EMOTIONS])]
        for path, row in zip(crops, rows, strict=True):
            lines.append(",".join([path.stem, *(str(value) for value in row)]))
        (data / "said").mkdir(exist_ok=True)
        (data / "said" / f"{folder}.csv").write_text("\n".join(lines))

    for folder in ("known", "blind", "truth"):
        answer(folder)
    assert run("--detector", "known", "blind", "--classifier", "corner") == 0
    expected = report(data)["runs"]
    results = [f"{name}={data}/cut/{name}/detections.json" for name in ("known", "blind")]
    assert run("--results", *results, "--scores", f"peer={data}/said") == 0
    for ours, theirs in zip(expected, report(data)["runs"], strict=True):
        assert theirs["classifier"] == "peer"
        for key in ("joint_accuracy", "accuracy_on_true_boxes", "mean_ap50", "false_per_image"):
            assert theirs[key] == ours[key], key

    (data / "said" / "known.csv").write_text(",".join(["name", *EMOTIONS]))
    assert run("--results", *results, "--scores", f"peer={data}/said") == 2
    error = capsys.readouterr().err
    assert "known.csv" in error and "10_0" in error
    for arguments in (["--results", results[0]], ["--classifier", "corner"]):
        assert run(*arguments) == 2
    assert run("--detector", "known", "--results", results[0], "--classifier", "corner") == 2
    assert run("--results", *results, "--scores", f"peer={data}/pictures") == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 4 and "holds none of the scores" in errors[3]


def test_images_with_unlabelled_faces_have_no_false_positives(data: Path, run: Run) -> None:
    def change(truth: dict[str, Any]) -> None:
        truth["images"][0]["unlabelled_faces"] = True

    edit(data, change)
    assert run("--detector", "known", "--classifier", "corner") == 0
    got = report(data)
    assert (got["false_per_image"], got["images_for_false"]) == (0.5, 2)
    assert (got["images"], got["faces"]) == (3, 3)


def test_crowds_and_ignored_classes_do_not_count(data: Path, run: Run) -> None:
    def change(truth: dict[str, Any]) -> None:
        box = {"id": 8, "image_id": 40, "category_id": 4, "bbox": [0, 0, 30, 30], "iscrowd": 1}
        other = {"id": 9, "image_id": 10, "category_id": 4, "bbox": [100, 80, 20, 20]}
        truth["annotations"] += [box, other]

    edit(data, change)
    assert run("--detector", "known", "--classifier", "corner") == 2
    assert run("--detector", "known", "--classifier", "corner", "--ignore-class", "Contempt") == 0
    got = report(data)
    assert (got["faces"], got["false_per_image"]) == (3, 0)


def test_an_unreadable_image_is_left_out(
    data: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "pictures" / "20.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert run("--detector", "known", "--classifier", "corner") == 1
    assert (report(data)["images"], report(data)["faces"]) == (2, 2)
    assert "20.png" in capsys.readouterr().err


def test_bad_data_exit_2_with_one_line(
    data: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    def rename(truth: dict[str, Any]) -> None:
        truth["categories"][3]["name"] = "thing"

    edit(data, rename)
    assert run("--detector", "known", "--classifier", "corner") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "'thing' is no emotion" in error and "truth.json" in error

    edit(data, lambda truth: truth["annotations"].clear())
    assert run("--detector", "known", "--classifier", "corner") == 2
    assert "no face to find" in capsys.readouterr().err

    for picture in (data / "pictures").iterdir():
        picture.write_bytes(b"")
    edit(data, lambda truth: truth["annotations"].append(FACE))
    assert run("--detector", "known", "--classifier", "corner") == 2
    assert "none of its images" in capsys.readouterr().err.splitlines()[-1]


FACE = {"id": 1, "image_id": 10, "category_id": 0, "bbox": [1, 1, 9, 9]}


def test_crops_are_named_by_image_and_number() -> None:
    assert crop_name(12, 3) == "12_3"
    assert crop_name("a/b:c.jpg", 0) == "a-b-c.jpg_0"
