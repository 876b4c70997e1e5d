"""Public bug reports, tried from the command line: what is right, case by case.

Each stands for a kind of fault, whose variants are tested where its code is.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import classification.train
import detection.crossval
import detection.train
import eval.calibration
import eval.classification
import eval.detection
import eval.multilabel
import eval.operating_point
import eval.unsure
import twostage
from tests.campaign.process import ROOT
from tests.stand_ins import CocoFiles, write_coco, write_fer2013
from tests.twostage.batch import scripted_run
from twostage import cli

COLLINS, HOPPER = (ROOT / "samples" / f"{name}.jpg" for name in ("collins", "hopper"))

Main = Callable[[list[str]], int]


@pytest.fixture
def analyze(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """Run ``twostage analyze`` with stand-ins for the models; gives status, output and errors."""
    monkeypatch.setattr(cli, "load_pipeline", scripted_run.scripted_pipeline)
    monkeypatch.setattr(cli, "fingerprint", scripted_run.scripted_fingerprint)

    def run(*words: object) -> tuple[int, str, str]:
        status = cli.main(["analyze", *map(str, words)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def refused(main: Main, words: list[object], capsys: pytest.CaptureFixture[str]) -> str:
    """Check that a command ends with status 2 and one short line of its own; return that."""
    assert main([str(word) for word in words]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "Traceback" not in last and len(last) < 700
    return last


@pytest.mark.parametrize("named", ["photos", "photos/*.jpg"])
def test_case_01_a_link_to_itself_costs_no_other_photo(
    analyze: Any, tmp_path: Path, named: str
) -> None:
    (tmp_path / "photos").mkdir()
    os.symlink("self.jpg", tmp_path / "photos" / "self.jpg")
    (tmp_path / "photos" / "good.jpg").write_bytes(HOPPER.read_bytes())
    status, out, err = analyze(tmp_path / named)
    assert status == 1 and "1 image analysed" in out and "1 failed" in out
    assert "self.jpg: cannot be opened: Too many levels of symbolic links" in err


def test_case_02_a_long_name_is_cut_in_the_annotated_folder(analyze: Any, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("a" * 250, "a" * 251, "ä" * 125, "zz"):
        (tmp_path / "photos" / f"{name}.jpg").write_bytes(HOPPER.read_bytes())
    status, out, _ = analyze(
        tmp_path / "photos", "--annotated", tmp_path / "marked", "--out", tmp_path / "faces.csv"
    )
    assert status == 0 and "4 images analysed" in out
    assert len(list((tmp_path / "marked").iterdir())) == 4


@pytest.fixture
def votes(tmp_path: Path) -> tuple[Path, Path]:
    """A tiny FER2013, and FER+'s votes on it without the rows that ``dropna()`` drops."""
    data = write_fer2013(tmp_path / "fer2013.csv", votes=tmp_path / "votes.csv")
    rows = (tmp_path / "votes.csv").read_text().splitlines()
    dropped = tmp_path / "dropped.csv"
    dropped.write_text("\n".join(row for i, row in enumerate(rows) if i % 7 != 3) + "\n")
    return data, dropped


@pytest.mark.parametrize(
    ("main", "words"),
    [
        (eval.classification.main, "--classifier fast --split PrivateTest --ferplus"),
        (eval.multilabel.main, "--classifier fast --ferplus"),
        (eval.calibration.main, "--classifier fast --ferplus"),
        (eval.unsure.main, "--classifier fast --ferplus"),
        (
            classification.train.main,
            "--recipe classification/recipes/simple_cnn.toml --out {out} votes 0.5 --votes",
        ),
    ],
)
def test_case_03_votes_whose_rows_were_dropped_are_refused(
    votes: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    main: Main,
    words: str,
) -> None:
    data, dropped = votes
    split = words.format(out=tmp_path / "run").split()
    option = split.pop()
    given: list[object] = [*split, "--data", data]
    if "votes" in split:
        at = split.index("votes")
        given = [*split[:at], "--data", data, option, dropped, *split[at:]]
    else:
        given += [option, dropped]
    assert "dropped.csv: has 36 rows for the 42 images of the csv" in refused(main, given, capsys)


TRAIN: list[object] = ["--config-file", "mobilenet_fpn", "--num-gpus", "0"]


