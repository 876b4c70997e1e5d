"""Threshold and suppression chosen on validation: by hand, and as Detectron2 itself suppresses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from eval import operating_point
from eval.data import options
from eval.data.detections import as_arrays
from eval.operating_point import Suppression, select
from faces.coco import AnnotatedImage, Detections, GroundTruthFace
from faces.command import UserError
from faces.types import Box, Detection
from tests.stand_ins import ScriptedDetector

A, B, FAR = (0, 0, 100, 100), (200, 0, 300, 100), (500, 500, 600, 600)
PART = (20, 20, 80, 80)


def scene(*faces: tuple[int, ...]) -> AnnotatedImage:
    made = tuple(GroundTruthFace(Box(*face), "face", False) for face in faces)
    return AnnotatedImage(1, "1.png", None, False, made)


def found(*rows: tuple[tuple[int, ...], float]) -> Detections:
    return Detections.of([(tuple(map(float, box)), score) for box, score in rows])  # type: ignore[misc]


def test_the_threshold_with_the_best_f1() -> None:
    # F1 by threshold: .9 → 2/3; .6 → 1; .3 → 4/5
    point = operating_point.operating_point([scene(A, B)], [found((A, 0.9), (B, 0.6), (FAR, 0.3))])
    assert (point["threshold"], point["f1"], point["coverage"]) == (0.6, 1, 1)
    assert (point["wrong_per_image"], point["validation_ap50"]) == (0, pytest.approx(1))


def test_of_equal_f1_the_lowest_threshold_finds_the_most_faces() -> None:
    scenes = [scene(A) for _ in range(200)] + [scene(B)]
    boxes = [found((A, 0.9)) for _ in range(200)]
    # Two false boxes before the last face: F1 400/401 without these three, 402/404 with them.
    boxes.append(found((FAR, 0.6), (A, 0.55), (B, 0.5)))
    point = operating_point.operating_point(scenes, boxes)
    assert (point["threshold"], point["coverage"]) == (0.5, 1.0)
    assert point["f1"] == pytest.approx(402 / 404)
    boxes[-1] = found((FAR, 0.6), (A, 0.55), ((0, 200, 100, 300), 0.52), (B, 0.5))
    assert operating_point.operating_point(scenes, boxes)["f1"] == pytest.approx(402 / 405)
    boxes[-1] = found((FAR, 0.6), (A, 0.55), ((0, 200, 100, 300), 0.52))
    point = operating_point.operating_point(scenes, boxes)
    assert (point["threshold"], point["f1"]) == (0.52, pytest.approx(400 / 404))


def test_duplicates_are_kept_out_even_where_they_help_the_f1() -> None:
    faces = [A, B, (0, 200, 100, 300), (200, 200, 300, 300)]
    rows = [(A, 0.9), (PART, 0.8), *((face, 0.7) for face in faces[1:])]
    point = operating_point.operating_point([scene(*faces)], [found(*rows)])
    assert (point["threshold"], point["coverage"], point["duplicates_per_image"]) == (0.9, 1 / 4, 0)


@pytest.mark.parametrize("rows", [[], [(FAR, 0.9)]])
def test_nothing_to_choose_by(rows: list[Any]) -> None:
    with pytest.raises(UserError, match="no choice"):
        operating_point.operating_point([scene(A)], [found(*rows)])


def test_suppression_by_hand() -> None:
    rows = found((PART, 0.5), (A, 0.9), ((10, 0, 110, 100), 0.8), (B, 0.7))
    assert Suppression(0.95, 1.1, 1.1).apply(rows, 9).scores.tolist() == [0.9, 0.8, 0.7, 0.5]
    assert Suppression(0.95, 1.1, 0.9).apply(rows, 9).scores.tolist() == [0.9, 0.7]
    assert Suppression(0.5, 1.1, 1.1).apply(rows, 9).scores.tolist() == [0.9, 0.7, 0.5]
    assert Suppression(0.5, 1.1, 1.1).apply(rows, 2).scores.tolist() == [0.9, 0.7]
    voted = Suppression(0.5, 0.8, 1.1).apply(rows, 9).boxes  # A and its neighbour's IoU is 9 / 11
    np.testing.assert_allclose(voted[0], [80 / 17, 0, 100 + 80 / 17, 100], atol=1e-5)
    np.testing.assert_array_equal(voted[1:], Suppression(0.5, 1.1, 1.1).apply(rows, 9).boxes[1:])


def test_of_equals_the_choice_has_the_fewest_duplicates() -> None:
    keys = ("f1", "validation_ap", "duplicates_per_image", "coverage")
    figures = [
        (0.800, 0.405, 0.03, 0.9),
        (0.797, 0.408, 0.01, 0.8),
        (0.797, 0.405, 0.01, 0.81),
        (0.797, 0.406, 0.01, 0.81),
        (0.797, 0.395, 0.00, 0.9),  # its AP is no equal
        (0.785, 0.500, 0.00, 0.9),  # nor is its F1
    ]
    rows = [dict(zip(keys, row, strict=True)) for row in figures]
    assert select(rows) is rows[3]


def test_suppressing_afterwards_is_what_detectron2_does(tmp_path: Path) -> None:
    """The shipped model with a grid point set, against its boxes suppressed by this command."""
    from faces.images import read_image

    photo = Path(__file__).resolve().parents[2] / "samples" / "group.jpg"
    image = read_image(photo)
    small = ("INPUT.MIN_SIZE_TEST", "160", "INPUT.MAX_SIZE_TEST", "280")
    some = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0005")
    [everything] = options.load_detectors(
        ["default"], "cpu", (*operating_point.EVERYTHING, *small, *some)
    )
    boxes = as_arrays(everything.detect([image], 0.0)[0])
    for nms, voting, containment in ((0.3, 1.1, 0.6), (0.5, 0.5, 1.1), (0.65, 0.7, 0.8)):
        keys = ("MODEL.ROI_HEADS.NMS_THRESH_TEST", str(nms), "MODEL.VOTING", str(voting))
        keys += ("MODEL.CONTAINMENT", str(containment))
        limit = ("TEST.DETECTIONS_PER_IMAGE", "9")
        [model] = options.load_detectors(["default"], "cpu", (*keys, *small, *some, *limit))
        theirs = as_arrays(model.detect([image], 0.0)[0])
        ours = Suppression(nms, voting, containment).apply(boxes, 9)
        assert 3 <= len(theirs.scores) <= 9 < len(boxes.scores)
        np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=1e-3)
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-6)


def known() -> ScriptedDetector:
    """A detector that finds the same two boxes everywhere."""
    boxes = [Detection(Box(10, 10, 40, 40), 0.8127), Detection(Box(60, 60, 80, 80), 0.4)]
    return ScriptedDetector(boxes, "known")


def model() -> ScriptedDetector:
    """Stands for a Detectron2 model: its suppression can be selected."""
    detector = known()
    detector.most_detections = 5  # type: ignore[attr-defined]
    return detector


@pytest.fixture
def data(tmp_path: Path) -> Path:
    PillowImage.new("RGB", (100, 100)).save(tmp_path / "1.png")
    truth = {
        "images": [{"id": 1, "file_name": "1.png"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 30, 30]}],
        "categories": [{"id": 1, "name": "face"}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    return tmp_path


def call(data: Path, *arguments: str) -> int:
    paths = ["--coco", str(data / "truth.json"), "--images", str(data)]
    return operating_point.main([*paths, "--out", str(data / "out.json"), *arguments])


def test_the_record_and_the_run_folder(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from detection.modeling.checkpoints import write_text
    from detection.modeling.config import load_config

    run = data / "run"
    run.mkdir()
    write_text(run / "config.yaml", load_config("mobilenet_fpn").dump())
    write_text(run / "card.json", '{"kind": "detector", "score_threshold": 0.5}')
    monkeypatch.setattr(options, "load_detectors", lambda *_: [model()])
    assert call(data, "--detector", str(run), "--write") == 0
    record = json.loads((data / "out.json").read_text())
    assert record["detector"] == "known" and record["chosen_threshold"] == 0.812
    assert len(record["grid"]) == (4 * 4 + 3 * 3) * len(operating_point.CONTAINMENT)
    assert all(row["voting"] >= row["nms"] for row in record["grid"])
    cfg, card = load_config(run / "config.yaml"), json.loads((run / "card.json").read_text())
    assert cfg.MODEL.SCORE_THRESHOLD == card["score_threshold"] == 0.812
    assert cfg.MODEL.CONTAINMENT == record["containment"]
    assert cfg.MODEL.VOTING == record["voting"]
    assert cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST == record["nms"]
    assert card["operating_point"]["f1"] == 1 and "grid" not in card["operating_point"]
    assert "chosen" in capsys.readouterr().out


def test_the_choice_is_made_with_the_overrides(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Sequence[str]] = []

    def load(
        names: list[str], device: str | None, overrides: Sequence[str] = ()
    ) -> list[ScriptedDetector]:
        given.append(overrides)
        return [model()]

    monkeypatch.setattr(options, "load_detectors", load)
    assert call(data, "--detector", "default", "INPUT.MIN_SIZE_TEST", "400") == 0
    assert [tuple(one[:2]) for one in given] == [("INPUT.MIN_SIZE_TEST", "400")] * 2
    assert tuple(given[1][2:]) == operating_point.EVERYTHING


def test_a_shipped_setting_keeps_what_was_not_chosen(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from detection.modeling.config import load_config
    from twostage.model_zoo import ShippedModel

    (data / "small.yaml").write_text(load_config("mobilenet_fpn").dump())
    text = "_BASE_: small.yaml\nINPUT:\n  MIN_SIZE_TEST: 400\n"
    (data / "large.yaml").write_text(text)
    (data / "large.json").write_text('{"name": "large"}')
    listed = {"large": ShippedModel("large", "", weights_of="small")}
    monkeypatch.setattr("twostage.model_zoo.WEIGHTS", data)
    monkeypatch.setattr("twostage.model_zoo.shipped_models", lambda stage: listed)
    monkeypatch.setattr(options, "load_detectors", lambda *_: [model()])
    larger = ("INPUT.MAX_SIZE_TEST", "700", "MODEL.RPN.SMOOTH_L1_BETA", "0.5")
    assert call(data, "--detector", "large", "--write", *larger) == 0
    cfg, card = load_config(data / "large.yaml"), json.loads((data / "large.json").read_text())
    assert (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST) == (400, 700)
    assert cfg.MODEL.RPN.SMOOTH_L1_BETA == 0.5
    assert cfg.MODEL.SCORE_THRESHOLD == card["score_threshold"] == 0.812
    assert (data / "large.yaml").read_text().count("\n") < 13  # still what differs, and no more
    assert card["name"] == "large" and card["operating_point"]["images"] == 1


def test_other_detectors_get_a_threshold(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "load_detectors", lambda *_: [known()])
    assert call(data, "--detector", "known") == 0
    record = json.loads((data / "out.json").read_text())
    assert record["chosen_threshold"] == 0.812 and "nms" not in record


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (["--detector", "haar", "--write"], "is no run folder"),
        (["--detector", "nothing"], "neither a shipped one"),
        (["--detector", "haar", "INPUT.MIN_SIZE_TEST", "400"], "haar has no configuration"),
        (["--detector", "default", "INPUT.MIN_SIZE", "400"], "did you mean INPUT.MIN_SIZE_TEST?"),
    ],
)
def test_mistakes_are_one_line(
    data: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], cause: str
) -> None:
    assert call(data, *arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and cause in error
