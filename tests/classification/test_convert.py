"""faceplugin's network, from its ONNX file to a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
import torchvision
from onnx import helper, numpy_helper
from torch import nn

from classification import convert
from classification.data.fer2013 import Fer2013
from faces.command import UserError
from networks.pretrained.faceplugin import folded_layers, read_faceplugin
from twostage.model_zoo import load_classifier


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A DenseNet-121 whose norms all do something."""
    torch.manual_seed(0)
    model: nn.Module = torchvision.models.densenet121(weights=None, num_classes=7).eval()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.uniform_(part.bias, -0.2, 0.2)
            nn.init.uniform_(part.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
            nn.init.uniform_(part.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return model


@pytest.fixture(scope="module")
def file(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network as PyTorch's exporter writes it: folded convolutions have numbers for names."""
    tensors = {k: v for k, v in network.state_dict().items() if not k.endswith("_tracked")}
    number = 1163
    for conv_name, norm_name in folded_layers():
        conv, norm = network.get_submodule(conv_name), network.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        folded = nn.utils.fusion.fuse_conv_bn_eval(conv, norm)
        for name in [one for one in tensors if one.startswith((f"{conv_name}.", f"{norm_name}."))]:
            del tensors[name]
        assert folded.bias is not None
        tensors |= {str(number): folded.weight, str(number + 1): folded.bias}
        number += 3 if number == 1163 else 2
    values = [numpy_helper.from_array(v.detach().numpy(), k) for k, v in reversed(tensors.items())]
    path = tmp_path_factory.mktemp("package") / "fr_expression.onnx"
    onnx.save(helper.make_model(helper.make_graph([], "g", [], [], values)), str(path))
    return path


@pytest.fixture(scope="module")
def data() -> Fer2013:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (22, 48, 48)).astype(np.uint8)
    splits = np.array(["Training"] * 12 + ["PublicTest"] * 10)
    names = tuple(f"{index}.png" for index in range(22))
    return Fer2013(images, np.arange(22) % 7, splits, names)


def test_file_of_folded_norms_gives_the_network_that_was_exported(
    network: nn.Module, file: Path
) -> None:
    ours = torchvision.models.densenet121(weights=None, num_classes=7).eval()
    ours.load_state_dict(read_faceplugin(file), strict=False)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), network(images), rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def run(file: Path, data: Fer2013, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of 64×64 images that is made of the file."""
    out = tmp_path_factory.mktemp("runs") / "faceplugin"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert, "SAMPLE", 4)
        patch.setattr(convert, "SIZE", 64)
        patch.setattr(convert, "load_fer2013", lambda *_, **__: data)
        words = [str(file), "--data", "fer2013.zip", "--out", str(out)]
        assert convert.main(words) == 0
    return out


@pytest.mark.slow
def test_run_answers_as_the_original_with_mean_grey_beyond_the_border(
    network: nn.Module, run: Path, data: Fer2013, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [np.repeat(image[..., None], 3, axis=2) for image in data.images[:3]]
    found = load_classifier(str(run), "cpu").probabilities(images)

    mean = data.split("Training").images.mean() / 255
    grey = torch.from_numpy(data.images[:3].astype(np.float32) / 255)[:, None]
    large = F.interpolate(grey, size=(64, 64), mode="bilinear", align_corners=False)
    padded = F.pad(large, (3, 3, 3, 3), value=float(mean))
    monkeypatch.setattr(network.get_submodule("features.conv0"), "padding", (0, 0))
    with torch.no_grad():
        expected = network(padded.expand(-1, 3, -1, -1)).softmax(1).numpy()
    np.testing.assert_allclose(found, expected, atol=0.02)  # bfloat16 where the processor has it


@pytest.mark.slow
def test_card_names_package_and_unknown_selection(run: Path) -> None:
    card = json.loads((run / "card.json").read_text())
    assert card["training"]["source"]["licence"] == "MIT"
    assert card["chosen_on"].startswith("unknown")
    assert card["public_test"]["n"] == 10


def test_other_networks_file_is_refused_by_name(tmp_path: Path) -> None:
    values = [numpy_helper.from_array(np.zeros((3, 3), np.float32), "7")]
    path = tmp_path / "other.onnx"
    onnx.save(helper.make_model(helper.make_graph([], "g", [], [], values)), str(path))
    with pytest.raises(UserError, match=r"other\.onnx.*fr_expression"):
        read_faceplugin(path)
    path.write_bytes(b"no ONNX at all" * 50)
    with pytest.raises(UserError, match=r"other\.onnx: cannot be read"):
        read_faceplugin(path)
