"""Result files: their exact content, and that nothing is lost or half written."""

from __future__ import annotations

import csv
import gc
import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faces.emotions import EMOTIONS
from faces.sinks import CSV_COLUMNS, Sink, SinkError, open_sink, result_to_dict
from faces.types import Box, Detection, EmotionProbabilities, Face, ImageResult

EXTENSIONS = [".jsonl", ".json", ".csv", ".coco.json"]
FIRST = EmotionProbabilities((0.05, 0.0, 0.0, 0.5, 0.05, 0.35, 0.05))
EVEN = EmotionProbabilities((0.15, 0.14, 0.14, 0.14, 0.14, 0.14, 0.15))


def face(box: tuple[float, float, float, float], scores: EmotionProbabilities = FIRST) -> Face:
    return Face(Detection(Box(*box), 0.98765432), scores)


def result(source: str = "a.jpg", *faces: Face) -> ImageResult:
    return ImageResult(source, 640, 480, 0.123456, faces)


TWO = result("a.jpg", face((10.123, 20.0, 60.456, 70.999)), face((-5, 400, 30, 500), EVEN))


def write(path: Path, *results: ImageResult, threshold: object = 0.3) -> None:
    with open_sink(path, threshold) as sink:  # type: ignore[arg-type]
        for item in results:
            sink.write(item)


def strict(text: str) -> object:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    return json.loads(text, parse_constant=refuse)


# --- the object ---


def test_object_is_the_published_one() -> None:
    assert result_to_dict(TWO, 0.3) == {
        "schema_version": 1,
        "source": "a.jpg",
        "width": 640,
        "height": 480,
        "seconds": 0.1235,
        "smallest_face": None,
        "turned": 0,
        "faces": [
            {
                "box": [10.12, 20.0, 60.46, 71.0],
                "score": 0.987654,
                "emotions": {
                    **{"angry": 0.05, "disgust": 0.0, "fear": 0.0, "happy": 0.5},
                    **{"sad": 0.05, "surprise": 0.35, "neutral": 0.05},
                },
                "labels": ["happy", "surprise"],
                "unsure": False,
            },
            {
                "box": [0, 400, 30, 480],
                "score": 0.987654,
                "emotions": dict(zip(EMOTIONS, EVEN.probabilities, strict=True)),
                "labels": [],
                "unsure": True,
            },
        ],
    }
    assert list(result_to_dict(TWO)) == [
        *("schema_version", "source", "width", "height", "seconds"),
        *("smallest_face", "turned", "faces"),
    ]


def test_thresholds_per_emotion() -> None:
    faces = result_to_dict(TWO, {"happy": 0.6, "angry": 0.15})["faces"]
    assert [f["labels"] for f in faces] == [["surprise"], ["angry"]]
    assert [f["unsure"] for f in faces] == [False, True]  # the second has a label, but at 1/7


def test_labels_follow_from_the_unrounded_probabilities() -> None:
    just_below = math.nextafter(0.3, 0)
    scores = EmotionProbabilities((just_below, 0.3, 0.4 - 1e-9, 1e-9, 0.0, 0.0, 0.0))
    plain = result_to_dict(result("a", face((0, 0, 1, 1), scores)), 0.3)["faces"][0]
    assert plain["labels"] == ["fear", "disgust"]
    assert plain["emotions"]["angry"] == 0.3


@given(st.lists(st.floats(0, 1), min_size=7, max_size=7).filter(lambda v: sum(v) > 1e-3))
def test_emotions_sum_to_one(values: list[float]) -> None:
    scores = EmotionProbabilities.from_row(np.float32(values) / np.float32(values).sum())
    plain = result_to_dict(result("a", face((0, 0, 1, 1), scores)))["faces"][0]
    assert abs(sum(plain["emotions"].values()) - 1) < 1e-5
    assert plain["unsure"] == scores.unsure()


@pytest.mark.parametrize("box", [(700, 500, 720, 530), (-9, -9, -1, -1), (1, 1, 1.001, 1.002)])
def test_boxes_of_which_no_area_would_remain(box: tuple[float, float, float, float]) -> None:
    assert result_to_dict(result("a", face(box)))["faces"][0]["box"] == list(box)


def test_numpy_numbers_are_written_as_plain_ones(tmp_path: Path) -> None:
    box = Box(*np.float32([1.5, 2.25, 30, 40]))
    scores = EmotionProbabilities.from_row(np.float32(FIRST.probabilities))
    odd = ImageResult(
        "a",
        np.int64(640),
        np.int64(480),
        np.float32(0.5),
        (Face(Detection(box, np.float32(0.5)), scores),),
    )
    for extension in EXTENSIONS:
        write(tmp_path / f"out{extension}", odd)
    assert strict((tmp_path / "out.jsonl").read_text())["faces"][0]["box"] == [1.5, 2.25, 30, 40]


# --- the formats ---


def test_json_lines(tmp_path: Path) -> None:
    write(tmp_path / "out.jsonl", TWO, result("b.jpg"))
    lines = (tmp_path / "out.jsonl").read_text("utf-8").splitlines()
    assert [strict(line) for line in lines] == [
        result_to_dict(TWO),
        result_to_dict(result("b.jpg")),
    ]


