from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from detectron2.modeling import build_model
from torch import nn
from torch.nn import functional

from detection.modeling import backbone
from detection.modeling.backbone import MobileNetV2, ScaledConv2d, SeparableConv2d, fold_norms
from detection.modeling.config import load_config
from faces.command import UserError


@pytest.mark.parametrize(("groups", "stride"), [(1, 1), (1, 2), (6, 1), (6, 2)])
def test_a_scaled_convolution_is_convolution_then_norm(groups: int, stride: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 12, 3, stride, 1, groups=groups, bias=False)
    norm = nn.BatchNorm2d(12).eval()
    for value in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(value)  # type: ignore[arg-type]
    nn.init.uniform_(norm.running_var, 0.5, 2.0)  # type: ignore[arg-type]
    x = torch.randn(2, 6, 9, 11)
    expected = norm(conv(x))
    torch.testing.assert_close(ScaledConv2d(conv, norm)(x), expected, rtol=1e-4, atol=1e-5)


def random_mobilenet() -> Any:
    torch.manual_seed(1)
    net = torchvision.models.mobilenet_v2(weights=None)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.normal_(module.running_mean, std=0.1)
    return net.eval()


def test_the_maps_are_torchvisions() -> None:
    net = random_mobilenet()
    ours = MobileNetV2(state=net.state_dict()).eval()
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        out = ours(x)
        expected = {}
        for i, layer in enumerate(net.features[:18]):
            x = layer(x)
            expected[i] = x
    for name, index in (("c2", 3), ("c3", 6), ("c4", 13), ("c5", 17)):
        torch.testing.assert_close(out[name], expected[index], rtol=1e-3, atol=1e-4)
        shape = ours.output_shape()[name]
        assert out[name].shape[1] == shape.channels
        assert 64 // out[name].shape[2] == 96 // out[name].shape[3] == shape.stride
    assert not any(isinstance(module, nn.BatchNorm2d) for module in ours.modules())


def test_freezing() -> None:
    frozen = [
        sum(not p.requires_grad for p in MobileNetV2(freeze_at=n).parameters()) for n in range(6)
    ]
    assert frozen == sorted(frozen) and frozen[0] == 0
    assert frozen[5] == len(list(MobileNetV2().parameters()))


def test_folding_leaves_lone_convolutions() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    fold_norms(net)
    assert [type(m) for m in net] == [nn.Conv2d, nn.ReLU, ScaledConv2d, nn.Identity]


def test_the_light_detector_is_light() -> None:
    model = build_model(load_config("mobilenet_fpn"))
    assert sum(p.numel() for p in model.parameters()) == 3_099_504


def test_separable_convolutions_are_full_ones_of_a_kind() -> None:
    """The kernel from channel i to channel o is the i-th 3×3 kernel times one number."""
    torch.manual_seed(0)
    conv = SeparableConv2d(5)
    depthwise, pointwise = conv
    assert isinstance(depthwise, nn.Conv2d) and isinstance(pointwise, nn.Conv2d)
    nn.init.normal_(pointwise.bias)  # type: ignore[arg-type]
    x = torch.randn(2, 5, 7, 9)
    kernel = pointwise.weight * depthwise.weight.squeeze(1)[None]
    expected = functional.conv2d(x, kernel, pointwise.bias, padding=1)
    torch.testing.assert_close(conv(x), expected, atol=1e-5, rtol=1e-5)


def test_separable_convolutions_take_the_place_of_full_ones() -> None:
    full = build_model(load_config("mobilenet_fpn", ["MODEL.SEPARABLE", "False"]))
    assert not any(isinstance(part, SeparableConv2d) for part in full.modules())
    assert sum(p.numel() for p in full.parameters()) == 3_463_824
    light = build_model(load_config("mobilenet_fpn")).eval()
    assert sum(isinstance(part, SeparableConv2d) for part in light.modules()) == 5
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        light.backbone.bf16 = "off"
        before = light.backbone(images)
        light.backbone.get_submodule("fpn_output3")[1].bias += 1.0
        after = light.backbone(images)
    assert {k for k in before if not torch.equal(before[k], after[k])} == {"p3"}


@pytest.mark.parametrize(
    ("key", "value"), [("MODEL.FPN.NORM", "GN"), ("MODEL.RPN.CONV_DIMS", "[32]")]
)
def test_separable_convolutions_do_not_ignore_other_keys(key: str, value: str) -> None:
    build_model(load_config("mobilenet_fpn", [key, value, "MODEL.SEPARABLE", "False"]))
    with pytest.raises(UserError, match=f"{key}.*MODEL.SEPARABLE True"):
        build_model(load_config("mobilenet_fpn", [key, value]))


def test_bfloat16_moves_features_little() -> None:
    cfg = load_config("mobilenet_fpn")
    torch.manual_seed(0)
    model = build_model(cfg).eval().backbone
    images = torch.randn(1, 3, 64, 64)
    maps = {}
    for mode in ("off", "on"):
        model.bf16 = mode
        with torch.no_grad():
            maps[mode] = model(images)
    for name, exact in maps["off"].items():
        assert maps["on"][name].dtype == torch.float32
        error = (maps["on"][name] - exact).norm() / exact.norm()
        assert 0 < error < 0.05, name


def test_missing_imagenet_weights_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> dict[str, torch.Tensor]:
        raise UserError("no weights; install them")

    monkeypatch.setattr(backbone, "imagenet_state", missing)
    with pytest.raises(UserError, match=r"install them; or start from other weights"):
        backbone.published_state(backbone.IMAGENET, torch.zeros(3), torch.ones(3))


def test_imagenet_weights_fit_the_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone, "imagenet_state", lambda _: random_mobilenet().state_dict())
    names = set(build_model(load_config("mobilenet_fpn")).state_dict())
    state = backbone.published_state(backbone.IMAGENET, torch.zeros(3), torch.ones(3))
    assert state.keys() == {n for n in names if n.startswith("backbone.bottom_up.")}
