"""Linear layers with rectifiers between them: the linear SVM (one layer) and the MLP (several)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from baselines.features import Rows
from classification.inference.calibration import softmax


@dataclass(frozen=True)
class Perceptron:
    """Layers whose last one gives logits."""

    weights: Sequence[NDArray[np.float32]]  # (inputs, outputs) per layer
    biases: Sequence[NDArray[np.float32]]  # (outputs,) per layer

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return sum(a.size for a in (*self.weights, *self.biases))

    def logits(self, rows: Rows) -> NDArray[np.float32]:
        """Return logits (N, 7) float32 of rows (N, D)."""
        x = np.asarray(rows, np.float32)
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = (np.maximum(x, 0) if index else x) @ weight + bias
        return x

    def probabilities(self, rows: Rows) -> NDArray[np.float32]:
        """Return the softmax (N, 7) float32 of the logits of rows (N, D)."""
        return softmax(self.logits(rows)).astype(np.float32)

    def after_standardising(self, mean: Rows, std: Rows) -> Perceptron:
        """Return the layers that do the same to x as these to (x - mean) / std, each (D,)."""
        first = (self.weights[0] / std[:, None]).astype(np.float32)
        bias = (self.biases[0] - mean @ first).astype(np.float32)
        return Perceptron([first, *self.weights[1:]], [bias, *self.biases[1:]])
