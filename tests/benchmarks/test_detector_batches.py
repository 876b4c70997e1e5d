import json

import numpy as np
import pytest
from detectron2.modeling import build_model

from benchmarks import detector_batches
from detection.inference import openvino_graphs
from detection.modeling.config import load_config
from networks.openvino import CompiledGraph


def test_several_pictures_in_one_call_give_what_each_gives_alone():
    model = build_model(load_config("mobilenet_fpn", ["MODEL.WEIGHTS", ""])).eval()
    pictures = np.random.default_rng(0).integers(0, 256, (3, 64, 96, 3), dtype=np.uint8)
    one = CompiledGraph(openvino_graphs.trunk(model), bf16=False, threads=1)
    several = CompiledGraph(detector_batches.batched_trunk(model), bf16=False, threads=1)
    together = [output.copy() for output in several(pictures)]
    alone = [[output.copy() for output in one(picture)] for picture in pictures]
    assert len(together) == 15
    for whole, parts in zip(together, zip(*alone, strict=True), strict=True):
        assert len(whole) == sum(map(len, parts))
        np.testing.assert_allclose(whole, np.concatenate(parts), atol=1e-4, rtol=1e-4)


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(detector_batches, "SECONDS", 0.0)
    out = tmp_path / "b.json"
    words = ["--size", "60", "40", "--batches", "1", "2", "--rounds", "2", "--threads", "1"]
    words += ["--out", str(out), "MODEL.SEPARABLE", "False"]
    assert detector_batches.main(words) == 0
    rows = json.loads(out.read_text())["runs"]
    assert [row["pictures_per_batch"] for row in rows] == [1, 2]
    assert {row["detector"] for row in rows} == {"mobilenet_fpn MODEL.SEPARABLE False"}
    for row in rows:
        assert 0 < row["ms_least"] <= row["ms_per_image"] <= row["ms_most"]
        assert row["ms_difference"] == pytest.approx(row["ms_per_image"] - rows[0]["ms_per_image"])
    assert "mobilenet_fpn" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["--batches", "0"], "expected a whole number from 1"),
        (["--config-file", "x101_fpn"], "no configuration of the light detector"),
        (["--config-file", "absent"], "absent: no such configuration"),
        (["--rounds", "1", "MODEL.SEPARABLES", "False"], "did you mean MODEL.SEPARABLE?"),
    ],
)
def test_mistakes_are_one_line(words, cause, monkeypatch, capsys):
    if "x101_fpn" in words:  # without its hundred million parameters
        monkeypatch.setattr("detection.inference.compiled.compilable", lambda model, cfg: False)
        words = ["--config-file", "mobilenet_fpn"]
    assert detector_batches.main(words) == 2
    error = capsys.readouterr().err
    assert cause in error and error.count("\n") == 1