@pytest.mark.parametrize("number", [0, 1, 3])
def test_json(tmp_path: Path, number: int) -> None:
    write(tmp_path / "out.json", *[TWO] * number)
    text = (tmp_path / "out.json").read_text("utf-8")
    assert strict(text) == [result_to_dict(TWO)] * number
    assert text.endswith("\n")


def test_csv(tmp_path: Path) -> None:
    write(tmp_path / "out.csv", result("none.jpg"), TWO)
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert [row["face"] for row in rows] == ["2", "1"]
    expected = {
        **{"source": "a.jpg", "width": "640", "height": "480", "face": "2", "x1": "10.12"},
        **{"y1": "20.0", "x2": "60.46", "y2": "71.0", "score": "0.987654", "angry": "0.05"},
        **{"disgust": "0.0", "fear": "0.0", "happy": "0.5", "sad": "0.05", "surprise": "0.35"},
        **{"neutral": "0.05", "labels": "happy;surprise", "unsure": "false"},
    }
    assert rows[0] == expected
    assert (rows[1]["labels"], rows[1]["unsure"]) == ("", "true")


@pytest.mark.parametrize("name", ["=1+1.jpg", "+a", "-a", "@a", "\ta", "\ra", "\n=a", "\uff1da"])
def test_no_cell_of_a_csv_is_a_formula(tmp_path: Path, name: str) -> None:
    path = tmp_path / "out.csv"
    with open_sink(path) as sink:
        for source in (name, f"photos/{name}"):
            sink.write(replace(TWO, source=source))
    with path.open(newline="", encoding="utf-8") as file:
        sources = [row["source"] for row in csv.DictReader(file)]
    assert sources == [f"'{name}"] * 2 + [f"photos/{name}"] * 2


def test_coco_by_hand(tmp_path: Path) -> None:
    write(tmp_path / "out.coco.json", result("none.jpg"), TWO, TWO)
    plain = strict((tmp_path / "out.coco.json").read_text("utf-8"))
    assert isinstance(plain, dict)
    assert plain["categories"] == [{"id": 1, "name": "face", "supercategory": "person"}]
    assert [(i["id"], i["file_name"]) for i in plain["images"]] == [
        *((1, "none.jpg"), (2, "a.jpg"), (3, "a.jpg")),
    ]
    assert [(a["id"], a["image_id"]) for a in plain["annotations"]] == [
        *((1, 2), (2, 2), (3, 3), (4, 3)),
    ]
    first = plain["annotations"][0]
    assert first["bbox"] == [10.12, 20.0, 50.34, 51.0]
    assert first["area"] == pytest.approx(50.34 * 51)
    assert (first["iscrowd"], first["score"]) == (0, 0.987654)
    assert first["labels"] == ["happy", "surprise"] and first["emotions"]["happy"] == 0.5


@pytest.mark.parametrize("number", [0, 1, 5])
def test_pycocotools_loads_it(tmp_path: Path, number: int) -> None:
    coco_module = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    path = tmp_path / "out.coco.json"
    write(path, *[TWO] * number)
    truth = coco_module.COCO(str(path))
    assert len(truth.getImgIds()) == number and len(truth.getAnnIds()) == 2 * number
    if not number:
        return
    found = truth.loadRes(json.loads(path.read_text("utf-8"))["annotations"])
    assert found.loadAnns([1])[0]["emotions"]["happy"] == 0.5
    evaluation = COCOeval(truth, found, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)


