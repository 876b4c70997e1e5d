from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from faces.command import UserError
from networks.pretrained import face_recognition, imagenet


def test_mobilenet_weights_come_from_a_package_the_cache_or_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged = imagenet.imagenet_state("mobilenet_v2")
    monkeypatch.setattr(imagenet, "PACKAGE", "no_such_package_anywhere")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    cached = tmp_path / "checkpoints" / "mobilenet_v2-b0353104.pth"

    def offline(*_args: Any, **_kwargs: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(UserError, match="install the package"):
        imagenet.imagenet_state("mobilenet_v2")
    torch.save(packaged, cached)
    found = imagenet.imagenet_state("mobilenet_v2")
    assert all(torch.equal(found[name], value) for name, value in packaged.items())


def whole_number(value: int) -> bytes:
    """A whole number as dlib serialises it."""
    size = max(1, (value.bit_length() + 7) // 8)
    return bytes([size]) + value.to_bytes(size, "little")


def layer(tag: bytes, values: NDArray[np.float32]) -> bytes:
    dimensions = b"".join(whole_number(n) for n in (2, values.size, 1, 1, 1))
    return b"\x01" + bytes([len(tag)]) + tag + dimensions + values.tobytes() + b"\x01\x03rest"


def dlib_file() -> tuple[bytes, list[tuple[NDArray[np.float32], ...]]]:
    rng = np.random.default_rng(0)
    widths = [32] * 7 + [64] * 8 + [128] * 6 + [256] * 8
    data, parts, inputs = b"\x01\x0dloss_metric_2", [], 3
    for index, outputs in enumerate(widths):
        side = 3 if index else 7
        kernel = rng.normal(size=(outputs, inputs, side, side)).astype(np.float32)
        bias, scale, shift = rng.normal(size=(3, outputs)).astype(np.float32)
        data += layer(b"con_4", np.concatenate([kernel.ravel(), bias]))
        data += layer(b"affine_", np.concatenate([scale, shift]))
        parts.append((kernel, bias, scale, shift))
        inputs = outputs
    return data, parts


def test_dlibs_file_is_read_to_the_bit(tmp_path: Path) -> None:
    data, parts = dlib_file()
    path = tmp_path / "dlib.dat"
    path.write_bytes(data)
    layers = face_recognition.read_face_recognition(path)
    for found, (kernel, bias, scale, shift) in zip(layers, parts, strict=True):
        np.testing.assert_array_equal(found.kernel, kernel)
        np.testing.assert_array_equal(found.scale, scale)
        np.testing.assert_allclose(found.shift, scale * bias + shift, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cut", [0, 100, -20_000])
def test_a_damaged_file_of_dlib_is_explained(tmp_path: Path, cut: int) -> None:
    data, _ = dlib_file()
    path = tmp_path / "dlib.dat"
    path.write_bytes(data[:cut])
    with pytest.raises(UserError, match="fetch"):
        face_recognition.read_face_recognition(path)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face_recognition, "PACKAGE", "no_such_package_anywhere")
    with pytest.raises(UserError, match="pip install"):
        face_recognition.face_recognition_file()
