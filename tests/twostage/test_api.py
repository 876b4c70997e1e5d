"""What people import: names, tables, drawings, real models, and an import that takes no time."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import twostage
from faces.crops import CROP_MARGIN
from faces.draw import draw_faces
from faces.sinks import open_sink
from tests.stand_ins import ScriptedClassifier, ScriptedDetector, brightness, probabilities

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "samples" / "collins.jpg"


def pipeline() -> twostage.Pipeline:
    return twostage.load_pipeline(ScriptedDetector(), ScriptedClassifier(brightness))


def test_importing_is_quick_and_brings_no_heavy_package() -> None:
    code = (
        "import json, sys, time\n"
        "start = time.perf_counter()\n"
        "import twostage\n"
        "seconds = time.perf_counter() - start\n"
        "print(json.dumps([seconds, sorted(m.partition('.')[0] for m in sys.modules)]))"
    )
    runs = [
        json.loads(subprocess.run([sys.executable, "-c", code], **OPTIONS).stdout) for _ in range(3)
    ]
    heavy = {"torch", "torchvision", "detectron2", "cv2", "numpy", "PIL", "pandas", "openvino"}
    assert not heavy & set(runs[0][1])
    assert min(seconds for seconds, _ in runs) < 1  # 0.05 s where nothing else runs


OPTIONS = {"capture_output": True, "text": True, "cwd": ROOT, "check": True}


def test_every_public_name_is_there_and_listed() -> None:
    for name in twostage.__all__:
        assert getattr(twostage, name) is not None and name in dir(twostage)
    assert len(twostage.EMOTIONS) == 7
    with pytest.raises(AttributeError, match="no attribute 'nobody'"):
        twostage.nobody  # noqa: B018


def test_packages_say_that_they_are_typed() -> None:
    for package in ("twostage", "faces", "networks"):
        assert files(package).joinpath("py.typed").is_file()


def test_a_pipeline_takes_models_and_a_margin() -> None:
    detector, classifier = ScriptedDetector(), ScriptedClassifier()
    loaded = twostage.load_pipeline(detector, classifier)
    assert (loaded.detector, loaded.classifier) == (detector, classifier)
    assert loaded.margin == CROP_MARGIN
    assert twostage.load_pipeline(detector, classifier, margin=0.25).margin == 0.25
    with pytest.raises(twostage.UserError, match="'nobody'"):
        twostage.load_pipeline("nobody")
    with pytest.raises(twostage.UserError, match="'nobody'"):
        twostage.load_pipeline(detector, Path("nobody"))


def test_a_table_has_a_row_per_face_as_the_csv(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    paths = [tmp_path / "a.png", tmp_path / "none.png", tmp_path / "a.png"]
    table = twostage.to_pandas(pipeline().analyze_many(paths), threshold={"sad": 0.9})
    with open_sink(tmp_path / "out.csv", {"sad": 0.9}) as sink:
        for result in pipeline().analyze_many(paths):
            if isinstance(result, twostage.ImageResult):
                sink.write(result)
    pandas.testing.assert_frame_equal(
        table, pandas.read_csv(tmp_path / "out.csv"), check_dtype=False
    )
    assert list(table["face"]) == [1, 2, 1, 2] and table["unsure"].dtype == bool
    assert len(twostage.to_pandas(pipeline().analyze(paths[0]))) == 2
    empty = twostage.to_pandas([])
    assert list(empty.columns) == list(table.columns) and len(empty) == 0


def test_a_missing_pandas_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(twostage.UserError, match="pip install pandas"):
        twostage.to_pandas([])


def test_drawing_takes_every_kind_of_image(tmp_path: Path) -> None:
    image = np.full((48, 64, 3), 200, np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    classifier = ScriptedClassifier(probabilities(happy=0.45, sad=0.35))
    result = twostage.load_pipeline(ScriptedDetector(), classifier).analyze(image)
    for source in (image, tmp_path / "a.png", Image.fromarray(image)):
        for threshold in (0.3, 0.4):
            expected = draw_faces(image, result, threshold)
            assert np.array_equal(twostage.draw(source, result, threshold), expected)
    assert not np.array_equal(draw_faces(image, result, 0.3), draw_faces(image, result, 0.4))
    assert (image == 200).all()


def test_the_shipped_models_answer_alike_from_several_threads() -> None:
    loaded = twostage.load_pipeline(device="cpu")
    image = twostage.read_image(SAMPLE)
    sources = [SAMPLE, image[:, ::-1], image[: len(image) // 2], image[::2, ::2]] * 2
    expected = [replace(loaded.analyze(source), seconds=0) for source in sources]
    with ThreadPoolExecutor(4) as pool:
        results = [replace(result, seconds=0) for result in pool.map(loaded.analyze, sources)]
    assert results == expected
    assert expected[0].faces and expected[0].faces[0].labels()
