"""What the commands share: Detectron2's options and overrides, plus ways to name data."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from detectron2.engine import default_argument_parser

from detection.data.catalog import register
from detection.modeling.config import apply_overrides, check_values, load_config
from detection.training.launch import device_name
from faces.command import UserError

PAIR: dict[str, Any] = {
    "nargs": 2,
    "action": "append",
    "default": [],
    "metavar": ("JSON", "IMAGES"),
}
"""Arguments of an option that names a json and the folder of its images, and may be repeated."""


def detectron2_parser(prog: str, description: str | None) -> argparse.ArgumentParser:
    """Return Detectron2's ``default_argument_parser`` under another name and description."""
    parser: argparse.ArgumentParser = default_argument_parser(
        epilog="KEY VALUE pairs after the options override the configuration, as in Detectron2."
    )
    parser.prog, parser.description = prog, description
    return parser


def configure(args: argparse.Namespace, data: Mapping[str, tuple[str, ...]]) -> Any:
    """Build the configuration from the options of ``detectron2_parser`` and register the data.

    ``data`` are key of ``DATASETS`` → names of data sets; empty ones leave what the overrides say,
    if anything.
    """
    if not args.config_file:
        raise UserError(
            "--config-file is missing: a file, or mobilenet_fpn (for CPUs), or x101_fpn (for GPUs)"
        )
    cfg = load_config(args.config_file)
    for key in ("TRAIN", "TEST", "REPORT"):
        cfg.DATASETS[key] = data.get(key, ())
    opts = list(args.opts or [])
    apply_overrides(cfg, opts[1:] if opts[:1] == ["--"] else opts)
    check_values(cfg, f"{args.config_file} and the KEY VALUE pairs")
    cfg.MODEL.DEVICE = device_name(args, cfg.MODEL.DEVICE)
    register([*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST, *cfg.DATASETS.REPORT])
    return cfg
