"""The commands from end to end, with contestants that only write their files."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import classifiers, detector_sizes, detectors
from benchmarks.rounds import contest
from eval.records import report
from faces.emotions import EMOTIONS

SCORES = """
import csv, json, sys
import numpy as np
crops, scores, times, batches, right, emotions = json.loads(sys.argv[1])
crops = np.load(crops)
assert crops.shape[1:] == (48, 48, 3) and crops.dtype == np.uint8
if scores:
    with open(scores, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", *emotions])
        for i, crop in enumerate(crops):
            label = int(crop[0, 0, 0]) if right else 0
            writer.writerow([i, *(float(label == k) for k in range(7))])
ms = {str(n): 1.0 + right for n in batches}
json.dump({"ms": ms, "precision": "float32" if right else None}, open(times, "w"))
"""


@pytest.fixture
def fer2013(tmp_path: Path) -> Path:
    """Four pictures of PublicTest whose first pixel is their label."""
    for index, label in enumerate((0, 3, 3, 6)):
        folder = tmp_path / "fer2013" / "test" / EMOTIONS[label]
        folder.mkdir(parents=True, exist_ok=True)
        image = np.full((48, 48), 100 + index, np.uint8)
        image[0, 0] = label
        cv2.imwrite(str(folder / f"PublicTest_{index}.png"), image)
    return tmp_path / "fer2013"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch) -> None:
    """The packages seem to be there, and our models too; the processor is a lesser one."""
    monkeypatch.setattr(contest, "PYTHON_PEERS", tmp_path)
    monkeypatch.setattr(report, "processor_class", lambda: "AVX2, float32")
    for load in ("load_classifiers", "load_detectors"):
        monkeypatch.setattr(f"eval.data.options.{load}", lambda names, device: [])


def test_classifiers_are_measured_and_drawn(fer2013, installed, tmp_path, monkeypatch, capsys):
    def run(arguments, name, folder, turn):
        scores = None if turn else str(classifiers.scores_file(folder, name))
        times = str(contest.times_file(folder, name, turn))
        batches = arguments.batches
        job = [str(folder / "crops.npy"), scores, times, batches, name == "good", EMOTIONS]
        return [sys.executable, "-c", SCORES, json.dumps(job)]

    monkeypatch.setattr(classifiers, "run_command", run)
    out, picture = tmp_path / "c.json", tmp_path / "c.png"
    words = ["--data", str(fer2013), "--classifier", "good", "--peers", "fer", "--rounds", "2"]
    words += ["--batches", "1", "64", "--out", str(out), "--picture", str(picture)]
    words += ["--keep", str(tmp_path / "kept")]
    assert classifiers.main(words) == 0
    good, fer = json.loads(out.read_text())["runs"]
    assert (good["classifier"], good["ours"], good["accuracy"]) == ("good", True, 1.0)
    assert (fer["classifier"], fer["ours"], fer["accuracy"]) == ("fer", False, 0.25)
    assert good["ms_by_batch"] == {n: {"median": 2.0, "low": 2.0, "high": 2.0} for n in ("1", "64")}
    assert good["split"] == "PublicTest"
    assert (good["kind"], good["precision"], fer["precision"]) == (
        "classifier_speed",
        "float32",
        None,
    )
    assert good["processor_class"] == "AVX2, float32" and good["processor"]
    assert good["command"].startswith("python -m benchmarks.classifiers --data")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "100.00 %" in capsys.readouterr().out
    kept = (tmp_path / "kept" / "good.csv").read_text().splitlines()
    assert {line.split(",")[0] for line in kept[1:]} == {f"PublicTest_{i}.png" for i in range(4)}
    assert (good["ms_at_64"], fer["ms_at_64"]) == (2.0, 1.0)


DETECTIONS = """
import json, sys
results, times, found = json.loads(sys.argv[1])
if results:
    json.dump(found, open(results, "w"))
json.dump({"ms": 7.0, "threshold": 0.5, "precision": "float32"}, open(times, "w"))
"""


def test_detectors_are_measured_and_drawn(installed, tmp_path, monkeypatch):
    coco = tmp_path / "faces.json"
    boxes = [[10, 10, 20, 20], [50, 50, 30, 30]]
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 100}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 1, "bbox": box, "area": 1, "iscrowd": 0}
            for i, box in enumerate(boxes)
        ],
        "categories": [{"id": 1, "name": "face"}],
    }
    coco.write_text(json.dumps(document))

    def run(arguments, name, folder, turn):
        kept = boxes if name == "runs/good" else boxes[:1]
        found = [{"image_id": 1, "category_id": 1, "bbox": box, "score": 0.9} for box in kept]
        stem = folder / contest.file_stem(name)
        job = [None if turn else f"{stem}.json", f"{stem}.times.{turn}.json", found]
        return [sys.executable, "-c", DETECTIONS, json.dumps(job)]

    monkeypatch.setattr(detectors, "run_command", run)
    out, picture = tmp_path / "d.json", tmp_path / "d.png"
    words = ["--coco", str(coco), "--images", str(tmp_path), "--detector", "runs/good"]
    words += ["--peers", "yuface", "--rounds", "2", "--out", str(out), "--picture", str(picture)]
    words += ["--keep", str(tmp_path / "kept")]
    assert detectors.main(words) == 0
    good, yuface = json.loads(out.read_text())["runs"]
    assert (good["ap50"], good["coverage"], good["ours"]) == (1.0, 1.0, True)
    assert (good["kind"], good["precision"]) == ("detector_speed", "float32")
    assert good["processor_class"] == "AVX2, float32" and good["threads"] == 1
    assert (yuface["coverage"], yuface["ours"], yuface["ms_per_image"]) == (0.5, False, 7.0)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "kept" / "yuface.json").is_file()


ANSWERS = """
import json, sys
coco, results, times, misses_canvases = json.loads(sys.argv[1])
truth = json.load(open(coco))
widths = {image["id"]: image["width"] for image in truth["images"]}
found = [
    {"image_id": a["image_id"], "category_id": 1, "bbox": a["bbox"], "score": score}
    for a in truth["annotations"]
    for score in (0.9, 0.8)
    if not (misses_canvases and widths[a["image_id"]] > 100)
]
json.dump(found, open(results, "w"))
json.dump({"ms": 8.0, "threshold": 0.5, "precision": None}, open(times, "w"))
"""


def test_faces_lost_on_canvases_and_duplicates_are_counted_per_photo(
    installed, tmp_path, monkeypatch
):
    coco = tmp_path / "faces.json"
    for index in range(3):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((80, 100, 3), index, np.uint8))
    document = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": 100, "height": 80} for i in range(3)
        ],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [20, 10, 40, 50], "iscrowd": 0}
            for i in range(3)
        ],
        "categories": [{"id": 1, "name": "face"}],
    }
    coco.write_text(json.dumps(document))

    def run(arguments, name, folder, turn):
        stem = folder / contest.file_stem(name)
        job = [str(arguments.coco), f"{stem}.json", f"{stem}.times.{turn}.json", name == "yuface"]
        return [sys.executable, "-c", ANSWERS, json.dumps(job)]

    monkeypatch.setattr(detectors, "run_command", run)
    out, picture = tmp_path / "s.json", tmp_path / "s.png"
    words = ["--coco", str(coco), "--images", str(tmp_path), "--detector", "runs/good"]
    words += ["--peers", "yuface", "--rounds", "1", "--sizes", "200", "80"]
    assert detector_sizes.main([*words, "--out", str(out), "--picture", str(picture)]) == 0
    own, own_yuface, good, yuface = json.loads(out.read_text())["runs"]
    assert [row["size"] for row in (own, own_yuface, good, yuface)] == ["own"] * 2 + ["200×80"] * 2
    assert (own["images"], good["images"], good["faces"], good["photos"]) == (3, 2, 3, 3)
    assert (own["coverage"], good["coverage"], good["coverage_lost"]) == (1, 1, 0)
    assert (own_yuface["coverage"], yuface["coverage"], yuface["coverage_lost"]) == (1, 0, 1)
    assert own["duplicates_per_photo"] == good["duplicates_per_photo"] == 1
    assert good["false_per_photo"] == 0 and good["ms_per_megapixel"] == 8.0 / 0.016
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert detector_sizes.main([*words[:-1]]) == 2


def test_packages_that_are_not_there_are_said_before_anything_is_measured(
    fer2013, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(contest, "PYTHON_PEERS", tmp_path / "nowhere")
    assert classifiers.main(["--data", str(fer2013), "--classifier", "default"]) == 2
    error = capsys.readouterr().err
    assert "run make peers" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("words", [["--rounds", "0"], ["--threads", "0"], ["--batches", "0"]])
def test_options_out_of_range_are_refused(fer2013, installed, words, capsys):
    command = ["--data", str(fer2013), "--classifier", "x", "--peers", "fer", *words]
    assert classifiers.main(command) == 2
    assert "expected a whole number from 1" in capsys.readouterr().err
