"""The compiled light detector against Detectron2's own inference."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import box_iou

from detection.data.mapper import to_tensor
from detection.inference import compiled as inference
from detection.inference import openvino_graphs
from detection.inference.compiled import CompiledRCNN, compilable
from detection.inference.detectron import DetectronDetector, load_detector
from detection.modeling.config import load_config
from faces.command import UserError
from faces.images import read_image

ROOT = Path(__file__).parents[3]
WEIGHTS = ROOT / "weights" / "mobilenet_fpn.safetensors"
SURE = 0.3
"""Boxes from this score on must be the same; weaker ones win or lose NMS by rounding."""


@pytest.fixture(scope="module")
def light() -> tuple[Any, Any]:
    """The shipped weights in float32, with a suppression of its own, and their configuration."""
    overrides = ["MODEL.BF16", "off", "MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TEST", "320"]
    overrides += ["MODEL.VOTING", "0.6", "MODEL.CONTAINMENT", "0.8"]
    overrides += ["MODEL.ROI_HEADS.NMS_THRESH_TEST", "0.5"]
    detector = load_detector(WEIGHTS.with_suffix(".yaml"), WEIGHTS, "cpu", overrides=overrides)
    return detector._model, load_config(WEIGHTS.with_suffix(".yaml"), overrides)


@pytest.fixture(scope="module")
def compiled(light: tuple[Any, Any]) -> CompiledRCNN:
    return CompiledRCNN(*light)


def eager(model: Any, image: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
    with torch.inference_mode():
        (found,) = model.inference([{"image": to_tensor(image)}], do_postprocess=False)
    return found.pred_boxes.tensor, found.scores


def sample(name: str, width: int, height: int) -> NDArray[np.uint8]:
    image = read_image(ROOT / "samples" / f"{name}.jpg")
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


PICTURES = {
    "group": sample("group", 449, 183),
    "collins": sample("collins", 201, 203),
    "hopper": sample("hopper", 160, 192),
    "noise": np.random.default_rng(0).integers(0, 256, (97, 161, 3), dtype=np.uint8),
    "a line": np.random.default_rng(1).integers(0, 256, (1, 67, 3), dtype=np.uint8),
    "a dot": np.full((1, 1, 3), 200, np.uint8),
}


def assert_same(
    one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], least_iou: float = 0.95
) -> None:
    """Every sure box of one is among the other's, and the other way round."""
    for (boxes, scores), (others, other_scores) in ((one, other), (other, one)):
        sure = scores >= SURE
        if not sure.any():
            continue
        iou, partner = box_iou(boxes[sure], others).max(dim=1)
        assert iou.min() > least_iou
        assert (scores[sure] - other_scores[partner]).abs().max() < 0.02


@pytest.fixture
def all_proposals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "LEAST_OBJECTNESS", -np.inf)


@pytest.mark.parametrize("name", PICTURES)
def test_float32_finds_what_detectron2_finds(
    light: tuple[Any, Any], compiled: CompiledRCNN, name: str
) -> None:
    image = PICTURES[name]
    boxes, scores = compiled(image)
    expected, expected_scores = eager(light[0], image)
    assert_same((boxes, scores), (expected, expected_scores))
    assert (scores.diff() <= 0).all()
    height, width = image.shape[:2]
    assert (boxes >= 0).all() and (boxes <= torch.tensor([width, height] * 2)).all()


@pytest.mark.parametrize("name", ["group", "collins", "hopper"])
def test_bfloat16_finds_the_same_faces(light: tuple[Any, Any], name: str) -> None:
    model, cfg = light
    cfg = cfg.clone()
    cfg.MODEL.BF16 = "on"
    image = PICTURES[name]
    found = CompiledRCNN(model, cfg)(image)
    assert_same(found, eager(model, image), 0.9)  # rounding decides who votes


