"""eval.detection from the command line to the report, with a detector whose answers are known."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

import eval.detection
from eval.data import options
from faces.pipeline import Image
from faces.sinks import open_sink
from faces.types import Box, Detection, EmotionProbabilities, Face, ImageResult
from tests.stand_ins import ScriptedDetector

SCENES: dict[int, tuple[list[list[float]], list[tuple[list[float], float]]]] = {
    # red value → true boxes (x, y, width, height), detections (x1, y1, x2, y2) with scores
    10: (
        [[10, 10, 40, 40], [100, 10, 40, 40]],
        [([10, 10, 50, 50], 0.9), ([12, 10, 52, 50], 0.8), ([100, 10, 140, 50], 0.3)],
    ),
    20: ([], [([5, 5, 25, 25], 0.7), ([60, 60, 90, 90], 0.2)]),
    30: ([[50, 50, 8, 8]], [([50, 50, 58, 58], 0.95)]),
}


def known_detector(name: str = "known") -> ScriptedDetector:
    """A detector that tells its answer by the red value of the top left pixel."""

    def answer(image: Image) -> list[Detection]:
        return [Detection(Box(*box), score) for box, score in SCENES[int(image[0, 0, 0])][1]]

    return ScriptedDetector(answer, name, score_threshold=0.6)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for red, (boxes, _) in SCENES.items():
        pixels = np.full((120, 160, 3), red, np.uint8)
        PillowImage.fromarray(pixels).save(tmp_path / "pictures" / f"{red}.png")
        images.append({"id": red, "file_name": f"{red}.png", "width": 160, "height": 120})
        for box in boxes:
            row = {"id": len(annotations), "image_id": red, "category_id": 5, "bbox": box}
            annotations.append(row | {"iscrowd": 0})
    truth = {"images": images, "annotations": annotations, "categories": [{"id": 5, "name": "sad"}]}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    return tmp_path


@pytest.fixture(autouse=True)
def detectors(monkeypatch: pytest.MonkeyPatch) -> list[ScriptedDetector]:
    made: list[ScriptedDetector] = []

    def load(names: Sequence[str], *_: object, **_k: object) -> list[ScriptedDetector]:
        made[:] = [known_detector(name) for name in names]
        return made

    monkeypatch.setattr(options, "load_detectors", load)
    return made


Run = Callable[..., int]


@pytest.fixture
def run(data: Path) -> Run:
    def call(*arguments: str, images: str = "pictures", coco: str = "truth.json") -> int:
        paths = ["--coco", str(data / coco), "--images", str(data / images)]
        return eval.detection.main([*paths, "--out", str(data / "out" / "r.json"), *arguments])

    return call


def report(data: Path) -> Any:
    return json.loads((data / "out" / "r.json").read_text())


def edit(data: Path, change: Callable[[dict[str, Any]], None]) -> None:
    truth = json.loads((data / "truth.json").read_text())
    change(truth)
    (data / "truth.json").write_text(json.dumps(truth))


def test_metrics_equal_those_by_hand(
    data: Path, run: Run, detectors: list[ScriptedDetector], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--detector", "known") == 0
    got = report(data)
    assert got["detector"] == "known"
    assert (got["images"], got["faces"], got["threshold"]) == (3, 3, 0.6)
    # by score: right .95, right .9, false .8 (repeats), false .7, right .3, false .2
    assert got["ap50"] == pytest.approx(
        (67 * 1 + 34 * 0.6) / 101
    )  # recall points up to 2/3, then 1
    assert got["false_per_image"] == pytest.approx(1 / 3)
    assert got["duplicates_per_image"] == pytest.approx(1 / 3)
    assert got["coverage"] == pytest.approx(2 / 3)
    assert got["ms_per_image"] > 0
    assert detectors[0].calls == [1] * 4  # each picture once, and the warm-up
    assert "known" in capsys.readouterr().out


def test_intervals_curves_and_their_pictures(
    data: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("--detector", "known", "--figures", str(data / "figures")) == 0
    got = report(data)
    for name in ("ap", "ap50", "ap75", "coverage"):
        low, high = got[f"{name}_ci"]
        assert 0 <= low <= got[name] <= high <= 1
    assert got["precision_by_recall"][:68] == [1.0] * 67 + [0.6]
    # one wrong one per three pictures buys the faces at .95 and .9, two wrong ones that at .3
    prices, misses = got["miss_rate"]["false_per_image"], got["miss_rate"]["miss_rate"]
    assert prices[0] == 0.01 and prices[-1] == 10
    assert misses[0] == pytest.approx(1 / 3, abs=1e-4) and misses[-1] == 0
    below = [m for price, m in zip(prices, misses, strict=True) if price < 2 / 3]
    assert set(below) == {misses[0]}
    for name in ("r_precision_recall.png", "r_miss_rate.png"):
        with PillowImage.open(data / "figures" / name) as picture:
            assert picture.format == "PNG" and min(picture.size) > 300


def test_detectors_are_compared_on_the_same_resamples(data: Path, run: Run) -> None:
    write_results(data / "same.json")
    (data / "none.json").write_text("[]")
    files = [f"same={data / 'same.json'}", f"none={data / 'none.json'}"]
    assert run("--detector", "known", "--results", *files, "--results-threshold", "0.6") == 0
    known, same, none = report(data)["runs"]
    assert "compared_with" not in known and same["compared_with"] == "known"
    assert same["ap_difference"] == 0 and same["ap_difference_ci"] == [0, 0]
    assert none["ap50_difference"] == pytest.approx(-known["ap50"])
    assert none["coverage_difference"] == pytest.approx(-2 / 3)
    assert none["log_average_miss_rate"] == 1


def test_min_size_ignores_small_faces_and_detections_on_them(data: Path, run: Run) -> None:
    assert run("--detector", "known", "--min-size", "9") == 0
    got = report(data)
    assert got["faces"] == 2
    # by score: right .9, false .8, false .7, right .3
    assert got["ap50"] == pytest.approx((51 * 1 + 50 * 0.5) / 101)
    assert got["false_per_image"] == pytest.approx(1 / 3)
    assert run("--detector", "known", "--min-size", "8") == 0
    assert report(data)["faces"] == 3


def test_detections_on_crowds_are_ignored(data: Path, run: Run) -> None:
    def change(truth: dict[str, Any]) -> None:
        crowd = {"id": 9, "image_id": 20, "category_id": 5, "bbox": [0, 0, 30, 30], "iscrowd": 1}
        truth["annotations"].append(crowd)

    edit(data, change)
    assert run("--detector", "known") == 0
    assert report(data)["false_per_image"] == 0


def test_images_with_unlabelled_faces_have_no_false_positives(data: Path, run: Run) -> None:
    def change(truth: dict[str, Any]) -> None:
        truth["images"][1]["unlabelled_faces"] = True

    edit(data, change)
    assert run("--detector", "known") == 0
    got = report(data)
    assert (got["false_per_image"], got["images_for_false"], got["images"]) == (0, 2, 3)


def write_results(path: Path) -> None:
    rows = [
        {
            "image_id": red,
            "category_id": 1,
            "score": s,
            "bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]],
        }
        for red, (_, found) in SCENES.items()
        for b, s in found
    ]
    path.write_text(json.dumps(rows))


def test_saved_results_give_what_the_detector_gives(data: Path, run: Run) -> None:
    write_results(data / "other.json")
    other = f"other={data / 'other.json'}"
    assert run("--detector", "known", "--results", other, "--results-threshold", "0.6") == 0
    known, external = report(data)["runs"]
    assert external["detector"] == "other"
    assert external["ms_per_image"] is None
    same = {k: v for k, v in known.items() if k not in ("detector", "ms_per_image")}
    assert same == {k: external[k] for k in same}


def test_results_alone_need_no_images(data: Path) -> None:
    write_results(data / "other.json")
    out = data / "r.json"
    arguments = ["--coco", str(data / "truth.json"), "--results", f"o={data / 'other.json'}"]
    assert eval.detection.main([*arguments, "--out", str(out)]) == 0
    got = json.loads(out.read_text())
    assert (got["detector"], got["threshold"], got["images"]) == ("o", 0.5, 3)
    arguments += ["--results-threshold", "0.1", "o=0.25"]
    assert eval.detection.main([*arguments, "--out", str(out)]) == 0
    assert json.loads(out.read_text())["threshold"] == 0.25


def test_results_of_twostage_analyze_are_read(data: Path, run: Run) -> None:
    even = EmotionProbabilities((1 / 7,) * 7)
    with open_sink(data / "found.coco.json") as sink:
        for red, (_, found) in reversed(SCENES.items()):
            faces = tuple(Face(Detection(Box(*box), score), even) for box, score in found)
            sink.write(ImageResult(f"photos/{red}.png", 160, 120, 0.1, faces))
    assert run("--detector", "known", "--results", f"o={data / 'found.coco.json'}") == 0
    known, external = report(data)["runs"]
    assert (external["ap"], external["faces"]) == (pytest.approx(known["ap"]), 3)


def test_several_detectors_see_each_image_once(
    data: Path, run: Run, detectors: list[ScriptedDetector]
) -> None:
    assert run("--detector", "a", "b", "--detector", "c") == 0
    assert [r["detector"] for r in report(data)["runs"]] == ["a", "b", "c"]
    assert [d.calls for d in detectors] == [[1] * 4] * 3


def test_images_in_a_zip_are_read(data: Path, run: Run) -> None:
    with zipfile.ZipFile(data / "pictures.zip", "w") as archive:
        for path in (data / "pictures").iterdir():
            archive.write(path, f"images/{path.name}")
    assert run("--detector", "known", images="pictures.zip") == 0
    assert report(data)["images"] == 3


def test_unreadable_and_misfitting_images_are_left_out(
    data: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "pictures" / "20.png").write_bytes(b"")
    PillowImage.new("RGB", (10, 10)).save(data / "pictures" / "30.png")
    assert run("--detector", "known") == 1
    got = report(data)
    assert (got["images"], got["faces"], got["unreadable"]) == (1, 2, 2)
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("eval.detection")]
    assert "20.png" in lines[0] and "30.png: is 10×10 pixels" in lines[1]
    assert "2 of 3" in lines[2]


def test_a_set_without_a_face_is_refused(
    data: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(data, lambda truth: truth["annotations"].clear())
    assert run("--detector", "known") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "has no face to find" in error


def test_a_set_whose_usable_images_have_no_face_is_refused(
    data: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("10.png", "30.png"):
        (data / "pictures" / name).write_bytes(b"")
    assert run("--detector", "known") == 2
    lines = capsys.readouterr().err.splitlines()
    assert "10.png" in lines[-4] and "2 of 3" in lines[-2]
    assert "no image that could be used has a face to find" in lines[-1]


def test_a_box_without_area_is_dropped_counted_and_named(
    data: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(truth: dict[str, Any]) -> None:
        for number, width in ((7, -5), (8, 0)):
            box = {"id": number, "image_id": 20, "category_id": 5, "bbox": [30, 30, width, 9]}
            truth["annotations"].append(box)

    edit(data, change)
    assert run("--detector", "known") == 0
    assert report(data)["faces"] == 3
    error = capsys.readouterr().err
    assert "annotations dropped: 2, the first: annotation 7" in error


def test_a_box_outside_an_image_of_unknown_size_is_dropped_and_named(
    data: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(truth: dict[str, Any]) -> None:
        del truth["images"][1]["width"]
        box = {"id": 7, "image_id": 20, "category_id": 5, "bbox": [400, 400, 20, 20]}
        truth["annotations"].append(box)

    edit(data, change)
    assert run("--detector", "known") == 0
    assert (report(data)["faces"], report(data)["coverage"]) == (3, pytest.approx(2 / 3))
    assert "faces dropped: 1, the first:" in (error := capsys.readouterr().err)
    assert "20.png" in error and "lies outside its 160×120 pixels" in error


def test_missing_images_are_named(data: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "pictures" / "20.png").unlink()
    assert run("--detector", "known") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("eval.detection: ") and "20.png" in error and "1 of the 3" in error
    assert not list((data / "out").iterdir())


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ([], "give --detector"),
        (["--detector", "known", "--out", "{data}"], "is a folder"),
        (["--detector", "known", "--images", "{data}/none"], "no such file or folder"),
        (["--detector", "known", "--coco", "{data}/none.json"], "none.json: no such file"),
        (["--results", "other.json"], "expected name=FILE"),
        (["--results", "o={data}/none.json"], "none.json: no such file"),
        (["--results", "o=a", "o=b"], "given twice"),
        (["--results", "o=a", "--results-threshold", "x"], "expected a score"),
        (["--results", "o=a", "--results-threshold", "p=0.5"], "expected a score"),
        (["--results", "o={data}/truth.json"], "score"),
    ],
)
def test_bad_arguments_exit_2_with_one_line(
    data: Path, run: Run, capsys: pytest.CaptureFixture[str], arguments: list[str], cause: str
) -> None:
    assert run(*(a.format(data=data) for a in arguments)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and cause in error, error


@pytest.mark.parametrize("size", ["-1", "x", "nan", "inf"])
def test_a_wrong_minimum_size_exits_2_with_one_line(
    run: Run, capsys: pytest.CaptureFixture[str], size: str
) -> None:
    assert run("--detector", "known", f"--min-size={size}") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "--min-size" in error