SOURCES = [
    "ordner/Grüße 顔 🙂.jpg",
    'quote" comma, semi; tab\t.jpg',
    "two\nlines\r\n.jpg",
    "old\rline.jpg",
    "\u2028.jpg",
    "=1+1.jpg",
    os.fsdecode(b"caf\xe9\xff.jpg"),
    "null\0.jpg",
]


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_odd_names_survive(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"out{extension}"
    write(path, *[result(source, face((1, 2, 3, 4))) for source in SOURCES])
    text = path.read_bytes().decode("utf-8")
    if extension == ".csv":
        with path.open(newline="", encoding="utf-8") as stream:
            found = [row["source"] for row in csv.DictReader(stream)]
        assert found.pop(5) == "'=1+1.jpg"  # no formula
        found.insert(5, "=1+1.jpg")
        assert [s for s in found if "\\udc" not in s] == [s for s in SOURCES if "caf" not in s]
        assert "caf\\udce9\\udcff.jpg" in found
    elif extension == ".jsonl":
        found = [json.loads(line)["source"] for line in text.split("\n")[:-1]]
        assert found == SOURCES
    elif extension == ".json":
        assert [item["source"] for item in json.loads(text)] == SOURCES
    else:
        assert [item["file_name"] for item in json.loads(text)["images"]] == SOURCES


# --- never half written ---


def complete(path: Path) -> int:
    """Return the number of pictures with faces in a valid result file."""
    text = path.read_text("utf-8")
    if path.suffix == ".csv":
        rows = list(csv.reader(text.splitlines()))
        assert {len(row) for row in rows} == {len(CSV_COLUMNS)}
        assert len(rows) % 2 == 1
        return len(rows) // 2
    if path.suffix == ".jsonl":
        return len([json.loads(line) for line in text.splitlines()])
    plain = json.loads(text)
    if isinstance(plain, list):
        return len(plain)
    assert len(plain["annotations"]) == 2 * len(plain["images"])
    return len(plain["images"])


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, GeneratorExit])
def test_an_exception_leaves_a_valid_file(
    tmp_path: Path, extension: str, error: type[BaseException]
) -> None:
    path = tmp_path / f"out{extension}"
    path.write_text("old")
    with pytest.raises(error), open_sink(path) as sink:
        sink.write(TWO)
        sink.write(TWO)
        assert path.read_text() == "old"
        raise error
    assert complete(path) == 2
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_an_exception_before_the_first_picture_keeps_the_old_file(
    tmp_path: Path, extension: str
) -> None:
    path = tmp_path / f"out{extension}"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), open_sink(path):
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_an_interrupt_within_a_write(
    tmp_path: Path, extension: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"out{extension}"
    append = Sink._append

    def half(self: Sink, file: object, end: int, data: bytes) -> None:
        append(self, file, end, data[: len(data) // 2])  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), open_sink(path) as sink:
        sink.write(TWO)
        monkeypatch.setattr(Sink, "_append", half)
        sink.write(TWO)
    assert complete(path) == 1


ENDLESS = """
import sys
sys.path.insert(0, {here!r})
import test_sinks as t
with t.open_sink(sys.argv[1]) as sink:
    while True:
        sink.write(t.TWO)
"""


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_ctrl_c_at_any_moment(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"out{extension}"
    code = ENDLESS.format(here=str(Path(__file__).parent))
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[2],
        # A job in the background ignores Ctrl-C, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    try:
        while not any(p.stat().st_size > 10_000 for p in tmp_path.iterdir()):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        process.wait(60)
    finally:
        process.kill()
    assert os.listdir(tmp_path) == [path.name]
    assert complete(path) > 5


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_a_full_disk(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"out{extension}"
    path.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(SinkError, match=r"File too large.*\.part"), open_sink(path) as sink:
            sink.write(TWO)
            resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
            for _ in range(50):
                sink.write(TWO)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_text() == "old"
    (part,) = (p for p in tmp_path.glob("*.part") if "annotations" not in p.name)
    text = part.read_text("utf-8")
    if extension == ".coco.json":
        (annotations,) = tmp_path.glob("*.annotations.*.part")
        text += '],"annotations":[' + annotations.read_text("utf-8") + "]}"
    part.write_text(text + ("]" if extension == ".json" else ""))
    assert complete(part.rename(path)) >= 1


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("limit", [0, 150])
def test_a_disk_that_is_full_from_the_start_keeps_nothing(
    tmp_path: Path, extension: str, limit: int
) -> None:
    path = tmp_path / f"out{extension}"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
        with pytest.raises(SinkError, match="File too large") as caught, open_sink(path) as sink:
            sink.write(TWO)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert os.listdir(tmp_path) == [] and ".part" not in str(caught.value)


def test_results_are_on_disk_at_once(tmp_path: Path) -> None:
    with open_sink(tmp_path / "out.jsonl") as sink:
        sink.write(TWO)
        part = next(p for p in tmp_path.glob("out.jsonl.*.part") if "annotations" not in p.name)
        assert json.loads(part.read_text()) == result_to_dict(TWO)


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_memory_stays_flat(tmp_path: Path, extension: str) -> None:
    import tracemalloc

    with open_sink(tmp_path / f"out{extension}") as sink:
        sink.write(TWO)
        tracemalloc.start()
        for _ in range(2000):
            sink.write(TWO)
        gc.collect()
        current, _peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert current < 100_000
    assert complete(tmp_path / f"out{extension}") == 2001


# --- targets ---


def test_folders_are_made_and_case_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "OUT.COCO.JSON"
    write(path, TWO)
    assert "images" in json.loads(path.read_text())
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to("real.json")
    write(tmp_path / "link.json", TWO)
    assert (tmp_path / "link.json").is_symlink()
    assert len(json.loads((tmp_path / "real.json").read_text())) == 1


def test_targets_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe.csv")
    for name, words in [
        ("out.xml", r"\.jsonl, \.coco\.json, \.json, \.csv"),
        ("json", "unknown kind"),
        ("", "unknown kind"),
        ("folder.json", "is a folder"),
        ("pipe.csv", "no regular file"),
        ("file/out.csv", "is not a folder"),
        ("file/deep/out.csv", "is not a folder"),
    ]:
        with pytest.raises(SinkError, match=words):
            open_sink(f"{tmp_path}/{name}")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(SinkError, match="no permission"):
        open_sink(tmp_path / "out.json")


def test_outside_its_block_a_sink_says_so(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="with"):
        open_sink(tmp_path / "out.json").write(TWO)
    assert os.listdir(tmp_path) == []
