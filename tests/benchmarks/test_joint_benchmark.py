"""benchmarks.joint: a package's answers meet our detectors in one table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage

from benchmarks import joint
from benchmarks.rounds import contest
from eval.data import options
from eval.data.score_files import write_scores
from faces.pipeline import Image
from faces.types import Box, Detection


class CornerDetector:
    """Finds the top left quarter."""

    name, score_threshold = "corner", 0.7

    def detect(
        self, images: Sequence[Image], min_score: float | None = None
    ) -> list[list[Detection]]:
        return [[Detection(Box(0, 0, 40, 40), 0.8)] for _ in images]


class Sad:
    name = "sad"

    def probabilities(self, crops: Sequence[Image]) -> NDArray[np.float32]:
        return np.tile(np.eye(7, dtype=np.float32)[4], (len(crops), 1))


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    PillowImage.fromarray(np.zeros((80, 80, 3), np.uint8)).save(tmp_path / "a.png")
    truth = {
        "images": [{"id": 5, "file_name": "a.png"}],
        "annotations": [{"id": 1, "image_id": 5, "category_id": 1, "bbox": [0, 0, 44, 44]}],
        "categories": [{"id": 1, "name": "happy"}],
    }
    (tmp_path / "t.json").write_text(json.dumps(truth))
    monkeypatch.setattr(
        options, "load_detectors", lambda names, *_, **_k: [CornerDetector() for _ in names]
    )
    monkeypatch.setattr(options, "load_classifiers", lambda *_: [Sad()])
    monkeypatch.setattr(contest, "PYTHON_PEERS", tmp_path)
    return ["--coco", str(tmp_path / "t.json"), "--images", str(tmp_path)]


def test_ours_and_a_packages_answers_in_one_record(
    photos: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {}

    def take_turns(jobs: Sequence[str], rounds: int, run: object, threads: int) -> None:
        for job in jobs:
            words = run(job, 0)  # type: ignore[operator]
            crops = Path(words[words.index("--crops") + 1])
            names = [path.stem for path in crops.glob("*.png")]
            seen[job] = names
            happy = np.tile(np.eye(7, dtype=np.float32)[3], (len(names), 1))
            write_scores(Path(words[words.index("--scores") + 1]), names, happy)

    monkeypatch.setattr(contest, "take_turns", take_turns)
    out = tmp_path / "r.json"
    arguments = [*photos, "--detector", "x", "--classifier", "y", "--out", str(out)]
    assert joint.main([*arguments, "--peers", "fer"]) == 0
    assert seen == {"fer/truth": ["5_0"], "fer/corner": ["5_0"]}
    ours, theirs = json.loads(out.read_text())["runs"]
    assert (ours["classifier"], ours["joint_accuracy"], ours["threshold"]) == ("sad", 0, 0.7)
    assert (theirs["classifier"], theirs["joint_accuracy"]) == ("fer", 1)
    assert theirs["joint_accuracy_difference"] == 1
    assert theirs["command"].startswith("python -m benchmarks.joint")


def test_packages_that_are_not_installed_are_named(
    photos: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(contest, "PYTHON_PEERS", tmp_path / "none")
    assert joint.main([*photos, "--detector", "x", "--classifier", "y"]) == 2
    assert "make peers" in capsys.readouterr().err
    assert joint.main([*photos, "--detector", "x", "--classifier", "y", "--peers"]) == 0
