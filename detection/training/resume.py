"""What must be the same where ``--resume`` goes on: configuration, data, number of processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detectron2.utils import comm

from detection.data.catalog import describe
from detection.modeling.config import items
from faces.command import UserError

FREE = (
    "DATASETS.",  # compared by their content
    "DATALOADER.NUM_WORKERS",
    "MODEL.DEVICE",
    "OUTPUT_DIR",
    "SOLVER.CHECKPOINT_PERIOD",
    "SOLVER.KEEP_CHECKPOINTS",
    "SOLVER.MAX_ITER",
)
"""Keys, or their beginnings, that may change between a run and its continuation."""


def conditions(cfg: Any) -> dict[str, str]:
    """Return what decides the course of a training, by its name; its data sets are registered."""
    values = {key: str(value) for key, value in items(cfg) if not key.startswith(FREE)}
    for key in ("TRAIN", "TEST"):
        sets = [describe(name) for name in cfg.DATASETS[key]]
        values[f"DATASETS.{key}"] = " + ".join(
            f"{s['pictures']} images with {s['faces']} faces, SHA-256 {s['sha256'][:12]}"
            for s in sets
        )
    return values | {"processes": str(comm.get_world_size())}


def check_conditions(folder: str, then: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raise a ``UserError`` unless the run in ``folder`` goes on under its ``conditions``.

    Each difference is named with both values.
    """
    differing = [
        f"{key}: {then.get(key) or 'nothing'} then, {now.get(key) or 'nothing'} now"
        for key in {**now, **then}
        if then.get(key) != now.get(key)
    ]
    if differing:
        raise UserError(
            f"{folder}: --resume needs the command that began the run; {'; '.join(differing)}. "
            "Give these as they were, or name another OUTPUT_DIR"
        )
