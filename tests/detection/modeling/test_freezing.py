"""Which parts train at each depth of freezing, as built and as documented."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from detectron2.modeling import build_model

from detection.modeling.config import load_config
from detection.modeling.freezing import parameters_by_part

PAGE = Path(__file__).parents[3] / "docs" / "training.md"


def built(config: str, *overrides: str) -> Any:
    return build_model(
        load_config(config, ["MODEL.WEIGHTS", "", "MODEL.DEVICE", "meta", *overrides])
    )


@pytest.mark.parametrize("config", ["mobilenet_fpn", "x101_fpn"])
def test_the_parts_hold_every_parameter_once(config: str) -> None:
    model = built(config)
    numbers = parameters_by_part(model)
    every = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert sum(part["all"] for part in numbers.values()) == every
    assert sum(part["trained"] for part in numbers.values()) == trained < every
    for part in numbers.values():
        assert part["trained"] in (0, part["all"])


def test_the_documented_table_of_frozen_depths() -> None:
    rows = [line.split("|")[1:-1] for line in PAGE.read_text("utf-8").splitlines() if "|" in line]
    documented = {cells[0].strip(): [cell.strip() for cell in cells[1:3]] for cells in rows}
    model = built("x101_fpn", "MODEL.BACKBONE.FREEZE_AT", "0")
    for depth in range(6):
        model.backbone.bottom_up.freeze(depth)  # what Detectron2 does with FREEZE_AT
        numbers = parameters_by_part(model)
        trained = {name: part["trained"] for name, part in numbers.items() if part["trained"]}
        millions = f"{sum(trained.values()) / 1e6:.1f}"
        assert documented[str(depth)] == [", ".join(trained), millions]
