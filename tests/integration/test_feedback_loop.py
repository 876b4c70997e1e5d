"""The whole way: predict, feedback, export, a short fine-tuning, an accuracy that rises."""

from __future__ import annotations

import csv
import io
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from classification import train
from eval import classification
from faces.emotions import EMOTIONS
from tests.stand_ins import ScriptedDetector, write_fer2013

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        find_spec("fastapi") is None or find_spec("sqlalchemy") is None,
        reason="the extra `service` is not installed: make setup EXTRAS=service",
    ),
]

RECIPE = """
epochs = 40
batch_size = 14
label_smoothing = 0.0
learning_rate = 0.03
ema_decay = 0.5
[model]
widths = [8, 16]
depths = [1, 1]
[augment]
shift = 0.0
rotate = 0.0
scale = 0.0
erase = 0.0
flip = 0.0
mixup = 0.0
"""


def upright(label: int, seed: int) -> bytes:
    """A "face" with upright stripes, where those of the training set are level."""
    grey = np.random.default_rng(seed).integers(0, 60, (48, 48), dtype=np.uint8)
    grey[:, :: label + 1] += np.uint8(180 - 20 * label)
    out = io.BytesIO()
    Image.fromarray(np.dstack([grey] * 3)).save(out, "PNG")
    return out.getvalue()


def accuracy(run: Path, faces: Path, out: Path) -> float:
    words = ["--data", str(faces), "--classifier", str(run), "--device", "cpu", "--out", str(out)]
    assert classification.main(words) == 0
    return float(json.loads(out.read_text())["accuracy"])


def serve_and_correct(database: str, run: Path) -> None:
    """Send faces to the service, and say what they really show."""
    from starlette.testclient import TestClient

    from service.app import create_app
    from service.models import Models
    from service.settings import Settings
    from twostage import load_classifier

    settings = Settings(database=database, classifier=str(run), device="cpu")
    models = Models(settings, lambda name, device: ScriptedDetector(), load_classifier)
    with TestClient(create_app(settings, models), base_url="http://localhost") as client:
        for seed in range(42):
            label = seed % len(EMOTIONS)
            answer = client.post(
                "/v1/predict",
                files={"image_buf": ("face.png", upright(label, seed))},
                data={"no_detector": "true"},
            )
            (found,) = answer.json()["results"]
            said = {"image_id": found["image_id"], "face_index": 1, "feedback": EMOTIONS[label]}
            assert client.post("/v1/feedback", json=said).status_code == 200


def test_feedback_becomes_training_data_that_raises_the_accuracy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from service import commands

    # a network that knows FER2013's stand-in only
    recipe, data = tmp_path / "recipe.toml", write_fer2013(tmp_path / "fer2013.csv")
    recipe.write_text(RECIPE)
    common = ["--recipe", str(recipe), "--data", str(data), "--device", "cpu"]
    before, after = tmp_path / "before", tmp_path / "after"
    assert train.main([*common, "--out", str(before)]) == 0

    # people correct what the service says of other faces
    database, faces = f"sqlite:///{tmp_path}/service.sqlite3", tmp_path / "faces"
    serve_and_correct(database, before)
    assert commands.main(["feedback", "export", "--database", database, "--out", str(faces)]) == 0
    manifest = list(csv.DictReader((faces / "manifest.csv").open()))
    assert len(manifest) == 42 and all((faces / row["file"]).is_file() for row in manifest)
    report = ["feedback", "report", "--database", database, "--out", str(tmp_path / "report.json")]
    assert commands.main(report) == 0
    (model,) = json.loads((tmp_path / "report.json").read_text()).values()

    # the network learns from them
    words = ["--extra", str(faces), "--start", str(before), "--out", str(after)]
    assert train.main([*common, *words]) == 0
    first = accuracy(before, faces, tmp_path / "before.json")
    second = accuracy(after, faces, tmp_path / "after.json")
    assert model["agreement"] == pytest.approx(first, abs=1e-3)  # the report counted the same
    assert second > first + 0.2
    assert json.loads((after / "record.json").read_text())["extra"]["faces"] == 42
