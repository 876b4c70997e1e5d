import json
from itertools import pairwise

import pytest
import torch
from torch import nn

from benchmarks import detector_cost


class Small(nn.Module):
    """Stands for a detector: one frozen and one trained convolution."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1, bias=False, device="meta").requires_grad_(False)
        self.second = nn.Conv2d(8, 4, 1, bias=False, device="meta")


def test_what_is_kept_for_the_backward_pass(monkeypatch):
    def forward(model, cfg, pictures, size):
        hidden = model.first(torch.empty(pictures, 3, size[1], size[0], device="meta"))
        return [model.second(hidden.relu()).relu()]

    monkeypatch.setattr(detector_cost, "forward", forward)
    # the second convolution keeps its input, 8 maps, and the last relu its output, 4 maps
    assert detector_cost.kept_bytes(Small(), None, 2, (10, 20)) == 2 * 10 * 20 * (8 + 4) * 4


def test_estimates_follow_from_what_the_zoo_measured():
    recipe = {"iterations": 1000, "pictures_per_iteration": 4}
    memory = {"memory_gb": 9, "zoo_memory_gb": 4.7}
    costs = ((2, 2000.0), (4, 1000.0))
    fixed = recipe | memory
    rows = [{"freeze_at": depth, "training_gflops": cost, **fixed} for depth, cost in costs]
    detector_cost.add_estimates(rows)
    # as the zoo: 0.638 s for 2 pictures, so 1.276 s for 4
    assert rows[0]["v100_hours"] == pytest.approx(1000 * 1.276 / 3600)
    assert rows[1]["v100_hours"] == pytest.approx(1000 * 0.638 / 3600)
    # 6.7 GB measured, 4.7 counted: 1 GB more for each of the two pictures
    assert rows[1]["expected_memory_gb"] == pytest.approx(9 + 4 * 1)


@pytest.mark.slow
def test_the_large_detector_is_counted(tmp_path, capsys):
    out = tmp_path / "c.json"
    assert detector_cost.main(["--size", "128", "96", "--out", str(out)]) == 0
    rows = json.loads(out.read_text())["runs"]
    assert [row["freeze_at"] for row in rows] == list(range(6))
    for more, less in pairwise(rows):
        for key in (
            "trained_millions",
            "training_gflops",
            "memory_gb",
            "zoo_memory_gb",
            "v100_hours",
        ):
            assert more[key] >= less[key] > 0
    assert rows[0]["training_gflops"] == pytest.approx(3 * rows[0]["forward_gflops"])
    assert "res5, fpn, rpn, box head" in capsys.readouterr().out


def test_mistakes_are_one_line(capsys):
    for words in (["--size", "100", "64"], ["--threads", "0"]):
        assert detector_cost.main(words) == 2
        assert capsys.readouterr().err.count("\n") == 1
