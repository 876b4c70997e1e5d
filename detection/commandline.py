"""What ``detection.train`` and ``detection.evaluate`` share: Detectron2's options plus ways to name data."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from detectron2.engine import default_argument_parser

from detection.config import load_config
from detection.datasets import register
from detection.errors import ConfigError
from detection.launch import device_name

_DATA_KEYS = {"train_coco": "TRAIN", "val_coco": "TEST", "report_coco": "REPORT"}


def build_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """Return Detectron2's parser with the options that name data."""
    parser: argparse.ArgumentParser = default_argument_parser(epilog=description)
    parser.prog = prog
    pair = {"nargs": 2, "action": "append", "default": [], "metavar": ("JSON", "IMAGES")}
    parser.add_argument(
        "--dataturks",
        help="a Dataturks json and the folder of its pictures: train on its training split, choose "
        "on its validation split, report its test split",
        **pair,
    )
    parser.add_argument(
        "--train-coco", help="a COCO json of faces and its pictures, to train on", **pair
    )
    parser.add_argument("--val-coco", help="the same, to choose the best weights on", **pair)
    parser.add_argument("--report-coco", help="the same, measured once at the end", **pair)
    return parser


def configure(args: argparse.Namespace) -> Any:
    """Build the configuration from the options: file, data, ``KEY VALUE`` overrides; register the data.

    Raises:
        ConfigError: the configuration cannot be used.
        DataError: data is named wrongly or missing.
    """
    if not args.config_file:
        raise ConfigError(
            "--config-file is missing: a file, or mobilenet_fpn (CPU) or x101_fpn (GPU)"
        )
    cfg = load_config(args.config_file, _opts(args))
    add_data(cfg, args)
    cfg.MODEL.DEVICE = device_name(args, cfg.MODEL.DEVICE)
    register([*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST, *cfg.DATASETS.REPORT])
    return cfg


def _opts(args: argparse.Namespace) -> list[str]:
    opts = list(args.opts or [])
    return opts[1:] if opts[:1] == ["--"] else opts


def add_data(cfg: Any, args: argparse.Namespace) -> None:
    """Put the sets that ``--dataturks`` and ``--…-coco`` name in place of those of the file."""
    named: dict[str, list[str]] = {"TRAIN": [], "TEST": [], "REPORT": []}
    for option, key in _DATA_KEYS.items():
        named[key] += [f"coco:{file}:{images}" for file, images in getattr(args, option)]
    for file, images in args.dataturks:
        for key, split in (("TRAIN", "train"), ("TEST", "val"), ("REPORT", "test")):
            named[key].append(f"dataturks:{file}:{images}:{split}")
    for key, names in named.items():
        if names:
            cfg.DATASETS[key] = tuple(names)


def command_line(module: str, argv: Sequence[str] | None) -> str:
    """Return the command as one would type it."""
    return shlex.join(["python", "-m", module, *(sys.argv[1:] if argv is None else argv)])
