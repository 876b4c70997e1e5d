"""What this machine's processor can do."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_BF16_FLAGS = frozenset(("avx512_bf16", "amx_bf16", "bf16"))


@cache
def cpu_has_bf16() -> bool:
    """Return whether this CPU multiplies bfloat16 in hardware (AVX-512 BF16, AMX, Arm BF16).

    Without it PyTorch still accepts bfloat16 but emulates it, slower than float32.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    return not _BF16_FLAGS.isdisjoint(flags.split())