@pytest.mark.parametrize("separable", [True, False])
def test_random_weights_too(light: tuple[Any, Any], separable: bool) -> None:
    """Nothing is built in: all parts, with boxes everywhere and on all levels."""
    _, cfg = light
    cfg = cfg.clone()
    cfg.MODEL.SEPARABLE = separable
    cfg.merge_from_list(["MODEL.WEIGHTS", "", "MODEL.ROI_BOX_HEAD.NUM_FC", 2])
    cfg.merge_from_list(["MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "MODEL.FPN.OUT_CHANNELS", 8])
    torch.manual_seed(3)
    model = build_model(cfg).eval()
    with torch.no_grad():
        for parameter in model.roi_heads.parameters():
            parameter.mul_(3)
    for image in (PICTURES["noise"], PICTURES["group"]):
        (boxes, scores), (expected, expected_scores) = (
            CompiledRCNN(model, cfg)(image),
            eager(model, image),
        )
        assert len(boxes) == pytest.approx(len(expected), abs=3)
        iou, partner = box_iou(expected, boxes).max(dim=1)
        same = iou > 0.95
        assert same.float().mean() > 0.9
        assert (expected_scores - scores[partner])[same].abs().max() < 0.02


@pytest.mark.parametrize("name", ["group", "noise"])
def test_with_all_proposals_the_weak_boxes_are_the_same_too(
    light: tuple[Any, Any], compiled: CompiledRCNN, all_proposals: None, name: str
) -> None:
    boxes, scores = compiled(PICTURES[name])
    expected, expected_scores = eager(light[0], PICTURES[name])
    assert len(boxes) == len(expected)
    torch.testing.assert_close(boxes, expected, atol=0.05, rtol=0)
    torch.testing.assert_close(scores, expected_scores, atol=1e-3, rtol=0)


def test_voting_moves_boxes_and_no_more(light: tuple[Any, Any], compiled: CompiledRCNN) -> None:
    layers = light[0].roi_heads.box_predictor
    moved, scores = compiled(PICTURES["group"])
    voting, layers.voting = layers.voting, 1.1
    try:
        still, still_scores = compiled(PICTURES["group"])
    finally:
        layers.voting = voting
    assert torch.equal(scores, still_scores)
    assert 0 < (moved - still)[scores > SURE].abs().max() < 20


def test_threads_do_not_mix_their_answers(compiled: CompiledRCNN) -> None:
    images = [PICTURES[name] for name in ("group", "collins", "hopper")] * 2
    alone = [compiled(image) for image in images]
    with ThreadPoolExecutor(3) as pool:
        for one, other in zip(alone, pool.map(compiled, images), strict=True):
            assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


def test_answers_outlive_later_ones(compiled: CompiledRCNN) -> None:
    boxes, _ = compiled(PICTURES["collins"])
    kept = boxes.clone()
    compiled(PICTURES["hopper"])
    assert torch.equal(boxes, kept)


def test_only_the_light_model_on_the_cpu_is_compiled(light: tuple[Any, Any]) -> None:
    model, cfg = light
    assert compilable(model, cfg)
    assert not compilable(torch.nn.Identity(), cfg)
    for key, value in (
        ("MODEL.FPN.NORM", "GN"),
        ("MODEL.ROI_HEADS.NUM_CLASSES", 2),
        ("MODEL.ROI_BOX_HEAD.NUM_CONV", 1),
        ("MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO", 0),
        ("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone"),
    ):
        other = cfg.clone()
        other.merge_from_list([key, value])
        assert not compilable(model, other), key
    with pytest.raises(TypeError, match="Tanh cannot be built"):
        openvino_graphs.layer(torch.nn.Tanh(), None)


def test_the_detector_uses_it(light: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model, cfg = light
    detector = DetectronDetector(model, cfg, "light", 0.5)
    monkeypatch.setattr(model, "forward", None)
    image = read_image(ROOT / "samples" / "collins.jpg")
    (found,) = detector.detect([image])
    assert len(found) == 1 and found[0].box.x2 <= image.shape[1]


@pytest.mark.parametrize("name", ["group", "hopper", "noise"])
@pytest.mark.parametrize("eagerly", [False, True], ids=["compiled", "eager"])
@pytest.mark.parametrize("least", [None, 0.05])
def test_merged_boxes_and_what_is_shown_are_all_boxes(
    light: tuple[Any, Any],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    eagerly: bool,
    least: float | None,
) -> None:
    model, cfg = light
    detector = DetectronDetector(model, cfg, "light", 0.5)
    if eagerly:
        monkeypatch.setattr(detector, "_compiled", None)
    image = PICTURES[name]
    shown, merged = detector.explain(image, least)
    assert shown == detector.detect([image], least)[0]
    for box in merged:
        better = shown[box.into]
        overlaps = [box.detection.box.iou(other.box) for other in shown]
        assert overlaps[box.into] == pytest.approx(max(overlaps), abs=1e-5)
        inside = box.detection.box.intersection(better.box) / box.detection.box.area
        assert overlaps[box.into] > 0.45 or inside > 0.8 - 1e-3
        assert box.detection.score <= better.score
    predictor = model.roi_heads.box_predictor
    monkeypatch.setattr(predictor, "test_nms_thresh", 1.0)
    monkeypatch.setattr(predictor, "voting", 1.1)
    monkeypatch.setattr(detector, "_containment", 1.1)
    every = detector.detect([image], least)[0]
    assert {box.detection for box in merged} <= set(every)
    scores = [*(face.score for face in shown), *(box.detection.score for box in merged)]
    assert sorted(scores) == sorted(face.score for face in every)
    assert merged or name == "noise"


def test_explaining_does_not_disturb_others(light: tuple[Any, Any]) -> None:
    detector = DetectronDetector(*light, "light", 0.5)
    image = PICTURES["group"]
    alone = detector.detect([image])
    with ThreadPoolExecutor(4) as pool:
        explained = [pool.submit(detector.explain, image) for _ in range(4)]
        others = [pool.submit(detector.detect, [image]) for _ in range(4)]
    assert all(other.result() == alone for other in others)
    assert all(each.result()[0] == alone[0] for each in explained)


def test_detectron2s_own_heads_are_read_with_voting() -> None:
    overrides = ["MODEL.ROI_HEADS.NAME", "StandardROIHeads", "MODEL.VOTING", "0.6"]
    config = WEIGHTS.with_suffix(".yaml")
    standard = load_detector(config, WEIGHTS, "cpu", overrides=overrides)
    faces = load_detector(config, WEIGHTS, "cpu", overrides=overrides[2:])
    shown, _ = standard.explain(PICTURES["group"])
    assert shown and shown == faces.explain(PICTURES["group"])[0]


def test_a_seed_gives_the_network_that_detectron2s_heads_would_have(light: tuple[Any, Any]) -> None:
    states, after = [], []
    for name in ("StandardROIHeads", "FaceROIHeads"):
        cfg = light[1].clone()
        cfg.merge_from_list(["MODEL.ROI_HEADS.NAME", name])
        torch.manual_seed(5)
        states.append(build_model(cfg).state_dict())
        after.append(torch.rand(1))
    assert after[0] == after[1]
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), key


@pytest.mark.parametrize("voting", ["0", "-0.5"])
def test_a_voting_that_takes_in_all_boxes_is_refused(voting: str) -> None:
    overrides = ["MODEL.VOTING", voting]
    with pytest.raises(UserError, match=r"MODEL\.VOTING .* must be"):
        load_detector(WEIGHTS.with_suffix(".yaml"), WEIGHTS, "cpu", overrides=overrides)


SIGNAL = """
import os, signal
import numpy as np
from networks.openvino import CompiledGraph, import_openvino
ov = import_openvino()
def graph():
    given = ov.opset13.parameter([-1, 8], np.float32)
    return CompiledGraph(ov.Model([ov.opset13.relu(given)], [given], "x"), bf16=False, threads=1)
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
one, other = graph(), graph()
del one
del other
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_signals_are_handled_after_the_graphs_are_gone() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SIGNAL], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout == "handled\n"


MEMORY = """
import resource, sys
import numpy as np
from detection.inference.detectron import load_detector
detector = load_detector(sys.argv[1], sys.argv[2], "cpu")
random = np.random.default_rng(0)
def look(count):
    for _ in range(count):
        shape = (*random.integers(60, 900, 2), 3)
        detector.detect([random.integers(0, 256, shape, dtype=np.uint8)])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
look(100)
print(look(1), look(100))
"""


@pytest.mark.slow
def test_memory_stays_bounded_over_pictures_of_many_shapes() -> None:
    words = [str(WEIGHTS.with_suffix(".yaml")), str(WEIGHTS)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MEMORY, *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    before, after = map(int, done.stdout.split())
    assert after - before < 100
