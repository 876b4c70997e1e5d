"""Detectron2's configuration with the few keys that this project adds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path, PureWindowsPath
from typing import Any

import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model

import detection.modeling.backbone
import detection.modeling.ignore_regions  # noqa: F401  (both make their parts known to Detectron2)
from faces.command import UserError
from faces.files import regular_file

CONFIG_DIR = Path(__file__).resolve().parents[1] / "configs"

BASE_KEY = "_BASE_"

MAX_CHARACTERS = 100_000
"""Longer files are refused; a resolved configuration has 6,000 characters."""

MAX_ALIASES = 10
"""Files with more YAML aliases are refused: aliases of aliases grow without bound."""

MAX_DEPTH = 20
"""Files whose values are nested deeper are refused."""

_SIDE, _SHARE, _COUNT = (1, 10_000), (0, 1), (1, 1_000_000)
RANGES: dict[str, tuple[float, float]] = {
    "INPUT.MIN_SIZE_TEST": _SIDE,
    "INPUT.MAX_SIZE_TEST": _SIDE,
    "INPUT.MIN_SIZE_TRAIN": _SIDE,
    "INPUT.MAX_SIZE_TRAIN": _SIDE,
    "INPUT.FACE_CROP.SIZE": _SIDE,
    "INPUT.FACE_CROP.FACE_SIZES": _SIDE,
    "INPUT.FACE_CROP.WHOLE": _SHARE,
    "INPUT.BLUR": _SHARE,
    "MODEL.PIXEL_STD": (1e-6, 1e6),
    "MODEL.SCORE_THRESHOLD": _SHARE,
    "MODEL.CONTAINMENT": (1e-6, 1e6),
    "MODEL.VOTING": (1e-6, 1e6),
    "MODEL.RPN.NMS_THRESH": _SHARE,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": _COUNT,
    "MODEL.RPN.POST_NMS_TOPK_TEST": _COUNT,
    "MODEL.ROI_HEADS.NUM_CLASSES": (1, 1),
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": _SHARE,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": _SHARE,
    "TEST.DETECTIONS_PER_IMAGE": _COUNT,
    "TEST.MIN_FACE": (0, 10_000),
    "SOLVER.IMS_PER_BATCH": _COUNT,
    "SOLVER.MAX_ITER": (1, 1_000_000_000),
    "SOLVER.BASE_LR": (0, math.inf),
}
"""Key → smallest and largest value, of each number where the value is a list."""

CHOICES: dict[str, tuple[Any, ...]] = {
    "MODEL.META_ARCHITECTURE": ("GeneralizedRCNN",),
    "MODEL.BF16": ("auto", "on", "off"),
    "INPUT.FORMAT": ("RGB", "BGR"),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": ("choice", "range"),
    "DATALOADER.SAMPLER_TRAIN": ("TrainingSampler",),
    "SOLVER.OPTIMIZER": ("SGD", "ADAMW"),
}

_MISFITS = (
    *(AssertionError, ValueError, KeyError, TypeError),
    *(SyntaxError, RecursionError, MemoryError),
)
"""What yacs and Detectron2 raise where keys or values do not fit."""


def face_cfg() -> Any:
    """Return Detectron2's default configuration plus this project's keys, each with its default."""
    cfg = get_cfg()
    cfg.MODEL.BF16 = "auto"
    """bfloat16 convolutions in the light model: auto (where the hardware has it), on, off."""
    cfg.MODEL.SEPARABLE = False
    """Separable 3×3 convolutions in the pyramid and the RPN head of the light model."""
    cfg.MODEL.SCORE_THRESHOLD = 0.5
    """From this score on, a detection is shown to users; selected on validation data."""

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
    """Training on crops around faces instead of whole images."""
    cfg.INPUT.FACE_CROP.ENABLED = False
    cfg.INPUT.FACE_CROP.SIZE = 320
    """Side of the square crop, pixels."""
    cfg.INPUT.FACE_CROP.FACE_SIZES = (16.0, 160.0)
    """The selected face's longer side is drawn from this range (log-uniformly), pixels."""
    cfg.INPUT.FACE_CROP.MAX_ZOOM = 3.0
    """No image is enlarged more than this."""
    cfg.INPUT.FACE_CROP.WHOLE = 0.2
    """Share of samples that show the whole image, shrunk to fit, instead of a crop."""
    cfg.INPUT.STRETCH = 0.0
    """Width over height of training images varies by up to this share; 0.5: from 1/1.5 to 1.5."""
    cfg.INPUT.COLOUR_JITTER = 0.0
    """Brightness, contrast and saturation vary by up to this share; a tenth of images go grey."""
    cfg.INPUT.BLUR = 0.0
    """Share of the training images that are blurred."""
    cfg.INPUT.MIN_FACE = 0.0
    """Faces whose shorter side is below this, in pixels of the network's input, are ignored."""

    cfg.DATASETS.REPORT = ()
    """Data sets that are measured once, when training ends, with the selected weights."""
    cfg.TEST.MIN_FACE = 0.0
    """Evaluation ignores faces whose shorter side is below this, pixels of the image."""
    return cfg


def find_config(path: str | Path) -> Path:
    """Return the configuration file for a path, or for the name of one of ``detection/configs``."""
    for file in (Path(path), CONFIG_DIR / f"{path}.yaml", CONFIG_DIR / Path(path).name):
        if file.exists():
            return regular_file(file)
    names = ", ".join(sorted(file.stem for file in CONFIG_DIR.glob("*.yaml")))
    raise UserError(f"{path}: no such configuration file. This project's own are: {names}")