def trained(
    coco: CocoFiles, out: Path, more: list[object], train: Path | None = None
) -> list[object]:
    data = ["--train-coco", train or coco.json, coco.images]
    for option in ("--val-coco", "--report-coco"):
        data += [option, coco.json, coco.images]
    pairs = ["OUTPUT_DIR", out, "MODEL.WEIGHTS", "weights/mobilenet_fpn.safetensors"]
    return [*TRAIN, *data, *more, *pairs, "SOLVER.MAX_ITER", "1"]


def test_case_04_dataturks_in_pixels_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coco = write_coco(tmp_path / "coco", [((40, 20, 76, 60),)] * 12)
    points = [{"x": 40, "y": 20}, {"x": 76, "y": 60}]
    face = {"label": ["Face"], "points": points, "imageWidth": 140, "imageHeight": 100}
    rows = [{"content": f"http://x/image_{i}.png", "annotation": [face]} for i in range(12)]
    path = tmp_path / "pixels.json"
    path.write_text("\n".join(map(json.dumps, rows)))
    end: list[object] = ["OUTPUT_DIR", tmp_path / "run", "SOLVER.MAX_ITER", "1"]
    words = [*TRAIN, "--dataturks", path, coco.images, *end]
    line = refused(detection.train.main, words, capsys)
    assert "they are in pixels, but Dataturks' are fractions of the image; divide them" in line
    words = ["--start", "weights/mobilenet_fpn.safetensors", "--dataturks", path, coco.images]
    words += ["--out", tmp_path / "folds"]
    assert "they are in pixels" in refused(detection.crossval.main, words, capsys)
    assert not (tmp_path / "run").exists() and not (tmp_path / "folds").exists()


def test_case_05_coco_for_pictures_of_another_size_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coco = write_coco(tmp_path / "coco")
    content = json.loads(coco.json.read_text())
    for image in content["images"]:
        image |= {"width": 280, "height": 200}
    other = tmp_path / "made_for_280.json"
    other.write_text(json.dumps(content))
    words = trained(coco, tmp_path / "run", [], other)
    line = refused(detection.train.main, words, capsys)
    assert "image_0.png" in line and "140×100" in line and "280×200" in line
    words = ["--detector", "mobilenet_fpn", "--coco", other, "--images", coco.images]
    assert eval.operating_point.main(list(map(str, words))) == 2
    assert "280×200; its boxes would not fit" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("boxes", "cause"),
    [
        ([[0.3, 0.2, 0.3, 0.4]], "so they are fractions; COCO's boxes are pixels"),
        ([], "has no face to find"),
        ([[76, 60, -36, -40]], "has no face to find"),
    ],
)
def test_case_06_coco_without_a_usable_box_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], boxes: list[list[float]], cause: str
) -> None:
    coco = write_coco(tmp_path / "coco")
    content = json.loads(coco.json.read_text())
    one = content["annotations"][0]
    content["annotations"] = [one | {"id": i, "bbox": box} for i, box in enumerate(boxes)]
    odd = tmp_path / "odd.json"
    odd.write_text(json.dumps(content))
    words = trained(coco, tmp_path / "run", [], odd)
    assert cause in refused(detection.train.main, words, capsys)
    words = ["--coco", odd, "--images", coco.images, "--detector", "haar"]
    assert cause in refused(eval.detection.main, words, capsys)
    assert not (tmp_path / "run").exists()


def test_case_07_flags_in_text_count_and_boxes_outside_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coco = write_coco(tmp_path / "coco", [((40, 20, 76, 60), (80, 20, 120, 70)), ()])
    content = json.loads(coco.json.read_text())
    first, second = content["annotations"]
    words = ["--coco", str(coco.json), "--images", str(coco.images), "--detector", "haar"]
    report = tmp_path / "report.json"

    content["annotations"] = [first | {"iscrowd": "0"}, second | {"iscrowd": "1"}]
    coco.json.write_text(json.dumps(content))
    assert eval.detection.main([*words, "--out", str(report)]) == 0
    assert json.loads(report.read_text())["faces"] == 1

    content["annotations"] = [first, second | {"bbox": [400, 400, 30, 30]}]
    coco.json.write_text(json.dumps(content))
    capsys.readouterr()
    assert eval.detection.main([*words, "--out", str(report)]) == 0
    assert json.loads(report.read_text())["faces"] == 1
    assert "annotations dropped: 1, the first: annotation 2" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["icml_face_data.csv", "fer2013/fer2013.csv"])
