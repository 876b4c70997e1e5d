"""Two gloo processes train one network together, each on its half of every batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from classification.modeling.face_resnet import build_network
from classification.training.loss import training_loss
from classification.training.recipe import Recipe
from faces.emotions import EMOTIONS

ROOT = Path(__file__).resolve().parents[2]


SHARE = """
import sys, torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from classification.modeling.face_resnet import build_network
from classification.training.loss import training_loss
from classification.training.recipe import Recipe
from classification.training.distributed import from_first_process, in_any_process

dist.init_process_group("gloo")
rank, count = dist.get_rank(), dist.get_world_size()
given = torch.load(sys.argv[1])
model = build_network("face_resnet", {"widths": [8, 16], "depths": [1, 1]})
model.load_state_dict(given["model"])
parallel = DistributedDataParallel(model.eval())
x, targets = given["x"][rank::count], given["targets"][rank::count]
loss = training_loss(parallel, x, targets, Recipe(), weights=given["weights"])
loss.backward()
dist.all_reduce(loss.data)
if rank == 0:
    grads = {name: p.grad for name, p in model.named_parameters()}
    torch.save({"loss": loss.detach() / count, "grads": grads}, sys.argv[2])
# each has its own answer and its own signals; all must go on, or stop, as one
assert from_first_process({"accuracy": 0.5 + rank}) == {"accuracy": 0.5}
assert in_any_process(rank == 1, x.device) and not in_any_process(False, x.device)
dist.destroy_process_group()
"""


def torchrun(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "0"}
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240
    )


@pytest.mark.slow
def test_two_processes_have_the_loss_and_gradients_of_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_network("face_resnet", {"widths": [8, 16], "depths": [1, 1]})
    model.train()(torch.randn(64, 1, 48, 48))  # gives the normalisations something to hold
    for name, parameter in model.named_parameters():
        if name.endswith("norm2.weight"):
            torch.nn.init.ones_(parameter)
    given = {
        "model": model.state_dict(),
        "x": torch.randn(16, 1, 48, 48),
        "targets": torch.rand(16, 7).softmax(1),
        "weights": torch.rand(7),
    }
    torch.save(given, tmp_path / "given.pt")
    (tmp_path / "share.py").write_text(SHARE)
    done = torchrun(*(str(tmp_path / name) for name in ("share.py", "given.pt", "found.pt")))
    assert done.returncode == 0, done.stderr
    found = torch.load(tmp_path / "found.pt")
    loss = training_loss(
        model.eval(), given["x"], given["targets"], Recipe(), weights=given["weights"]
    )
    model.zero_grad()
    loss.backward()
    torch.testing.assert_close(found["loss"], loss.detach(), rtol=1e-5, atol=1e-6)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0
        torch.testing.assert_close(found["grads"][name], parameter.grad, rtol=1e-5, atol=1e-5)


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
    words = ["-m", "classification.train", "--recipe", str(recipe), "--data", str(tmp_path / "fer")]
    done = torchrun(*words, "--out", str(tmp_path / "run"), "--device", "cpu")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert record["processes"] == 2
    assert [entry["epoch"] for entry in record["history"]] == [1, 2]
    assert (tmp_path / "run" / "card.json").is_file()
