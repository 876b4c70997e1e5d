"""Weights files with impossible content are refused in one line, before they answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file
from torch import Tensor

from baselines.classifier import BaselineError, load_baseline
from classification import export_onnx
from classification.inference.classifier import NetworkClassifier, WeightsError
from classification.modeling.face_resnet import build_network
from faces.emotions import EMOTIONS

CPU = torch.device("cpu")
ABOUT: dict[str, Any] = {
    "architecture": "face_resnet",
    "model": {"widths": [8], "depths": [1]},
    "mean": 0.5,
    "std": 0.25,
    "size": 48,
    "classes": list(EMOTIONS),
    "temperature": 1.0,
    "smoothing": 0.0,
    "slope": 0.0,
    "mixing": np.zeros((7, 7)).tolist(),
    "biases": [0.0] * 7,
}
NESTED = "[" * 100_000 + "]" * 100_000

DESCRIPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"size": 0}, "size is 0"),
    ({"size": -48}, "size is -48"),
    ({"size": 10**9}, "size is 1000000000"),
    ({"size": 48.0}, "size is 48.0"),
    ({"size": True}, "size is True"),
    ({"mean": "0.5"}, "mean is 0.5"),
    ({"mean": float("nan")}, "mean is nan"),
    ({"mean": 127.5}, "mean is 127.5"),
    ({"mean": None}, "mean is None"),
    ({"std": 0.0}, "std is 0.0"),
    ({"std": -1.0}, "std is -1.0"),
    ({"std": float("inf")}, "std is inf"),
    ({"temperature": 0}, "temperature is 0"),
    ({"temperature": -1.0}, "temperature is -1.0"),
    ({"temperature": float("nan")}, "temperature is nan"),
    ({"temperature": [1.0]}, "temperature is"),
    ({"smoothing": 5}, "smoothing is 5"),
    ({"smoothing": 1.0}, "smoothing is 1.0"),
    ({"slope": float("inf")}, "slope is inf"),
    ({"mixing": [[0.0] * 7] * 6 + [[0.0]]}, "mixing is no table"),
    ({"mixing": [[0.0] * 7] * 6}, "mixing is no table"),
    ({"mixing": [[float("nan")] * 7] * 7}, "mixing is no table"),
    ({"mixing": {"a": 1}}, "mixing is no table"),
    ({"biases": [0.0] * 6}, "biases is no table"),
    ({"biases": [1e9] * 7}, "biases is no table"),
    ({"biases": "abcdefg"}, "biases is no table"),
    ({"classes": list(EMOTIONS)[::-1]}, "its classes are not"),
    ({"classes": 7}, "its classes are not"),
    ({"architecture": "__import__"}, "unknown architecture"),
    ({"architecture": ["face_resnet"]}, "unknown architecture"),
    ({"model": []}, "unknown architecture"),
    ({"model": {"widths": [8], "depths": [1], "code": "x"}}, "no face_resnet can be built"),
    ({"model": {"widths": [8], "depths": [10**9]}}, "depths is 1000000000"),
    ({"model": {"widths": [10**9], "depths": [1]}}, "widths is 1000000000"),
    ({"model": {"widths": [100_000], "depths": [1]}}, "has the shape"),
    ({"model": {"widths": [8] * 101, "depths": [1] * 101}}, "length of widths"),
    ({"model": {"widths": [0], "depths": [1]}}, ""),
    ({"model": {"widths": [8], "depths": [-1]}}, "depths is -1"),
    ({"model": {"widths": [8], "depths": [1], "dropout": 5}}, "no face_resnet can be built"),
    ({"model": {"widths": {"a": 1}, "depths": [1]}}, "widths is"),
    ({"model": {"widths": [[8]], "depths": [1]}}, "widths is"),
    ({"model": {"widths": "8", "depths": [1]}}, "no face_resnet can be built"),
    ({"extra": 1}, "made by another version"),
]


def weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return build_network("face_resnet", ABOUT["model"]).state_dict()


def refused(path: Path, cause: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Check that the file is refused in one line, also by a command."""
    with pytest.raises(WeightsError) as caught:
        NetworkClassifier.load(path, CPU, "poisoned")
    assert str(path) in str(caught.value) and cause in str(caught.value)
    (path.parent / "card.json").write_text("{}")
    assert export_onnx.main([str(path.parent), str(path.parent / "x.onnx")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("classification.export_onnx: ") and error.count("\n") == 1
    assert len(error) < 600 and not (path.parent / "x.onnx").exists()


@pytest.mark.parametrize(("changes", "cause"), DESCRIPTIONS)
def test_an_impossible_description_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], cause: str
) -> None:
    path = tmp_path / "model.safetensors"
    save_file(weights(), path, {"network": json.dumps({**ABOUT, **changes})})
    refused(path, cause, capsys)


@pytest.mark.parametrize("text", [NESTED, "{", "[]", "null", '"x"', "{}", ""])
def test_a_description_that_is_no_object_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    path = tmp_path / "model.safetensors"
    save_file(weights(), path, {"network": text})
    refused(path, "", capsys)


