"""Frozen norms of random weights get the statistics of what they see."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from torch import Tensor, nn

from detection.modeling.config import load_config
from detection.modeling.random_start import measure_norms

SHALLOW = [
    "MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu", "MODEL.RESNETS.DEPTH", "50",
    "MODEL.RESNETS.NUM_GROUPS", "1", "MODEL.RESNETS.WIDTH_PER_GROUP", "8",
    "MODEL.RESNETS.STEM_OUT_CHANNELS", "8", "MODEL.RESNETS.RES2_OUT_CHANNELS", "16",
    "MODEL.FPN.OUT_CHANNELS", "16", "MODEL.ROI_BOX_HEAD.FC_DIM", "16",
]  # fmt: skip
"""Sixteen blocks of a few channels."""


def pictures(count: int = 2) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, 3, 64, 96), generator=generator, dtype=torch.uint8)
    return [{"image": image} for image in images]


def seen(model: Any) -> dict[nn.Module, Tensor]:
    """Return what each frozen norm makes of the pictures."""
    outputs: dict[nn.Module, Tensor] = {}
    norms = [part for part in model.modules() if isinstance(part, FrozenBatchNorm2d)]
    handles = [
        norm.register_forward_hook(lambda n, _, out: outputs.update({n: out.clone()}))
        for norm in norms
    ]
    with torch.no_grad():
        model.backbone(model.preprocess_image(pictures()).tensor)
    for handle in handles:
        handle.remove()
    return outputs


def test_every_norm_then_gives_mean_0_and_variance_1() -> None:
    torch.manual_seed(0)
    model = build_model(load_config("x101_fpn", SHALLOW))
    before = seen(model)
    assert measure_norms(model, pictures) == len(before) == 53
    largest = max(float(out.var()) for out in before.values())
    assert largest > 100  # what makes random weights useless
    for out in seen(model).values():
        variance, mean = torch.var_mean(out, (0, 2, 3))
        assert mean.abs().max() < 1e-3
        # a channel that is all zero, or nearly, stays so: the norm's epsilon
        assert variance.max() == pytest.approx(1, abs=0.01) and variance.min() >= 0


def test_a_body_without_frozen_norms_needs_no_pictures() -> None:
    light = build_model(load_config("mobilenet_fpn", ["MODEL.WEIGHTS", ""]))
    assert measure_norms(light, lambda: pytest.fail("pictures were read")) == 0
