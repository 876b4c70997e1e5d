"""Two gloo processes train one network together, each on its half of every batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faces.emotions import EMOTIONS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_torchrun_leaves_one_whole_run(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split, part, count in (("Training", "train", 4), ("PublicTest", "test", 1)):
        for emotion in EMOTIONS:
            folder = tmp_path / "fer" / part / emotion
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (48, 48), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{split}_{number}.png")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        "epochs = 2\nbatch_size = 8\nwarmup = 1\n[model]\nwidths = [8]\ndepths = [1]\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "classification.train", "--recipe", str(recipe)]
    command += ["--data", str(tmp_path / "fer"), "--out", str(tmp_path / "run"), "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "0"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert record["processes"] == 2
    assert [entry["epoch"] for entry in record["history"]] == [1, 2]
    assert (tmp_path / "run" / "card.json").is_file()
