"""The shipped detector: its files fit together, and it finds the faces of the sample photos."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from detection.inference.detectron import DetectronDetector, load_detector
from faces.images import read_image

ROOT = Path(__file__).parents[2]
WEIGHTS = sorted((ROOT / "weights").glob("mobilenet_fpn*.safetensors"))


@pytest.fixture(scope="module", params=WEIGHTS, ids=lambda file: file.stem)
def weights(request: pytest.FixtureRequest) -> Path:
    file: Path = request.param
    return file


@pytest.fixture(scope="module")
def detector(weights: Path) -> DetectronDetector:
    return load_detector(weights.with_suffix(".yaml"), weights, "cpu")


def test_the_card_belongs_to_the_weights(weights: Path, detector: DetectronDetector) -> None:
    card = json.loads(weights.with_suffix(".json").read_text(encoding="utf-8"))
    assert card["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert card["parameters"] == sum(p.numel() for p in detector._model.parameters())
    assert card["score_threshold"] == detector.score_threshold
    for key in (
        "trained_on",
        "command",
        "commit",
        "hours",
        "operating_point",
        "limits",
        "data_licences",
    ):
        assert card[key], key
    assert any("CenterFace" in licence for licence in card["data_licences"])


def test_the_detectors_weights_are_small() -> None:
    assert sum(file.stat().st_size for file in WEIGHTS) < 15_000_000


@pytest.mark.parametrize(("name", "count"), [("collins", 1), ("hopper", 1), ("group", 3)])
def test_the_samples_faces_are_found_and_nothing_else(
    detector: DetectronDetector, name: str, count: int
) -> None:
    image = read_image(ROOT / "samples" / f"{name}.jpg")
    assert len(detector.detect([image])[0]) == count
