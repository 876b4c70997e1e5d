"""A classifier as one ONNX file: ``python -m classification.export_onnx NAME|RUN FILE.onnx``.

The file holds preprocessing and calibration too: its input ``faces`` is uint8 (N, S, S), grey, and
its output ``probabilities`` float32 (N, 7). Its metadata names the emotions in their order. Before
it is kept, its answers are compared with PyTorch's.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from classification.inference.classifier import NetworkClassifier
from classification.training.card import find_files
from faces.command import Command, UserError
from faces.emotions import EMOTIONS
from faces.files import replacing
from networks.openvino import core

TOLERANCE = 1e-3
"""The largest difference of a probability to PyTorch's in float32 that is allowed."""

OPSET = 17
FACES_COMPARED = 32


class GreyToProbabilities(nn.Module):
    """All that ``NetworkClassifier.probabilities_of_grey`` does, as one network."""

    def __init__(self, classifier: NetworkClassifier) -> None:
        super().__init__()
        self.model = classifier.model.float().cpu().eval()
        self.network, self.scaling = classifier.network, classifier.scaling

    def forward(self, faces: Tensor) -> Tensor:
        """Map grey faces (N, size, size) uint8 to probabilities (N, 7) float32."""
        x = self.network.normalization.of_levels(faces.unsqueeze(1).float() / 255.0)
        p = self.model(x).softmax(1)
        smoothing = self.scaling.smoothing  # as in classification.inference.calibration.rescale
        floor = smoothing / len(EMOTIONS)
        if smoothing < 0:
            p = (p - floor) / (1 - smoothing)
        elif smoothing > 0:
            tail = floor * torch.exp((p / floor).clamp(max=2.0) - 2.0)
            p = torch.where(p > 2 * floor, p - floor, tail)
            p = p / p.sum(1, keepdim=True)
        logs: Tensor = p.clamp(min=1e-12).log()
        entropy = -(p * logs).sum(1, keepdim=True) / math.log(len(EMOTIONS))
        heat = self.scaling.temperature * (self.scaling.slope * entropy).exp()
        scaled: Tensor = logs / heat
        scaled = scaled - scaled.mean(1, keepdim=True)
        if self.scaling.mixing:
            scaled = scaled + scaled @ torch.tensor(self.scaling.mixing)
        if self.scaling.biases:
            scaled = scaled + torch.tensor(self.scaling.biases)
        return scaled.softmax(1)


def export_classifier(classifier: NetworkClassifier, path: Path) -> float:
    """Write a classifier, on the CPU, as ONNX; an old file is replaced when the new is checked.

    Returns the largest difference of a probability to PyTorch's in float32; a ``UserError`` says
    that it is above ``TOLERANCE``.
    """
    size = classifier.network.size
    whole = GreyToProbabilities(classifier).eval()
    rng = np.random.default_rng(0)
    faces = rng.integers(0, 256, (FACES_COMPARED, size, size), dtype=np.uint8)
    stream = io.BytesIO()
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that needs no further package is deprecated
        expected = whole(torch.from_numpy(faces)).numpy()
        torch.onnx.export(
            whole,
            (torch.from_numpy(faces[:2]),),
            stream,  # type: ignore[arg-type]  # its types forget that it takes these
            input_names=["faces"],
            output_names=["probabilities"],
            dynamic_axes={"faces": {0: "n"}, "probabilities": {0: "n"}},
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load_from_string(stream.getvalue())
    for key, value in (("emotions", json.dumps(EMOTIONS)), ("classifier", classifier.name)):
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString()
    difference = float(np.abs(run_onnx(content, faces) - expected).max())
    if not difference <= TOLERANCE:
        raise UserError(
            f"{classifier.name}: the exported network differs from PyTorch's by {difference:.2g} "
            f"(at most {TOLERANCE} is allowed); nothing was written"
        )
    with replacing(path) as part:
        part.write_bytes(content)
    return difference


def run_onnx(content: bytes, faces: np.typing.NDArray[np.uint8]) -> np.typing.NDArray[np.float32]:
    """Return what an exported file answers in float32, (N, 7), to faces (N, size, size) uint8."""
    compiled = core().compile_model(
        core().read_model(content), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    return np.asarray(compiled([faces])[0], np.float32)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("classifier", metavar="NAME|RUN", help="a shipped classifier, or a run")
    parser.add_argument("out", type=Path, metavar="FILE.onnx", help="the file to write")


def _export(args: argparse.Namespace) -> None:
    if not args.out.parent.is_dir():
        raise UserError(f"{args.out}: its folder does not exist; make it")
    weights, name = find_files(args.classifier)[0], Path(args.classifier).name
    classifier = NetworkClassifier.load(weights, torch.device("cpu"), name)
    difference = export_classifier(classifier, args.out)
    print(f"wrote {args.out}; largest difference to PyTorch {difference:.1g}")


main = Command("classification.export_onnx", __doc__, _add_options, _export)


if __name__ == "__main__":
    sys.exit(main())
