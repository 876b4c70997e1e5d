"""OpenVINO, which runs the networks of both stages on CPUs, faster than PyTorch does."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from networks.precision import cpu_has_bf16


class CompiledGraph:
    """An OpenVINO model compiled for the processor at hand; not safe to call from two threads.

    Args:
        model: an ``openvino.Model``; its weights are copied.
        bf16: multiply in bfloat16 if the processor does; OpenVINO crashes where it does not.
        threads: how many to use.
    """

    def __init__(self, model: Any, *, bf16: bool, threads: int) -> None:
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 and cpu_has_bf16() else "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        compiled = core().compile_model(model, "CPU", options)
        self._request = compiled.create_infer_request()
        self._tensor = import_openvino().Tensor
        self._outputs = len(compiled.outputs)

    def __call__(self, *inputs: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Return the outputs: views of memory that the next call overwrites."""
        for index, array in enumerate(inputs):
            shared = self._tensor(np.ascontiguousarray(array), shared_memory=True)
            self._request.set_input_tensor(index, shared)
        self._request.infer({}, share_outputs=True)
        return [self._request.get_output_tensor(index).data for index in range(self._outputs)]


@cache
def core() -> Any:
    """Return the one ``openvino.Core`` of this process; make no other, and let none go.

    Each sets a stack for signal handlers and restores, when it goes, the one that it found: where
    two have gone in the order that they came, the next Ctrl-C meets freed memory and crashes.
    """
    return import_openvino().Core()


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which reports imports and conversions to its maker."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino
