"""Two processes on the CPU under torchrun: they train one model and leave one run folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_leave_one_run(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    annotations, images = [], []
    for i in range(4):
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(
            tmp_path / f"{i}.png"
        )
        images.append({"id": i, "file_name": f"{i}.png", "width": 64, "height": 64})
        annotations.append({"image_id": i, "category_id": 1, "bbox": [8, 8, 40, 40]})
    categories = [{"id": 1, "name": "face"}]
    coco = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "faces.json").write_text(json.dumps(coco))
    data = [str(tmp_path / "faces.json"), str(tmp_path)]
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "-m", "detection.train", "--config-file", "mobilenet_fpn", "--num-gpus", "0",
        "--train-coco", *data, "--val-coco", *data, "OUTPUT_DIR", str(tmp_path / "run"),
        "MODEL.WEIGHTS", "", "SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "2",
        "TEST.EVAL_PERIOD", "1", "INPUT.FACE_CROP.SIZE", "64", "INPUT.MIN_SIZE_TEST", "64",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    assert card["processes"] == 2
    assert (tmp_path / "run" / "model.safetensors").is_file()
