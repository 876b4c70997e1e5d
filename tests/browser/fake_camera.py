"""Pictures that move, and a file of them that Chromium takes for a camera."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import page_driver
import pytest
from page_driver import ROOT
from PIL import Image


def moving_faces() -> Iterator[Image.Image]:
    """Yield 640×480 frames: three portraits that move to and fro."""
    group = Image.open(ROOT / "samples" / "group.jpg").convert("RGB")
    group.thumbnail((560, 440))
    for number in range(40):
        frame = Image.new("RGB", (640, 480), (90, 90, 90))
        frame.paste(group, (abs(20 - number) * 2, 20))
        yield frame


def write_y4m(path: Path) -> None:
    """Write them at 30 frames per second."""
    with path.open("wb") as out:
        out.write(b"YUV4MPEG2 W640 H480 F30:1 Ip A1:1 C420jpeg\n")
        for frame in moving_faces():
            y, cb, cr = frame.convert("YCbCr").split()
            out.write(b"FRAME\n" + y.tobytes())
            for plane in (cb, cr):
                out.write(np.asarray(plane)[::2, ::2].tobytes())


def install_camera(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Give the browsers of a test this camera, and leave to use it."""
    path = folder / "camera.y4m"
    write_y4m(path)
    fake = (
        *("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"),
        f"--use-file-for-fake-video-capture={path}",
    )
    monkeypatch.setattr(page_driver, "_CHROMIUM", (*page_driver._CHROMIUM, *fake))
