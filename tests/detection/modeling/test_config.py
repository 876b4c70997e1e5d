from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from detectron2 import model_zoo
from detectron2.config import CfgNode

from detection.modeling.config import (
    CONFIG_DIR,
    apply_overrides,
    face_cfg,
    find_config,
    load_config,
)
from faces.command import UserError


@pytest.mark.parametrize("name", ["mobilenet_fpn", "mobilenet_fpn_long", "x101_fpn"])
def test_every_configuration_loads_by_name_and_by_path(name: str) -> None:
    cfg = load_config(name)
    assert cfg.dump() == load_config(CONFIG_DIR / f"{name}.yaml").dump()
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 1
    assert cfg.SOLVER.MAX_ITER > 0 and cfg.TEST.EVAL_PERIOD > 0


def flat(node: CfgNode, prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in node.items():
        out |= (
            flat(value, f"{prefix}{key}.") if isinstance(value, CfgNode) else {prefix + key: value}
        )
    return out


def test_x101_is_the_model_zoos_but_for_what_fine_tuning_changes() -> None:
    name = "COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x.yaml"
    zoo, ours = flat(model_zoo.get_config(name)), flat(load_config("x101_fpn"))
    changed = {key for key, value in zoo.items() if ours[key] != value}
    assert changed == {
        "SEED", "OUTPUT_DIR", "MODEL.WEIGHTS", "MODEL.BACKBONE.FREEZE_AT",
        "MODEL.PROPOSAL_GENERATOR.NAME", "MODEL.ROI_HEADS.NAME", "MODEL.ROI_HEADS.NUM_CLASSES",
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "MODEL.ROI_HEADS.SCORE_THRESH_TEST",
        "MODEL.ROI_MASK_HEAD.NUM_CONV", "DATASETS.TRAIN", "DATALOADER.FILTER_EMPTY_ANNOTATIONS",
        "DATASETS.TEST", "SOLVER.REFERENCE_WORLD_SIZE",
        "SOLVER.IMS_PER_BATCH", "SOLVER.BASE_LR", "SOLVER.MAX_ITER", "SOLVER.STEPS",
        "SOLVER.WARMUP_ITERS", "SOLVER.CHECKPOINT_PERIOD", "TEST.EVAL_PERIOD",
    }  # fmt: skip
    assert model_zoo.get_checkpoint_url(name).endswith(ours["MODEL.WEIGHTS"].split("://")[1])


def test_the_long_training_is_of_the_shipped_network() -> None:
    light, long = flat(load_config("mobilenet_fpn")), flat(load_config("mobilenet_fpn_long"))
    changed = {key for key, value in light.items() if long[key] != value}
    assert changed == {
        "SEED", "OUTPUT_DIR", "TEST.MIN_FACE",
        "MODEL.RPN.BBOX_REG_LOSS_TYPE", "MODEL.RPN.BBOX_REG_LOSS_WEIGHT",
        "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE", "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT",
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "MODEL.ROI_HEADS.NMS_THRESH_TEST",
        "INPUT.COLOUR_JITTER", "INPUT.BLUR", "INPUT.MIN_FACE", "INPUT.FACE_CROP.FACE_SIZES",
        "INPUT.FACE_CROP.SIZE", "SOLVER.BASE_LR", "SOLVER.IMS_PER_BATCH", "SOLVER.WARMUP_ITERS",
        "SOLVER.MAX_ITER", "SOLVER.CHECKPOINT_PERIOD",
    }  # fmt: skip


def test_overrides() -> None:
    cfg = face_cfg()
    apply_overrides(
        cfg, ["SOLVER.BASE_LR", "1", "INPUT.MIN_FACE", "-2", "DATASETS.TRAIN", "('a',)"]
    )
    assert cfg.SOLVER.BASE_LR == 1.0 and isinstance(cfg.SOLVER.BASE_LR, float)
    assert cfg.INPUT.MIN_FACE == -2.0 and cfg.DATASETS.TRAIN == ("a",)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["SOLVER.BASE_LR"], "pairs"),
        (["SOLVER.BASELR", "1"], "did you mean SOLVER.BASE_LR"),
        (["NOTHING.LIKE.THIS.AT.ALL", "1"], "unknown configuration key"),
        (["SOLVER.MAX_ITER", "many"], "SOLVER.MAX_ITER many"),
        (["SOLVER", "1"], "unknown configuration key"),
    ],
)
def test_overrides_that_cannot_be(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        apply_overrides(face_cfg(), overrides)


@pytest.mark.parametrize(
    "text", ["- 1\n- 2\n", "a: [", "MODEL: 3\n", "NO_SUCH_KEY: 1\n", "just text"]
)
def test_files_that_are_no_configuration(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"bad\.yaml: not a usable configuration"):
        load_config(path)


def test_a_missing_file_names_those_there_are() -> None:
    with pytest.raises(UserError, match="mobilenet_fpn, mobilenet_fpn_long, x101_fpn"):
        find_config("resnet")


def test_what_training_dumps_loads_again(tmp_path: Path) -> None:
    cfg = load_config("mobilenet_fpn", ["MODEL.SCORE_THRESHOLD", "0.61"])
    (tmp_path / "config.yaml").write_text(cfg.dump())
    again = load_config(tmp_path / "config.yaml")
    assert yaml.safe_load(again.dump()) == yaml.safe_load(cfg.dump())
