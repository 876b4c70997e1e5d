"""Stand-ins that all tests share: a detector and a classifier with scripted answers, tiny data.

``from tests.stand_ins import ScriptedDetector, ScriptedClassifier, write_fer2013, write_coco``
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from faces.emotions import EMOTIONS
from faces.pipeline import Image, Merged
from faces.types import Box, Detection

TWO_FACES = (Detection(Box(2, 3, 22, 28), 0.9), Detection(Box(20, 3, 38, 25), 0.7))
"""What ``ScriptedDetector`` finds if nothing else is said."""


def probabilities(**named: float) -> tuple[float, ...]:
    """Return seven probabilities: the named ones; the others share what is left equally.

    ``probabilities(happy=0.6, surprise=0.4)``; ``probabilities()`` is 1/7 for each.
    """
    rest = (1 - sum(named.values())) / max(1, len(EMOTIONS) - len(named))
    return tuple(named.get(emotion, rest) for emotion in EMOTIONS)


CLEARLY_HAPPY = probabilities(happy=0.9)
"""What ``ScriptedClassifier`` answers if nothing else is said."""


class ScriptedDetector:
    """A detector that finds what the test says.

    Args:
        answer: the detections in every image; or a function image → detections.
        name: as of any detector.
        score_threshold: as of any detector; detections below it, or below ``min_score``, are left
            out, whoever scripted them.

    Attributes:
        calls: number of images of each call of ``detect``.
    """

    def __init__(
        self,
        answer: Sequence[Detection] | Callable[[Image], Sequence[Detection]] = TWO_FACES,
        name: str = "scripted detector",
        score_threshold: float = 0.5,
    ) -> None:
        self.name = name
        self.score_threshold = score_threshold
        self.calls: list[int] = []
        self._answer = answer

    def detect(
        self, images: Sequence[Image], min_score: float | None = None
    ) -> list[list[Detection]]:
        self.calls.append(len(images))
        minimum = self.score_threshold if min_score is None else min_score
        answers = [self._answer(i) if callable(self._answer) else self._answer for i in images]
        return [[found for found in answer if found.score >= minimum] for answer in answers]


class ExplainingScriptedDetector(ScriptedDetector):
    """One that also says that each detection it reports has merged a copy of itself."""

    def explain(
        self, image: Image, min_score: float | None = None
    ) -> tuple[list[Detection], list[Merged]]:
        found = self.detect([image], min_score)[0]
        return found, [Merged(detection, into) for into, detection in enumerate(found)]


class ScriptedClassifier:
    """A classifier that says what the test says.

    Args:
        answer: the seven probabilities of every crop; or a function crop → probabilities.
        name: as of any classifier.

    Attributes:
        crops: every crop it was shown, in order.
        calls: number of crops of each call of ``probabilities``.
    """

    def __init__(
        self,
        answer: Sequence[float] | Callable[[Image], Sequence[float]] = CLEARLY_HAPPY,
        name: str = "scripted classifier",
    ) -> None:
        self.name = name
        self.crops: list[Image] = []
        self.calls: list[int] = []
        self._answer = answer

    def probabilities(self, crops: Sequence[Image]) -> np.ndarray:
        self.calls.append(len(crops))
        self.crops += crops
        rows = [self._answer(c) if callable(self._answer) else self._answer for c in crops]
        return np.array(rows, np.float32).reshape(-1, len(EMOTIONS))


def brightness(crop: Image) -> tuple[float, ...]:
    """Return the probabilities by brightness: white is happy, black is sad."""
    happy = float(crop.mean() / 255)
    return probabilities(**dict.fromkeys(EMOTIONS, 0.0) | {"happy": happy, "sad": 1 - happy})


def write_fer2013(
    path: Path,
    counts: Mapping[str, int] | None = None,
    votes: Path | None = None,
    seed: int = 0,
) -> Path:
    """Write a tiny FER2013 in Kaggle's form, ``emotion,pixels,Usage``, and return its path.

    Labels go round through the seven emotions. Images are noise with stripes whose distance and
    brightness tell the emotion, so that a network can learn them; no two are alike.

    Args:
        path: the csv to write.
        counts: part → number of images; 14 in each of the three parts by default.
        votes: also write FER+ votes there: nine of ten for the label, one for "unknown".
        seed: of the noise.
    """
    rng = np.random.default_rng(seed)
    counts = counts or dict.fromkeys(("Training", "PublicTest", "PrivateTest"), 14)
    lines, rows = ["emotion,pixels,Usage"], [FERPLUS_HEADER]
    for part, count in counts.items():
        for number in range(count):
            label = number % len(EMOTIONS)
            image = rng.integers(0, 60, (48, 48), dtype=np.uint8)
            image[:: label + 1] += np.uint8(40 + 20 * label)
            lines.append(f"{label},{' '.join(map(str, image.ravel().tolist()))},{part}")
            cast = [9 * (column == FERPLUS_COLUMNS[label]) for column in range(8)]
            name = f"fer{len(rows) - 1:07d}.png"
            rows.append(",".join(map(str, [part, name, *cast, 1, 0])))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if votes is not None:
        votes.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


FERPLUS_HEADER = (
    "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
)
FERPLUS_COLUMNS = (4, 5, 6, 1, 3, 2, 0)
"""The column of FER+'s votes for each emotion, in the order of ``EMOTIONS``."""


@dataclass(frozen=True)
class CocoFiles:
    """A COCO set on disk: its json and the folder of its images."""

    json: Path
    images: Path


def write_coco(
    folder: Path,
    boxes: Iterable[Sequence[tuple[float, float, float, float]]] = (((40, 20, 76, 60),), ()),
    category: str = "face",
    size: tuple[int, int] = (140, 100),
) -> CocoFiles:
    """Write a tiny COCO set: ``folder/faces.json`` and ``folder/images/image_0.png``, ….

    Args:
        folder: made if missing.
        boxes: per image its faces, (x1, y1, x2, y2) in pixels, drawn as bright rectangles on noise.
        category: of every face.
        size: (width, height) of every image.
    """
    rng = np.random.default_rng(0)
    files = CocoFiles(folder / "faces.json", folder / "images")
    files.images.mkdir(parents=True)
    images, annotations = [], []
    for number, faces in enumerate(boxes):
        pixels = rng.integers(0, 90, (size[1], size[0], 3), dtype=np.uint8)
        for x1, y1, x2, y2 in faces:
            pixels[round(y1) : round(y2), round(x1) : round(x2)] += np.uint8(120)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
        name = f"image_{number}.png"
        Pillow.fromarray(pixels).save(files.images / name)
        images.append({"id": number, "file_name": name, "width": size[0], "height": size[1]})
    document = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": category}],
    }
    files.json.write_text(json.dumps(document), encoding="utf-8")
    return files
