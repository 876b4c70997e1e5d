"""The precision that OpenVINO is asked for never exceeds the processor's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from networks import openvino


@pytest.mark.parametrize("wanted", [False, True])
@pytest.mark.parametrize("capable", [False, True])
def test_bf16_is_asked_for_where_wanted_and_in_the_processor(
    monkeypatch: pytest.MonkeyPatch, wanted: bool, capable: bool
) -> None:
    asked: list[str] = []

    class Core:
        def compile_model(self, model: Any, device: str, options: dict[str, Any]) -> Any:
            asked.append(options["INFERENCE_PRECISION_HINT"])
            return real.compile_model(model, device, options | {"INFERENCE_PRECISION_HINT": "f32"})

    real = openvino.core()
    monkeypatch.setattr(openvino, "core", Core)
    monkeypatch.setattr(openvino, "cpu_has_bf16", lambda: capable)
    operations = openvino.import_openvino().opset13
    given = operations.parameter([1, 2], np.float32)
    model = openvino.import_openvino().Model([operations.relu(given)], [given])
    graph = openvino.CompiledGraph(model, bf16=wanted, threads=1)
    assert asked == ["bf16" if wanted and capable else "f32"]
    assert graph(np.array([[-1, 2]], np.float32))[0].tolist() == [[0, 2]]