def load_config(path: str | Path, overrides: Sequence[str] = (), resolved: bool = False) -> Any:
    """Read a configuration file and apply ``KEY VALUE`` overrides.

    Args:
        path: a YAML file in Detectron2's format, or the name of one in ``detection/configs``. Its
            ``_BASE_``, if any, is a file beside it, which has none.
        overrides: key, value, key, value, …
        resolved: the file is a run folder's, which has no ``_BASE_``.

    Raises:
        UserError: the file is missing, is not YAML, or a key or value does not fit.
    """
    file = find_config(path)
    cfg = face_cfg()
    values = _read_yaml(file)
    base = values.pop(BASE_KEY, None)
    if base is not None:
        if resolved or not isinstance(base, str) or base != PureWindowsPath(base).name:
            raise UserError(
                f"{file}: _BASE_ {str(base)[:100]!r}: none in a run folder; elsewhere the name of "
                "a file in the same folder"
            )
        below = _read_yaml(file.with_name(base))
        if BASE_KEY in below:
            raise UserError(f"{file}: its _BASE_ {base} has a _BASE_ itself; one level only")
        _merge(cfg, below, file.with_name(base))
    _merge(cfg, values, file)
    apply_overrides(cfg, overrides)
    return check_values(cfg, str(file))


def _read_yaml(file: Path) -> dict[str, Any]:
    """Read a YAML file of KEY: VALUE pairs, within limits of size and of aliases."""
    try:
        with regular_file(file).open(encoding="utf-8-sig") as stream:
            text = stream.read(MAX_CHARACTERS + 1)
        if len(text) > MAX_CHARACTERS:
            raise ValueError(f"it has more than {MAX_CHARACTERS} characters")
        _check_events(yaml.parse(text))
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{file}: not a usable configuration: {_one_line(error)}") from error
    if not isinstance(values, dict):
        raise UserError(f"{file}: not a usable configuration: it holds no KEY: VALUE pairs")
    return values


def _check_events(events: Iterable[yaml.Event]) -> None:
    """Raise a ``ValueError``, before anything is built, at too many aliases or too deep nesting."""
    aliases = depth = 0
    for event in events:
        aliases += isinstance(event, yaml.AliasEvent)
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if aliases > MAX_ALIASES:
            raise ValueError(f"it has more than {MAX_ALIASES} aliases; write the values out")
        if depth > MAX_DEPTH:
            raise ValueError(f"its values are nested more than {MAX_DEPTH} deep")


def _merge(cfg: Any, values: dict[str, Any], file: Path) -> None:
    try:
        cfg.merge_from_other_cfg(CfgNode(values))
    except _MISFITS as error:
        raise UserError(f"{file}: not a usable configuration: {_one_line(error)}") from error


def check_values(cfg: Any, source: str) -> Any:
    """Return a complete configuration if a detector can work with its values.

    Else a ``UserError``, which calls it ``source``, names the value and its range.
    """
    for key, value in items(cfg):
        numbers = value if isinstance(value, tuple | list) else (value,)
        low, high = RANGES.get(key, (-math.inf, math.inf))
        for number in numbers:
            if isinstance(number, float | int) and not (
                low <= number <= high and math.isfinite(number)
            ):
                raise UserError(
                    f"{source}: {key} {value}: must be a finite number"
                    + (f" from {low:g} to {high:g}" if key in RANGES else "")
                )
        if key in CHOICES and value not in CHOICES[key]:
            raise UserError(
                f"{source}: {key} {value!r}: must be {' or '.join(map(str, CHOICES[key]))}"
            )
    return cfg


def build_network(cfg: Any) -> Any:
    """Build Detectron2's model for a configuration, with random weights.

    A ``UserError`` says that the parts it names do not exist or do not fit each other.
    """
    try:
        return build_model(cfg)
    except UserError:
        raise
    except (*_MISFITS, RuntimeError, AttributeError, IndexError, ZeroDivisionError) as error:
        raise UserError(f"the configuration makes no detector: {_one_line(error)}") from error


def apply_overrides(cfg: Any, overrides: Sequence[str]) -> None:
    """Set ``KEY VALUE`` pairs, as they stand on the command line, in a configuration.

    Raises:
        UserError: a key without a value, an unknown key (the nearest known one is named), or a
            value of the wrong kind.
    """
    if len(overrides) % 2:
        raise UserError(
            f"overrides come in pairs, KEY VALUE; {overrides[-1]!r} has no partner in "
            f"{' '.join(overrides)!r} (options such as --resume go before the first KEY)"
        )
    known = dict(items(cfg))
    for key, value in zip(overrides[::2], overrides[1::2], strict=True):
        if key not in known:
            near = get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"unknown configuration key {key!r}{hint}")
        if isinstance(known[key], float) and value.lstrip("+-").isdigit():
            value += ".0"  # yacs takes 16 for an integer, and integers for no floats
        try:
            cfg.merge_from_list([key, value])
        except _MISFITS as error:
            raise UserError(f"{key} {value}: {_one_line(error)}") from error


def items(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the full key of every value of a configuration, and the value."""
    for key, value in node.items():
        name = f"{prefix}{key}"
        if isinstance(value, CfgNode):
            yield from items(value, f"{name}.")
        else:
            yield name, value


def _one_line(error: BaseException) -> str:
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split())[:300] or type(error).__name__
