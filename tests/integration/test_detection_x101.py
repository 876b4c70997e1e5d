"""The mission's own model, from json and pictures to a photo analysed with what it left.

Random weights, small pictures, three iterations: this proves the path, not the quality.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2 import model_zoo
from detectron2.modeling import build_model
from PIL import Image

from detection import train
from detection.modeling.checkpoints import FaceCheckpointer, read_state
from detection.modeling.config import build_network, load_config
from faces.emotions import EMOTIONS
from faces.images import read_image
from faces.pipeline import Pipeline
from twostage.model_zoo import load_detector

TINY = [
    "MODEL.WEIGHTS", "", "INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MAX_SIZE_TRAIN", "96",
    "INPUT.MIN_SIZE_TEST", "64", "INPUT.MAX_SIZE_TEST", "96",
    "SOLVER.IMS_PER_BATCH", "1", "SOLVER.MAX_ITER", "3", "SOLVER.STEPS", "(2,)",
    "SOLVER.CHECKPOINT_PERIOD", "1000", "SOLVER.BASE_LR", "1e-5", "TEST.EVAL_PERIOD", "0",
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN", "50", "MODEL.RPN.PRE_NMS_TOPK_TEST", "20",
    "MODEL.RPN.POST_NMS_TOPK_TRAIN", "20", "MODEL.RPN.POST_NMS_TOPK_TEST", "10",
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0", "DATALOADER.NUM_WORKERS", "0",
    "MODEL.SCORE_THRESHOLD", "0.0",
]  # fmt: skip


class Even:
    """A classifier that finds every emotion equally likely."""

    name = "even"

    def probabilities(self, crops: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        return np.full((len(crops), len(EMOTIONS)), 1 / len(EMOTIONS), np.float32)


def dataturks(folder: Path) -> tuple[Path, Path]:
    """Write a Dataturks export and its pictures; return both."""
    rng = np.random.default_rng(0)
    images = folder / "images"
    images.mkdir()
    lines = []
    for i in range(12):
        name = f"photo_{i}.jpg"
        Image.fromarray(rng.integers(0, 255, (64, 80, 3), dtype=np.uint8)).save(images / name)
        points = [{"x": 0.2, "y": 0.2}, {"x": 0.6, "y": 0.8}]
        annotation = [{"label": ["Face"], "points": points}]
        lines.append(json.dumps({"content": f"http://h/{name}", "annotation": annotation}))
    (folder / "faces.json").write_text("\n".join(lines))
    return folder / "faces.json", images


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_x101_trains_saves_and_analyses_a_photo(tmp_path: Path) -> None:
    file, images = dataturks(tmp_path)
    run = tmp_path / "x101"
    argv = ["--config-file", "x101_fpn", "--num-gpus", "0", "--dataturks", str(file), str(images)]
    assert train.main([*argv, *TINY, "OUTPUT_DIR", str(run), "DATASETS.TEST", "()"]) == 0
    (run / "model_final.pth").unlink()  # half a gigabyte that nothing below needs

    card = json.loads((run / "card.json").read_text())
    assert card["parameters"] > 100_000_000
    assert json.loads((run / "metrics.json").read_text())["report"][0]["AP"] is not None

    photo = read_image(images / "photo_1.jpg")
    result = Pipeline(load_detector(str(run), "cpu"), Even()).analyze(photo, "photo")
    assert (result.width, result.height) == (80, 64)
    assert result.faces
    for face in result.faces:
        assert 0 <= face.detection.box.x1 < face.detection.box.x2 <= 80


def zoo_pickle(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Write random weights as the model zoo publishes its own of COCO; return them by name."""
    cfg = model_zoo.get_config("COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x.yaml")
    cfg.MODEL.DEVICE = "cpu"
    state = {name: value.numpy() for name, value in build_model(cfg).state_dict().items()}
    old = {"proposal_generator.anchor_generator.cell_anchors.0": np.zeros((3, 4), np.float32)}
    path.write_bytes(pickle.dumps({"model": state | old, "__author__": "Detectron2 Model Zoo"}))
    return state


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_file_of_the_model_zoo_starts_x101_which_is_tuned_resumed_and_used(
    tmp_path: Path,
) -> None:
    zoo = zoo_pickle(tmp_path / "zoo.pkl")
    ours = build_network(load_config("x101_fpn", ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""]))
    FaceCheckpointer(ours).load(str(tmp_path / "zoo.pkl"))
    heads = "roi_heads.box_predictor."
    loaded = ours.state_dict()
    assert loaded.keys() == zoo.keys()
    for name, value in loaded.items():
        same = value.shape == zoo[name].shape and np.array_equal(value.numpy(), zoo[name])
        assert same != name.startswith(heads), name
    del ours, loaded

    file, images = dataturks(tmp_path)
    run = tmp_path / "run"
    words = ["--config-file", "x101_fpn", "--num-gpus", "0"]
    words += ["--dataturks", str(file), str(images)]
    keys = [*TINY, "OUTPUT_DIR", str(run), "DATASETS.TEST", "()"]
    keys += ["MODEL.WEIGHTS", str(tmp_path / "zoo.pkl"), "SOLVER.STEPS", "()"]
    assert train.main([*words, *keys, "SOLVER.MAX_ITER", "1"]) == 0
    assert train.main([*words, "--resume", *keys, "SOLVER.MAX_ITER", "2"]) == 0
    assert json.loads((run / "metrics.json").read_text())["report"][0]["AP"] is not None

    tuned = read_state(run / "model.safetensors")["model"]
    frozen = "backbone.bottom_up.res4.22.conv3.weight"
    assert torch.equal(tuned[frozen], torch.from_numpy(zoo[frozen]))
    assert tuned[f"{heads}cls_score.weight"].shape[0] == 2
    photo = read_image(images / "photo_1.jpg")
    for face in load_detector(str(run), "cpu").detect([photo])[0]:
        assert 0 <= face.box.x1 < face.box.x2 <= 80
