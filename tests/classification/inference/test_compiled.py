import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.reference
import pytest
import torch
from torch import nn

from classification import export_onnx
from classification.inference import compiled as inference
from classification.inference import openvino_graphs
from classification.inference.calibration import Scaling
from classification.inference.classifier import NetworkClassifier, TrainedNetwork
from classification.inference.compiled import CompiledNetwork
from classification.modeling.face_recognition_resnet import FaceRecognitionResNet
from classification.modeling.face_resnet import FaceResNet
from classification.modeling.normalization import Normalization
from classification.modeling.published_cnns import PlainCnn
from faces.command import UserError
from networks.openvino import CompiledGraph, import_openvino
from networks.openvino_layers import layer

WIDTHS, DEPTHS = [8, 16], [1, 1]


@pytest.fixture(scope="module")
def network() -> FaceResNet:
    torch.manual_seed(0)
    model = FaceResNet(widths=WIDTHS, depths=DEPTHS)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.running_mean)
    return model.eval()


def classifier_of(network: FaceResNet, **calibration: Any) -> NetworkClassifier:
    described = TrainedNetwork(
        "face_resnet",
        {"widths": WIDTHS, "depths": DEPTHS},
        Normalization(0.5, 0.25),
        calibration=Scaling.from_json(calibration),
    )
    return NetworkClassifier(
        described, network.state_dict(), torch.device("cpu"), "tiny", torch.float32
    )


@pytest.fixture(scope="module")
def compiled(network: FaceResNet) -> CompiledNetwork:
    return CompiledNetwork(network, (1, 48, 48), bf16=False)


@pytest.mark.parametrize("size", [48, 61])
def test_dlibs_graph_gives_the_logits_of_pytorch(size: int) -> None:
    torch.manual_seed(0)
    model = FaceRecognitionResNet(size=size, dropout=0.5).eval()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if "norm" in name and value.is_floating_point():
                value.uniform_(0.5, 1.0)
        faces = torch.randn(3, 1, 48, 48)
        expected = model(faces).numpy()
    graph = openvino_graphs.feature_network(model, (1, 48, 48))
    found = CompiledGraph(graph, bf16=False, threads=1)(faces.numpy())[0]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("n", [1, 7, 2])
def test_compiled_network_gives_the_logits_of_pytorch(network, compiled, n):
    faces = torch.randn(n, 1, 48, 48, generator=torch.Generator().manual_seed(n))
    with torch.inference_mode():
        expected = network(faces).numpy()
    np.testing.assert_allclose(compiled(faces.numpy()), expected, atol=1e-4)


@pytest.mark.parametrize("stem_pool", [True, False])
@pytest.mark.parametrize("size", [48, 27])  # odd sides: the shortcut's last window juts out
def test_graph_built_by_hand_gives_the_logits_of_the_traced_one(network, stem_pool, size):
    model = FaceResNet(widths=[*WIDTHS, 16], depths=[1, 2, 1], stem_pool=stem_pool).eval()
    model.load_state_dict(network.state_dict(), strict=False)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if "norm" in name and value.is_floating_point():
                value.uniform_(0.5, 1.5)
    shape = (1, size, size)
    faces = np.random.default_rng(0).normal(size=(5, *shape)).astype(np.float32)
    built, traced = (
        CompiledGraph(make(model, shape), bf16=False, threads=1)(faces)[0].copy()
        for make in (openvino_graphs.feature_network, inference.traced)
    )
    with torch.inference_mode():
        expected = model(torch.from_numpy(faces)).numpy()
    assert np.ptp(expected, axis=0).min() > 0.01
    np.testing.assert_allclose(built, traced, atol=1e-4)
    np.testing.assert_allclose(built, expected, atol=1e-4)


