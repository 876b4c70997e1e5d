"""A network compiled by OpenVINO for the processor at hand.

Eager PyTorch spends more time on its calls than on the arithmetic of a network this small, and
OpenVINO multiplies in bfloat16 where the processor can.
"""

from __future__ import annotations

import threading
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from classification.inference import openvino_graphs
from classification.modeling.support_set import FeatureNetwork, SupportHead
from networks.openvino import CompiledGraph, import_openvino


class CompiledNetwork:
    """Maps normalised faces to logits, as the network that it was made of; safe to call in threads.

    The weights are copied: later changes of the network do not show.

    Args:
        model: maps (N, C, H, W) to (N, K); on the CPU, in evaluation mode.
        shape: C, H and W.
        bf16: multiply in bfloat16; pays where the processor does.
    """

    def __init__(self, model: nn.Module, shape: tuple[int, int, int], *, bf16: bool) -> None:
        if isinstance(model, FeatureNetwork):
            graph = openvino_graphs.feature_network(model, shape)
        else:
            graph = traced(model, shape)
        threads = torch.get_num_threads()
        self._graphs = [CompiledGraph(graph, bf16=bf16, threads=threads)]
        if isinstance(model, FeatureNetwork) and isinstance(model.head, SupportHead):
            head = openvino_graphs.support_head(model.head)
            self._graphs.append(CompiledGraph(head, bf16=False, threads=threads))
        self._lock = threading.Lock()

    def __call__(self, faces: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits, (N, K) float32, of faces (N, C, H, W) float32; N may not be 0."""
        with self._lock:
            for graph in self._graphs:
                faces = graph(faces)[0]
            return faces.copy()


def traced(model: nn.Module, shape: tuple[int, int, int]) -> Any:
    """Return any network as an ``openvino.Model``; takes the time of loading PyTorch's compiler."""
    openvino = import_openvino()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # it calls torch.jit.trace
        return openvino.convert_model(
            model, example_input=torch.zeros(2, *shape), input=[(-1, *shape)]
        )
