"""Which precision pays on the processor at hand: bfloat16 where its hardware has it, else float32.

This is the one place that asks what the processor can do.
"""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

import torch

from faces.command import UserError

_BF16_FLAGS = frozenset(("avx512_bf16", "amx_bf16", "bf16"))
_ISAS_WITH_BF16 = ("AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX512_CORE_AMX", "AVX10", "DEFAULT")
_INSTRUCTIONS = ("SSE41", "AVX", "AVX2", "AVX512")


def cpu_has_bf16() -> bool:
    """Return whether this process may multiply bfloat16 in hardware (AVX-512 BF16, AMX, Arm BF16).

    Without it PyTorch still accepts bfloat16 but emulates it, slower than float32. oneDNN's
    variable ``ONEDNN_MAX_CPU_ISA`` (such as ``AVX2``) is obeyed: with it a processor passes for a
    lesser one.
    """
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "DEFAULT").upper()
    return limit.startswith(_ISAS_WITH_BF16) and _flags_have_bf16()


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


@cache
def _flags_have_bf16() -> bool:
    flags = next((one for one in _cpuinfo() if one.lower().startswith(("flags", "features"))), "")
    return not _BF16_FLAGS.isdisjoint(flags.split())


def processor_name() -> str:
    """Return the name of the CPU."""
    names = (line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def processor_class() -> str:
    """Return for which class of processors times hold that are measured here.

    It is the widest instructions that the networks may use and the number format that pays, such
    as ``AVX-512, bfloat16`` or ``AVX2, float32``. What makes a processor pass for a lesser one
    (``ATEN_CPU_CAPABILITY`` for PyTorch, ``ONEDNN_MAX_CPU_ISA`` for it and OpenVINO) counts.
    """
    widest = str(torch.backends.cpu.get_cpu_capability())
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper().split("_")[0]
    known = [name for name in (widest, limit) if name in _INSTRUCTIONS]
    name = min(known, key=_INSTRUCTIONS.index) if known else widest
    number = "bfloat16" if cpu_has_bf16() else "float32"
    return f"{name.replace('AVX512', 'AVX-512')}, {number}"


def best_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the device multiplies it in hardware, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    if device.type == "cpu":
        return torch.bfloat16 if cpu_has_bf16() else torch.float32
    return torch.float32


def use_bf16(mode: str, device: torch.device) -> bool:
    """Resolve ``MODEL.BF16``: ``auto`` (where the device's hardware has it), ``on`` or ``off``."""
    if mode == "auto":
        return best_dtype(device) == torch.bfloat16
    if mode not in ("on", "off"):
        raise UserError(f"MODEL.BF16 must be auto, on or off, got {mode!r}")
    return mode == "on"
