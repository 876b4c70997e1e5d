"""Haar and MTCNN behind the protocol: sample photos, odd pictures, a stand-in for the package."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from detection.inference import classical
from detection.inference.classical import CLASSICAL, HaarDetector, MtcnnDetector
from faces.command import UserError
from faces.images import read_image
from faces.types import Box

SAMPLES = Path(__file__).resolve().parents[3] / "samples"
SHAPES = [(1, 1), (1, 5000), (19, 300), (20, 20), (21, 33), (900, 2), (60, 80)]


def sample(name: str) -> NDArray[np.uint8]:
    """Return a sample photo, 320 pixels wide."""
    image = read_image(SAMPLES / name)
    size = (320, round(320 * image.shape[0] / image.shape[1]))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


@pytest.fixture(scope="module")
def haar() -> HaarDetector:
    return HaarDetector()


def test_haar_finds_a_frontal_face(haar: HaarDetector) -> None:
    image = sample("hopper.jpg")
    (found,) = haar.detect([image])
    height, width = image.shape[:2]
    largest = max(found, key=lambda d: d.box.area)
    assert largest.score > 0.7 and largest.box.height > 0.2 * height
    assert largest.box.y1 < height / 2 and 0 <= largest.box.x1 and largest.box.x2 <= width


def test_haars_score_orders_and_cuts(haar: HaarDetector) -> None:
    image = sample("group.jpg")
    everything, shown = haar.detect([image], 0.0)[0], haar.detect([image])[0]
    scores = [d.score for d in everything]
    assert scores == sorted(scores, reverse=True) and all(0 <= s < 1 for s in scores)
    assert shown == [d for d in everything if d.score >= haar.score_threshold]
    assert len(shown) >= 3


@pytest.mark.parametrize("shape", SHAPES)
def test_haar_takes_any_size(haar: HaarDetector, shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)
    assert len(haar.detect([noise, noise], 0.0)) == 2
    assert haar.detect([]) == []


def test_haar_looks_at_large_pictures_scaled_down(
    haar: HaarDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = sample("hopper.jpg")
    large = np.asarray(cv2.resize(image, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC), np.uint8)
    monkeypatch.setattr(classical, "LONGEST_SIDE", max(image.shape))
    (small,), (found,) = haar.detect([image]), haar.detect([large])
    assert found and len(found) == len(small)
    for one, other in zip(small, found, strict=True):
        box = Box(*(value / 3 for value in other.box.as_tuple()))
        assert one.box.iou(box) > 0.8
    monkeypatch.setattr(classical, "LONGEST_SIDE", 3 * max(image.shape))
    smallest = min(found.box.width for found in haar.detect([large], 0.0)[0])
    assert smallest < 60  # with its full size, smaller windows are looked at, too
    monkeypatch.setattr(classical, "LONGEST_SIDE", max(image.shape))
    assert min(found.box.width for found in haar.detect([large], 0.0)[0]) >= 60 - 1e-6


Answer = tuple[Any, Any]


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], dict[str, Any]]:
    """Put a stand-in where facenet-pytorch would be; it says what it is told."""

    def install(answer: Answer) -> dict[str, Any]:
        asked: dict[str, Any] = {}

        class Network:
            def __init__(self, **options: Any) -> None:
                asked.update(options)

            def detect(self, image: Any) -> Answer:
                asked["shape"] = image.shape
                return answer

        module = SimpleNamespace(MTCNN=Network, __spec__=SimpleNamespace())
        monkeypatch.setitem(sys.modules, "facenet_pytorch", module)  # type: ignore[arg-type]
        return asked

    return install


def test_mtcnns_boxes_are_clipped_sorted_and_cut(
    package: Callable[[Answer], dict[str, Any]],
) -> None:
    boxes = np.array(
        [[-5.0, 2, 20, 30], [10, 10, 500, 40], [1, 1, 9, 9], [200, 0, 240, 40]], dtype=object
    )
    asked = package((boxes, np.array([0.9, 1.0000001, 0.1, 0.99], dtype=object)))
    detector = MtcnnDetector("cpu")
    assert asked["keep_all"] and asked["select_largest"] is False
    (found,) = detector.detect([np.zeros((50, 100, 3), np.uint8)], 0.5)
    assert [(d.box, d.score) for d in found] == [
        (Box(10, 10, 100, 40), 1.0),
        (Box(0, 2, 20, 30), 0.9),
    ]


def test_mtcnn_without_faces_and_on_pictures_too_small(
    package: Callable[[Answer], dict[str, Any]],
) -> None:
    asked = package((None, [None]))
    detector = MtcnnDetector()
    assert detector.detect([np.zeros((50, 100, 3), np.uint8)]) == [[]]
    asked.pop("shape")
    assert detector.detect([np.zeros((19, 300, 3), np.uint8)]) == [[]] and "shape" not in asked


def test_mtcnn_that_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "facenet_pytorch", None)
    with pytest.raises(UserError, match="run `make mtcnn`"):
        CLASSICAL["mtcnn"]("cpu")


def test_mtcnn_itself() -> None:
    pytest.importorskip("facenet_pytorch", reason="optional: make mtcnn")
    detector = MtcnnDetector("cpu")
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        detector.detect([rng.integers(0, 255, (*shape, 3), dtype=np.uint8)], 0.0)
    (found,) = detector.detect([sample("group.jpg")])
    assert len(found) == 3
