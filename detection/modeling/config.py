"""Detectron2's configuration with the few keys that this project adds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode, get_cfg

import detection.modeling.backbone
import detection.modeling.ignore_regions  # noqa: F401  (both make their parts known to Detectron2)
from detection.errors import ConfigError

CONFIG_DIR = Path(__file__).resolve().parents[1] / "configs"


def face_cfg() -> Any:
    """Return Detectron2's default configuration plus this project's keys, each with its default."""
    cfg = get_cfg()
    cfg.MODEL.BF16 = "auto"
    """bfloat16 convolutions in the light model: auto (where the hardware has it), on, off."""
    cfg.MODEL.SEPARABLE = False
    """Separable 3×3 convolutions in the pyramid and the RPN head of the light model."""
    cfg.MODEL.SCORE_THRESHOLD = 0.5
    """From this score on, a detection is shown to users; chosen on validation data."""

    cfg.MODEL.CONTAINMENT = 1.1
    """A box with this share of its area inside a better one is dropped; above 1 none is."""
    cfg.MODEL.VOTING = 1.1
    """What is found moves to the mean of all boxes from this IoU on; above 1 nothing moves. Without
    effect in trainings whose ``ROI_HEADS.NAME`` is not FaceROIHeads."""

    cfg.SOLVER.OPTIMIZER = "SGD"
    """SGD (Detectron2's own) or ADAMW."""
    cfg.SOLVER.BACKBONE_LR_FACTOR = 1.0
    """Learning rate of ``backbone.bottom_up`` as a multiple of BASE_LR (ADAMW only)."""
    cfg.SOLVER.KEEP_CHECKPOINTS = 2
    """How many of the latest resumable checkpoints stay on disk."""

    cfg.INPUT.FACE_CROP = CfgNode()
    """Training on crops around faces instead of whole pictures."""
    cfg.INPUT.FACE_CROP.ENABLED = False
    cfg.INPUT.FACE_CROP.SIZE = 320
    """Side of the square crop, pixels."""
    cfg.INPUT.FACE_CROP.FACE_SIZES = (16.0, 160.0)
    """The chosen face's longer side is drawn from this range (log-uniformly), pixels."""
    cfg.INPUT.FACE_CROP.MAX_ZOOM = 3.0
    """No picture is enlarged more than this."""
    cfg.INPUT.FACE_CROP.WHOLE = 0.2
    """Share of samples that show the whole picture, shrunk to fit, instead of a crop."""
    cfg.INPUT.STRETCH = 0.0
    """Width over height of training pictures varies by up to this share; 0.5: from 1/1.5 to 1.5."""
    cfg.INPUT.COLOUR_JITTER = 0.0
    """Brightness, contrast and saturation vary by up to this share; a tenth of pictures go grey."""
    cfg.INPUT.BLUR = 0.0
    """Share of the training pictures that are blurred."""
    cfg.INPUT.MIN_FACE = 0.0
    """Faces whose shorter side is below this, in pixels of the network's input, are ignored."""

    cfg.DATASETS.REPORT = ()
    """Data sets that are measured once, when training ends, with the chosen weights."""
    cfg.TEST.MIN_FACE = 0.0
    """Evaluation ignores faces whose shorter side is below this, pixels of the picture."""
    return cfg


def find_config(path: str | Path) -> Path:
    """Return the configuration file for a path, or for the name of one of ``detection/configs``.

    Raises:
        ConfigError: there is no such file; the message lists the names that exist.
    """
    for file in (Path(path), CONFIG_DIR / f"{path}.yaml", CONFIG_DIR / Path(path).name):
        if file.is_file():
            return file
    names = ", ".join(sorted(file.stem for file in CONFIG_DIR.glob("*.yaml")))
    raise ConfigError(f"{path}: no such configuration file. This project's own are: {names}")


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Any:
    """Read a configuration file and apply ``KEY VALUE`` overrides.

    Args:
        path: a YAML file in Detectron2's format, or the name of one in ``detection/configs``.
        overrides: key, value, key, value, …

    Raises:
        ConfigError: the file is missing, is not YAML, or a key or value does not fit.
    """
    file = find_config(path)
    cfg = face_cfg()
    try:
        values = CfgNode.load_yaml_with_base(str(file))
        if not isinstance(values, dict):
            raise ValueError("it holds no KEY: VALUE pairs")
        cfg.merge_from_other_cfg(CfgNode(values))
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AssertionError, OSError) as error:
        raise ConfigError(f"{file}: not a usable configuration: {_one_line(error)}") from error
    apply_overrides(cfg, overrides)
    return cfg


def apply_overrides(cfg: Any, overrides: Sequence[str]) -> None:
    """Set ``KEY VALUE`` pairs, as they stand on the command line, in a configuration.

    Raises:
        ConfigError: a key without a value, an unknown key (the nearest known one is named), or a
            value of the wrong kind.
    """
    if len(overrides) % 2:
        raise ConfigError(
            f"overrides come in pairs, KEY VALUE; {overrides[-1]!r} has no partner in "
            f"{' '.join(overrides)!r} (options such as --resume go before the first KEY)"
        )
    known = dict(_items(cfg))
    for key, value in zip(overrides[::2], overrides[1::2], strict=True):
        if key not in known:
            near = get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"unknown configuration key {key!r}{hint}")
        if isinstance(known[key], float) and value.lstrip("+-").isdigit():
            value += ".0"  # yacs takes 16 for an integer, and integers for no floats
        try:
            cfg.merge_from_list([key, value])
        except (AssertionError, ValueError, KeyError, TypeError, SyntaxError) as error:
            raise ConfigError(f"{key} {value}: {_one_line(error)}") from error


def _items(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        name = f"{prefix}{key}"
        if isinstance(value, CfgNode):
            yield from _items(value, f"{name}.")
        else:
            yield name, value


def _one_line(error: BaseException) -> str:
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split()) or type(error).__name__
