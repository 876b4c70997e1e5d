"""Whether bfloat16 pays on the processor at hand: decided at run time, fp32 elsewhere."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

from detection.errors import ConfigError

_CPU_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")


@cache
def cpu_has_bf16() -> bool:
    """Return whether this CPU multiplies bfloat16 in hardware (AVX-512 BF16, AMX, Arm BF16).

    Without it PyTorch still accepts bfloat16 but emulates it, slower than fp32.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    return any(flag in flags.split() for flag in _CPU_FLAGS)


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
