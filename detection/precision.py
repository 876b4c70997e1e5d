"""Whether bfloat16 pays on the processor at hand: decided at run time, fp32 elsewhere."""

from __future__ import annotations

import torch

from detection.errors import ConfigError
from faces.processor import cpu_has_bf16


def use_bf16(mode: str, device: torch.device) -> bool:
    """Resolve the configuration value ``MODEL.BF16`` for one device.

    Args:
        mode: ``auto`` (where the hardware has it), ``on`` or ``off``.
        device: where the model runs.

    Raises:
        ConfigError: another mode.
    """
    if mode == "auto":
        return torch.cuda.is_bf16_supported() if device.type == "cuda" else cpu_has_bf16()
    if mode not in ("on", "off"):
        raise ConfigError(f"MODEL.BF16 must be auto, on or off, got {mode!r}")
    return mode == "on"
