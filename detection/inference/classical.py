"""The detectors that earlier two-stage systems used, behind the ``Detector`` protocol: to compare.

They come by name wherever a detector does (``--detector haar``). Both were trained by others, on
other data; only their ``score_threshold`` is this project's choice.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from faces.command import UserError
from faces.pipeline import Detector, Image
from faces.types import Box, Detection

CASCADE = "haarcascade_frontalface_alt2.xml"
"""OpenCV's frontal cascade (Viola and Jones, 2001; Lienhart's training).

Of OpenCV's, this one and the older ``_default`` are what people use; on the validation events its
best F1 was 0.50 and that of ``_default`` 0.46.
"""

LAST_STAGE = 53.755569458007812
"""What a window must reach in the last stage of ``CASCADE``, by the file's ``stageThreshold``."""

LONGEST_SIDE = 1280
"""Larger images are scaled down to this many pixels for the cascade, whose time grows with their
area. Its windows have 20 pixels and more:
of an image 4000 pixels wide it finds faces from 63 pixels on."""

MTCNN_PACKAGE = "facenet-pytorch"
MTCNN_SMALLEST = 20
"""MTCNN's own minimum size of a face, in pixels; it fails on images that are smaller still."""


class HaarDetector:
    """OpenCV's Haar cascade; satisfies ``faces.pipeline.Detector``.

    A cascade says yes or no. As a score, the sum that a window reaches in the last stage (the best
    of the windows grouped into one box) serves: with m its margin over the stage's threshold, the
    score is m / (1 + m), in [0, 1). Groups of a single window are dropped (``minNeighbors=1``).
    Images are scaled down to ``LONGEST_SIDE``.
    """

    def __init__(self) -> None:
        self.name = "haar"
        self.score_threshold = 0.458
        file = Path(cv2.__file__).parent / "data" / CASCADE
        self._cascade = cv2.CascadeClassifier(str(file))
        if self._cascade.empty():
            raise UserError(
                f"OpenCV {cv2.__version__} comes without {CASCADE}; install "
                "opencv-python-headless>=4.10,<5"
            )

    def detect(
        self, images: Sequence[Image], min_score: float | None = None
    ) -> list[list[Detection]]:
        """Find the faces of each image; see ``faces.pipeline.Detector``."""
        minimum = self.score_threshold if min_score is None else min_score
        return [self._detect(image, minimum) for image in images]

    def _detect(self, image: Image, minimum: float) -> list[Detection]:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        factor = max(1.0, max(grey.shape) / LONGEST_SIDE)
        if factor > 1:
            size = [max(1, round(side / factor)) for side in (image.shape[1], image.shape[0])]
            grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        found, _, sums = self._cascade.detectMultiScale3(
            grey, scaleFactor=1.1, minNeighbors=1, outputRejectLevels=True
        )
        corners = np.asarray(found, np.float64).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        corners *= factor
        margins = np.maximum(np.asarray(sums, np.float64).reshape(-1) - LAST_STAGE, 0.0)
        return _detections(image, corners, margins / (1 + margins), minimum)


class MtcnnDetector:
    """MTCNN (Zhang et al., 2016) of the package facenet-pytorch; see ``faces.pipeline.Detector``.

    The package's own settings: faces from 20 pixels on, stages at 0.6, 0.7 and 0.7; the score is
    the last stage's probability. Images with a side under 20 pixels have no faces. Without the
    package it is a ``UserError``.
    """

    def __init__(self, device: str = "cpu") -> None:
        if importlib.util.find_spec("facenet_pytorch") is None:
            raise UserError(
                f"mtcnn: its package {MTCNN_PACKAGE} is not installed; run `make mtcnn` (2 MB; not "
                f"`pip install {MTCNN_PACKAGE}`, which asks for a PyTorch of 2024)"
            )
        import torch
        from facenet_pytorch import MTCNN

        self.name = "mtcnn"
        self.dtype = "float32"
        self.score_threshold = 0.815
        self._network = MTCNN(
            min_face_size=MTCNN_SMALLEST,
            keep_all=True,
            select_largest=False,
            device=torch.device(device),
        )

    def detect(
        self, images: Sequence[Image], min_score: float | None = None
    ) -> list[list[Detection]]:
        """Find the faces of each image, one at a time; see ``faces.pipeline.Detector``."""
        minimum = self.score_threshold if min_score is None else min_score
        return [self._detect(image, minimum) for image in images]

    def _detect(self, image: Image, minimum: float) -> list[Detection]:
        if min(image.shape[:2]) < MTCNN_SMALLEST:
            return []
        corners, scores = self._network.detect(image)
        if corners is None:
            return []
        return _detections(
            image, np.asarray(corners, np.float64), np.asarray(scores, np.float64), minimum
        )


def _detections(
    image: Image, corners: NDArray[np.float64], scores: NDArray[np.float64], minimum: float
) -> list[Detection]:
    """Clip boxes, (N, 4), to the image and sort them; those outside it are dropped."""
    height, width = image.shape[:2]
    clipped = corners.clip(0.0, np.array([width, height, width, height], np.float64))
    found = [
        Detection(Box(x1, y1, x2, y2), min(max(score, 0.0), 1.0))
        for (x1, y1, x2, y2), score in zip(clipped.tolist(), scores.tolist(), strict=True)
        if score >= minimum and x1 < x2 and y1 < y2
    ]
    return sorted(found, key=lambda detection: -detection.score)


CLASSICAL: dict[str, Callable[[str], Detector]] = {
    "haar": lambda device: HaarDetector(),
    "mtcnn": MtcnnDetector,
}
"""Name → how to make the detector for a device (Haar's runs on the CPU whatever the device)."""
