"""How a configuration is shared out to several processes."""

from __future__ import annotations

import pytest

from detection.modeling.config import load_config
from detection.training.trainer import scaled
from faces.command import UserError


def test_x101_on_eight_gpus_sees_as_many_pictures() -> None:
    one, eight = load_config("x101_fpn"), scaled(load_config("x101_fpn"), 8)
    assert eight.SOLVER.IMS_PER_BATCH == 8 * one.SOLVER.IMS_PER_BATCH
    assert eight.SOLVER.BASE_LR == pytest.approx(8 * one.SOLVER.BASE_LR)
    pictures = [cfg.SOLVER.IMS_PER_BATCH * cfg.SOLVER.MAX_ITER for cfg in (one, eight)]
    assert pictures[1] == pytest.approx(pictures[0], rel=0.01)
    assert eight.SOLVER.STEPS == tuple(round(step / 8) for step in one.SOLVER.STEPS)
    assert scaled(one, 1) == one


def test_a_batch_that_cannot_be_shared_out() -> None:
    light = load_config("mobilenet_fpn")
    assert scaled(light, 8).SOLVER.IMS_PER_BATCH == light.SOLVER.IMS_PER_BATCH == 8
    with pytest.raises(UserError, match=r"IMS_PER_BATCH 8: cannot be shared out to 3"):
        scaled(light, 3)
