"""Clips that the tests make themselves: bright squares, the faces, on dark frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faces.pipeline import Image, Pipeline
from faces.types import Box, Detection
from tests.stand_ins import ScriptedClassifier, ScriptedDetector, brightness

av = pytest.importorskip("av", reason="the extra video is not installed")

Square = tuple[int, int, int, int]
"""x, y, side, brightness."""


def frame(squares: Sequence[Square], size: tuple[int, int] = (160, 96)) -> Image:
    """A dark frame with one bright square per face."""
    image = np.full((size[1], size[0], 3), 16, np.uint8)
    for x, y, side, light in squares:
        image[max(y, 0) : max(y + side, 0), max(x, 0) : max(x + side, 0)] = light
    return image


def write_video(
    path: Path,
    images: Iterable[Image],
    rate: int = 10,
    times: Sequence[int] | None = None,
    sound: bool = False,
    options: dict[str, str] | None = None,
) -> Path:
    """Encode frames as H.264; ``times`` are in milliseconds, for a rate that varies."""
    images = list(images)
    with av.open(str(path), "w", options=options or {}) as container:
        stream: Any = container.add_stream("libx264", rate, options={"crf": "10"})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = 5
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        audio: Any = container.add_stream("aac", 16000, layout="mono") if sound else None
        for index, image in enumerate(images):
            one = av.VideoFrame.from_ndarray(image, format="rgb24")
            if times is not None:
                one.pts, one.time_base = times[index], Fraction(1, 1000)
            container.mux(stream.encode(one))
            if sound:
                tone = np.full((1, 16000 // rate), 1000, np.int16)
                samples = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
                samples.sample_rate = 16000
                container.mux(audio.encode(samples))
        container.mux(stream.encode(None))
        if sound:
            container.mux(audio.encode(None))
    return path


def find_squares(image: Image) -> list[Detection]:
    """The bright squares of a frame, left to right; they must not touch."""
    bright = image.max(axis=2) > 60
    columns = np.flatnonzero(np.diff(np.pad(bright.any(axis=0), 1).astype(int)))
    found = []
    for left, right in columns.reshape(-1, 2).tolist():
        rows = np.flatnonzero(bright[:, left:right].any(axis=1))
        found.append(Detection(Box(left, rows[0], right, rows[-1] + 1), 0.9))
    return found


@pytest.fixture
def squares_pipeline() -> Pipeline:
    """Finds bright squares; white ones are happy, grey ones sad."""
    return Pipeline(ScriptedDetector(find_squares), ScriptedClassifier(brightness), margin=0.0)


@pytest.fixture
def moving(tmp_path: Path) -> Path:
    """Two faces for 20 frames at 10 a second; the left one turns from white to grey at 1 s."""
    return write_video(
        tmp_path / "moving.mp4",
        (
            frame([(10 + i, 20, 30, 250 if i < 10 else 70), (110 - i, 40, 24, 250)])
            for i in range(20)
        ),
    )


MakeVideo = Callable[..., Path]