def test_case_08_a_folder_that_holds_the_csv_is_read(tmp_path: Path, place: str) -> None:
    path = tmp_path / "challenges" / place
    path.parent.mkdir(parents=True)
    write_fer2013(path)
    words = ["--data", str(tmp_path / "challenges"), "--split", "PrivateTest"]
    assert eval.classification.main([*words, "--classifier", "fast"]) == 0


def tarred(data: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        entry = tarfile.TarInfo("fer2013/fer2013.csv")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return file.getvalue()


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda data: data.split(b"\n", 1)[1], "put the line emotion,pixels,Usage before it"),
        (tarred, "a tar archive and no csv; unpack it first"),
        (gzip.compress, "a gzip archive and no csv; unpack it first"),
        (lambda data: b"<!DOCTYPE html><html>", "a web page and no csv"),
        (lambda data: b"\x00" * 4000, "binary and no csv"),
    ],
)
def test_case_09_tables_in_another_dress_are_named_in_a_short_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[bytes], bytes], cause: str
) -> None:
    path = write_fer2013(tmp_path / "fer2013.csv")
    path.write_bytes(change(path.read_bytes()))
    words: list[object] = ["--data", path, "--classifier", "fast"]
    assert cause in refused(eval.classification.main, words, capsys)


def test_case_09_votes_as_pandas_writes_them_are_read(tmp_path: Path) -> None:
    data = write_fer2013(tmp_path / "fer2013.csv", votes=tmp_path / "votes.csv")
    head, *rows = (tmp_path / "votes.csv").read_text().splitlines()
    cells = [row.split(",") for row in rows]
    floats = [[*row[:2], *(f"{n}.0" if n != "0" else "" for n in row[2:])] for row in cells]
    (tmp_path / "votes.csv").write_text("\n".join([head, *map(",".join, floats)]))
    words = ["--data", data, "--split", "PrivateTest", "--classifier", "fast"]
    words += ["--ferplus", tmp_path / "votes.csv"]
    assert eval.classification.main(list(map(str, words))) == 0


def test_case_10_damaged_exif_prints_no_warning_without_a_name(
    analyze: Any, tmp_path: Path
) -> None:
    whole = Image.open(HOPPER).convert("RGB")
    exif = Image.Exif()
    exif[274], exif[271] = 6, "maker" * 9
    data = exif.tobytes()
    two = bytearray(data)
    at = two.index(b"\x12\x01\x03\x00") if b"\x12\x01\x03\x00" in two else two.index(b"\x01\x12")
    two[at + 4 : at + 8] = b"\x02\x00\x00\x00" if b"II" in two[:8] else b"\x00\x00\x00\x02"
    for name, damaged in (("cut", data[:-30]), ("two_values", bytes(two))):
        whole.save(tmp_path / f"exif_{name}.jpg", exif=damaged)
    status, out, err = analyze(*sorted(tmp_path.glob("*.jpg")))
    assert status == 0 and "2 images analysed" in out
    assert "Warning" not in err
    assert all(line.startswith("twostage: exif_") for line in err.splitlines())