STATES: list[tuple[str, Callable[[Tensor], Tensor | None], str]] = [
    ("head.weight", lambda x: x * float("nan"), "head.weight has values that are not finite"),
    ("head.bias", lambda x: x + float("inf"), "head.bias has values that are not finite"),
    ("stem.1.running_var", lambda x: x - 5, "variances below zero"),
    ("stem.1.num_batches_tracked", lambda x: x.float(), "has the number format"),
    ("head.bias", lambda x: x.to(torch.int64), "has the number format"),
    ("head.bias", lambda x: x[:6].clone(), "head.bias has the shape (6,), not (7,)"),
    ("head.weight", lambda x: x.T.contiguous(), "head.weight has the shape"),
    ("head.bias", lambda x: None, "lack, or have too many: head.bias"),
    ("more", lambda x: torch.zeros(3), "lack, or have too many: more"),
    ("head.weight", lambda x: x + 3e38, "is not finite"),
]


@pytest.mark.parametrize(("name", "change", "cause"), STATES)
def test_impossible_weights_are_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    change: Callable[[Tensor], Tensor | None],
    cause: str,
) -> None:
    state = weights()
    changed = change(state.get(name, torch.zeros(1)))
    state = {key: value for key, value in state.items() if key != name}
    path = tmp_path / "model.safetensors"
    save_file(state if changed is None else {**state, name: changed}, path, description())
    refused(path, cause, capsys)


def description() -> dict[str, str]:
    return {"network": json.dumps(ABOUT)}


def test_the_file_before_it_is_poisoned_is_used(tmp_path: Path) -> None:
    save_file(weights(), tmp_path / "model.safetensors", description())
    found = NetworkClassifier.load(tmp_path / "model.safetensors", CPU, "whole")
    answer = found.probabilities([np.zeros((48, 48, 3), np.uint8)])
    assert answer.sum() == pytest.approx(1)


KNN: dict[str, Any] = {
    "features": "pixels",
    "features_about": {},
    "classes": list(EMOTIONS),
    "calibration": {"temperature": 1.0},
    "knn": {"k": 2, "metric": "cosine", "power": 1},
}


def knn_arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "rows": rng.random((5, 2304)).astype(np.float32),
        "labels": np.arange(5, dtype=np.uint8),
    }


def layers(weight: float) -> dict[str, np.ndarray]:
    return {
        "weights.0": np.full((2304, 7), weight, np.float32),
        "biases.0": np.zeros(7, np.float32),
    }


MLP = {key: value for key, value in KNN.items() if key != "knn"} | {"layers": 1}
BASELINES: list[tuple[Any, dict[str, np.ndarray]]] = [
    (KNN | {"knn": {"k": 0, "metric": "cosine", "power": 1}}, {}),
    (KNN | {"knn": {"k": 6, "metric": "cosine", "power": 1}}, {}),
    (KNN | {"knn": {"k": 1.5, "metric": "cosine", "power": 1}}, {}),
    (KNN | {"knn": {"k": 2, "metric": "x", "power": 1}}, {}),
    (KNN | {"knn": {"k": 2, "metric": "cosine", "power": 3}}, {}),
    (KNN | {"knn": []}, {}),
    (KNN | {"features": "pca"}, {}),
    (KNN | {"features": ["pixels"]}, {}),
    (KNN | {"features": "embedding"}, {}),
    (KNN | {"features": "embedding", "features_about": {"network": {**ABOUT, "size": 0}}}, {}),
    (KNN | {"classes": 7}, {}),
    (KNN | {"calibration": {"temperature": 0}}, {}),
    (KNN | {"calibration": {"smoothing": 5}}, {}),
    (KNN | {"calibration": []}, {}),
    (KNN, {"labels": np.full(5, 9, np.uint8)}),
    (KNN, {"labels": np.arange(4, dtype=np.uint8)}),
    (KNN, {"rows": np.full((5, 2304), np.nan, np.float32)}),
    (KNN, {"rows": np.zeros((5, 10), np.float32)}),
    (MLP, layers(float("inf"))),
    (MLP, layers(3e38)),
    (MLP | {"layers": 0}, layers(1.0)),
    (MLP | {"layers": 10**9}, layers(1.0)),
    (MLP | {"layers": "1"}, layers(1.0)),
    (MLP, {**layers(1.0), "biases.0": np.zeros(6, np.float32)}),
    ([], {}),
    (None, {}),
    (NESTED, {}),
]


@pytest.mark.parametrize(("about", "arrays"), BASELINES)
def test_an_impossible_baseline_is_refused(
    tmp_path: Path, about: Any, arrays: dict[str, np.ndarray]
) -> None:
    path = tmp_path / "model.safetensors"
    text = about if isinstance(about, str) else json.dumps(about)
    save_arrays({**knn_arrays(), **arrays}, path, {"baseline": text})
    with pytest.raises(BaselineError, match=r"model\.safetensors") as caught:
        load_baseline(path, "poisoned")
    assert len(str(caught.value)) < 400 + len(str(path))


def test_baselines_before_they_are_poisoned_are_used(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for about, arrays in ((KNN, knn_arrays()), (MLP, layers(0.1))):
        save_arrays(arrays, path, {"baseline": json.dumps(about)})
        load_baseline(path, "whole")
