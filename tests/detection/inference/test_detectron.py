from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from torch import nn

from detection.inference.detectron import DetectronDetector, load_detector, load_run
from detection.modeling.checkpoints import save_weights, write_text
from detection.modeling.config import load_config
from faces.command import UserError

SMALL = ["MODEL.WEIGHTS", "", "INPUT.MIN_SIZE_TEST", "96", "INPUT.MAX_SIZE_TEST", "128",
         "MODEL.RPN.POST_NMS_TOPK_TEST", "50"]  # fmt: skip


class Fixed(nn.Module):
    """Stands for a Detectron2 model: remembers its inputs, always sees the same boxes."""

    def __init__(self, boxes: list[list[float]], scores: list[float]) -> None:
        super().__init__()
        self.parameter = nn.Parameter(torch.zeros(1))
        self.boxes, self.scores = boxes, scores
        self.seen: list[list[dict[str, Any]]] = []

    def forward(self, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        assert not self.training and torch.is_inference_mode_enabled()
        self.seen.append(batch)
        out = []
        for given in batch:
            instances = Instances(tuple(given["image"].shape[1:]))
            instances.pred_boxes = Boxes(torch.tensor(self.boxes).reshape(-1, 4))
            instances.scores = torch.tensor(self.scores)
            out.append({"instances": instances})
        return out


def fixed(*rows: tuple[list[float], float], order: str = "RGB") -> tuple[DetectronDetector, Fixed]:
    model = Fixed([box for box, _ in rows], [score for _, score in rows])
    cfg = load_config("mobilenet_fpn", [*SMALL, "INPUT.FORMAT", order])
    return DetectronDetector(model, cfg, "fixed", 0.5), model


def test_boxes_come_sorted_filtered_and_whole() -> None:
    detector, _ = fixed(
        ([1, 2, 11, 22], 0.4), ([3, 4, 13, 24], 0.6),
        ([5, 6, 5, 26], 0.9), ([7, 8, 9, 9], 1.0000001),
    )  # fmt: skip
    image = np.zeros((96, 128, 3), np.uint8)  # the size that the network takes
    (found,) = detector.detect([image])
    assert [d.score for d in found] == [1.0, pytest.approx(0.6)]
    assert found[1].box.as_tuple() == (3, 4, 13, 24)
    assert len(detector.detect([image], min_score=0.0)[0]) == 3
    assert len(detector.detect([image], min_score=0.99)[0]) == 1


def test_a_box_inside_a_better_one_is_dropped() -> None:
    model = Fixed([[5.0, 5, 15, 15], [0, 0, 30, 30], [20, 20, 39, 29]], [0.6, 0.9, 0.7])
    image = np.zeros((30, 40, 3), np.uint8)
    for containment, left in (("0.7", [0.9, 0.7]), ("1.1", [0.9, 0.7, 0.6])):
        cfg = load_config("mobilenet_fpn", [*SMALL, "MODEL.CONTAINMENT", containment])
        (found,) = DetectronDetector(model, cfg, "fixed", 0.5).detect([image])
        assert [d.score for d in found] == pytest.approx(left)


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_the_model_gets_the_colours_it_was_trained_on(order: str) -> None:
    detector, model = fixed(order=order)
    image = np.zeros((96, 96, 3), np.uint8)
    image[:, :, 0] = 200  # red
    detector.detect([image])
    tensor = model.seen[0][0]["image"]
    assert tensor.shape == (3, 96, 96)
    assert tensor[0 if order == "RGB" else 2].min() == 200


def test_no_pictures_no_faces() -> None:
    detector, _ = fixed()
    assert detector.detect([]) == []
    assert detector.detect([np.zeros((5, 5, 3), np.uint8)] * 3) == [[], [], []]


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((5, 5), np.uint8),
        np.zeros((5, 5, 4), np.uint8),
        np.zeros((5, 5, 3), np.float32),
        np.zeros((0, 5, 3), np.uint8),
    ],
)
def test_what_is_no_picture_is_refused(image: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        fixed()[0].detect([image])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of the light model with random weights that sees something everywhere."""
    folder = tmp_path_factory.mktemp("run")
    cfg = load_config("mobilenet_fpn", [*SMALL, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"])
    torch.manual_seed(0)
    save_weights(folder / "model.safetensors", build_model(cfg))
    write_text(folder / "config.yaml", cfg.dump())
    write_text(folder / "card.json", '{"kind": "detector"}')
    return folder


@pytest.fixture(scope="module")
def detector(run: Path) -> DetectronDetector:
    return load_run(run, "cpu")


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (50, 60), (1, 700), (900, 2), (300, 200)])
def test_any_size_of_picture(detector: DetectronDetector, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (*shape, 3), dtype=np.uint8)
    (found,) = detector.detect([image], min_score=0.0)
    height, width = shape
    for detection in found:
        x1, y1, x2, y2 = detection.box.as_tuple()
        assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
    assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)


def test_a_20000_pixel_picture(detector: DetectronDetector) -> None:
    image = np.full((20_000, 40, 3), 90, np.uint8)
    assert len(detector.detect([image, image[:40, :40]], min_score=0.0)) == 2


def test_the_same_picture_gives_the_same_faces_alone_and_among_others(
    detector: DetectronDetector,
) -> None:
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 255, (60, 40 + 30 * i, 3), dtype=np.uint8) for i in range(2)]
    together = detector.detect(images, min_score=0.0)
    assert together == [detector.detect([image], min_score=0.0)[0] for image in images]
    assert any(together)


def test_bfloat16_moves_scores_little(run: Path, tmp_path: Path) -> None:
    image = np.random.default_rng(2).integers(0, 255, (90, 90, 3), dtype=np.uint8)
    found = []
    for mode in ("off", "on"):
        cfg = load_config(run / "config.yaml", ["MODEL.BF16", mode])
        write_text(tmp_path / f"{mode}.yaml", cfg.dump())
        detector = load_detector(tmp_path / f"{mode}.yaml", run / "model.safetensors", "cpu")
        found.append(detector.detect([image], min_score=0.0)[0])
    assert found[0] and found[1]
    assert found[0][0].score == pytest.approx(found[1][0].score, abs=0.02)


@pytest.mark.parametrize("capable", [False, True])
def test_the_dtype_is_what_the_convolutions_compute_in(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capable: bool
) -> None:
    for module in ("networks.precision", "networks.openvino", "detection.inference.detectron"):
        monkeypatch.setattr(f"{module}.cpu_has_bf16", lambda: capable)
    monkeypatch.setattr("networks.openvino.CompiledGraph.__init__", lambda self, *_, **__: None)
    for mode, mixed in (("off", False), ("auto", capable), ("on", capable)):
        cfg = load_config(run / "config.yaml", ["MODEL.BF16", mode])
        write_text(tmp_path / "config.yaml", cfg.dump())
        detector = load_detector(tmp_path / "config.yaml", run / "model.safetensors", "cpu")
        assert detector.dtype == (torch.bfloat16 if mixed else torch.float32), mode


def test_names_and_thresholds(run: Path) -> None:
    detector = load_run(run, "cpu")
    assert detector.name == run.name and detector.score_threshold == 0.5
    named = load_detector(run / "config.yaml", run / "model.safetensors", "cpu", "light", 0.7)
    assert named.name == "light" and named.score_threshold == 0.7


def test_runs_that_cannot_be_used(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such run folder"):
        load_run(tmp_path / "absent")
    with pytest.raises(UserError, match=r"config\.yaml is missing \(expected a folder"):
        load_run(tmp_path)
    (tmp_path / "config.yaml").write_text((run / "config.yaml").read_text())
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    with pytest.raises(UserError, match=r"model\.safetensors is missing \(the training has not"):
        load_run(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"12345678")
    with pytest.raises(UserError, match="damaged"):
        load_run(tmp_path)
    (tmp_path / "config.yaml").write_text("MODEL: [")
    with pytest.raises(UserError, match="not a usable configuration"):
        load_run(tmp_path)