def test_case_11_a_jpeg_without_its_end_marker_is_read_half_a_one_is_not(
    analyze: Any, tmp_path: Path
) -> None:
    data = COLLINS.read_bytes()
    assert data.endswith(b"\xff\xd9")
    (tmp_path / "no_end_marker.jpg").write_bytes(data[:-2])
    assert analyze(tmp_path / "no_end_marker.jpg")[0] == 0
    (tmp_path / "half.jpg").write_bytes(data[: len(data) // 2])
    status, _, err = analyze(tmp_path / "half.jpg")
    assert status == 1 and "half.jpg: the file is truncated" in err


def answers(tmp_path: Path, *words: object) -> list[dict[str, Any]]:
    out = tmp_path / "faces.jsonl"
    out.unlink(missing_ok=True)
    given = ["analyze", *map(str, words), "--out", str(out), "--quiet", "--workers", "1"]
    assert cli.main(given) == 0
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_case_12_a_picture_that_is_one_face_is_analysed(tmp_path: Path) -> None:
    (found,) = answers(tmp_path, COLLINS)
    x1, y1, x2, y2 = (round(value) for value in found["faces"][0]["box"])
    width, height = x2 - x1, y2 - y1
    photo = Image.open(COLLINS).convert("RGB")
    crop = photo.crop((x1, y1, x2, y2)).resize((2 * width, 2 * height))
    crop.save(tmp_path / "crop.png")
    (seen,) = answers(tmp_path, tmp_path / "crop.png")
    assert len(seen["faces"]) == 1 and seen["faces"][0]["labels"][0] == "happy"
    (taken,) = answers(tmp_path, tmp_path / "crop.png", "--no-detector")
    assert taken["faces"][0]["box"] == [0, 0, crop.width, crop.height]


@pytest.mark.parametrize("turned", [90, 180, 270])
@pytest.mark.parametrize(("photo", "emotion"), [(COLLINS, "happy"), (HOPPER, "neutral")])
def test_case_13_a_photo_on_its_side_is_turned_and_its_one_face_named(
    photo: Path, emotion: str, turned: int
) -> None:
    stored = Image.open(photo).convert("RGB").rotate(turned, expand=True)
    result = twostage.load_pipeline(rotations=True).analyze(stored)
    assert result.turned == turned
    assert [face.labels(threshold=0.3) for face in result.faces] == [[emotion]]


def test_case_14_small_faces_in_a_large_picture_are_found(tmp_path: Path) -> None:
    (found,) = answers(tmp_path, COLLINS)
    left, _, right, _ = found["faces"][0]["box"]
    photo = Image.open(COLLINS).convert("RGB")
    scale = 20 / (right - left)
    small = photo.resize((round(photo.width * scale), round(photo.height * scale)))
    crowd = Image.new("RGB", (2400, 1800), (120, 130, 125))
    for number in range(30):
        crowd.paste(small, (150 + number % 6 * 390, 150 + number // 6 * 320))
    crowd.save(tmp_path / "crowd.png")
    (seen,) = answers(tmp_path, tmp_path / "crowd.png")
    assert len(seen["faces"]) >= 27
    (fast,) = answers(tmp_path, tmp_path / "crowd.png", "--detail", "fast")
    assert fast["smallest_face"] > 20  # said, where they cannot be seen


def test_case_15_control_characters_of_names_are_shown_escaped(
    analyze: Any, tmp_path: Path
) -> None:
    names = ["plain.jpg", "esc\x1b[31mred.jpg", "new\nline.jpg", "bad\x1b]0;title\x07.jpg"]
    for name in names:
        (tmp_path / name).write_bytes(b"" if name.startswith("bad") else HOPPER.read_bytes())
    status, out, err = analyze(tmp_path)
    assert status == 1 and "3 images analysed" in out
    assert not {"\x1b", "\x07"} & set(out + err)
    assert r"esc\x1b[31mred.jpg: " in out and r"new\nline.jpg: " in out
    assert r"bad\x1b]0;title\x07.jpg" in err


RECIPE = ["--recipe", "classification/recipes/simple_cnn.toml"]


def test_case_16_resume_says_what_differs_with_both_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_fer2013(tmp_path / "fer2013.csv")
    words: list[object] = [*RECIPE, "--data", data, "--out", tmp_path / "run"]
    small = ["batch_size", "7", "epochs", "1"]
    assert classification.train.main([*map(str, words), *small]) == 0
    notes = capsys.readouterr().err.splitlines()
    assert sum("not the official FER2013" in line for line in notes) == 1
    changed = [*words, "--resume", "batch_size", "7", "epochs", "1", "learning_rate", "0.5"]
    line = refused(classification.train.main, changed, capsys)
    assert "learning_rate was 0.001 and is 0.5" in line
    longer = [*map(str, words), "--resume", "batch_size", "7", "epochs", "2"]
    assert classification.train.main(longer) == 0


def test_case_17_a_training_that_has_burst_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_fer2013(tmp_path / "fer2013.csv")
    words = [*RECIPE, "--data", data, "--out", tmp_path / "run"]
    words += ["batch_size", "7", "epochs", "3", "learning_rate", "900", "optimizer", "sgd"]
    assert "learning_rate" in refused(classification.train.main, words, capsys)
    assert not (tmp_path / "run" / "card.json").exists()