def test_other_networks_are_traced():
    torch.manual_seed(0)
    model = PlainCnn(widths=[4], depth=1, dense=[8], size=12).eval()
    faces = torch.randn(3, 1, 12, 12)
    with torch.inference_mode():
        expected = model(faces).numpy()
    answer = CompiledNetwork(model, (1, 12, 12), bf16=False)(faces.numpy())
    np.testing.assert_allclose(answer, expected, atol=1e-4)


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(1, 1, 3, padding="same"),
        nn.Conv2d(1, 1, 3, dilation=2),
        nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.AvgPool2d(3, 2),
        nn.BatchNorm2d(1, track_running_stats=False),
        nn.Tanh(),
    ],
)
def test_layers_that_nobody_wrote_down_are_refused(module):
    given = import_openvino().opset13.parameter([-1, 1, 12, 12], np.float32)
    with pytest.raises(TypeError, match="cannot be built for OpenVINO"):
        layer(module, given, {})


def test_answers_are_not_overwritten_by_later_ones(compiled):
    first = compiled(np.zeros((1, 1, 48, 48), np.float32))
    kept = first.copy()
    compiled(np.ones((1, 1, 48, 48), np.float32))
    np.testing.assert_array_equal(first, kept)


def test_threads_do_not_mix_their_answers(compiled):
    faces = np.random.default_rng(0).normal(size=(40, 1, 1, 48, 48)).astype(np.float32)
    alone = [compiled(face) for face in faces]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(alone, pool.map(compiled, faces), strict=True):
            np.testing.assert_array_equal(one, other)


def test_bf16_moves_probabilities_in_the_third_digit_at_most(network):
    faces = np.random.default_rng(0).normal(size=(64, 1, 48, 48)).astype(np.float32)
    probabilities = [
        torch.from_numpy(CompiledNetwork(network, (1, 48, 48), bf16=bf16)(faces)).softmax(1)
        for bf16 in (False, True)
    ]
    assert (probabilities[0] - probabilities[1]).abs().max() < 0.02


def test_openvino_runs_without_its_telemetry(compiled):
    assert sys.modules["openvino"]
    assert sys.modules["openvino_telemetry"] is None


@pytest.mark.parametrize(
    "calibration",
    [
        {},
        {"temperature": 1.7, "smoothing": 0.1, "slope": -0.4},
        {
            "smoothing": -0.3,
            "mixing": np.random.default_rng(0).normal(0, 0.2, (7, 7)).tolist(),
            "biases": [0.5, -1.0, 0.2, 0.3, 0.0, -0.5, 0.5],
        },
    ],
)
def test_onnx_file_answers_as_the_classifier(network, tmp_path: Path, calibration):
    classifier = classifier_of(network, **calibration)
    path = tmp_path / "tiny.onnx"
    assert export_onnx.export_classifier(classifier, path) < export_onnx.TOLERANCE
    faces = np.random.default_rng(3).integers(0, 256, (5, 48, 48), dtype=np.uint8)
    model = onnx.load(path)
    (answers,) = onnx.reference.ReferenceEvaluator(model).run(None, {"faces": faces})
    np.testing.assert_allclose(answers, classifier.probabilities_of_grey(faces), atol=1e-3)
    assert {p.key for p in model.metadata_props} == {"emotions", "classifier"}
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.onnx"]


def test_a_differing_export_is_refused_and_leaves_no_file(network, tmp_path, monkeypatch):
    monkeypatch.setattr(export_onnx, "run_onnx", lambda content, faces: np.zeros((len(faces), 7)))
    with pytest.raises(UserError, match="differs from PyTorch's by"):
        export_onnx.export_classifier(classifier_of(network), tmp_path / "tiny.onnx")
    assert not list(tmp_path.iterdir())


def test_command_names_what_is_wrong(tmp_path, capsys):
    assert export_onnx.main(["nobody", str(tmp_path / "x.onnx")]) == 2
    assert "nobody" in capsys.readouterr().err
    assert export_onnx.main(["fast", str(tmp_path / "missing" / "x.onnx")]) == 2
    assert "folder does not exist" in capsys.readouterr().err
