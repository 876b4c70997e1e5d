"""Processes that a campaign watches: their time, their memory, what they say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "NO_ALBUMENTATIONS_UPDATE": "1", "PYTHONPATH": str(ROOT)}

MEMORY_LIMIT_MB = 6000
"""A process that takes more is killed, for the machine's sake."""


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        status: its exit status; negative is the signal that killed it.
        hung: it was killed as it took too long.
        peak_mb: largest resident memory.
        out: standard output.
        error: standard error.
    """

    status: int
    hung: bool
    peak_mb: float
    out: str
    error: str


def start(words: Sequence[str], out: object, error: object) -> subprocess.Popen[bytes]:
    """Start ``python words…`` in the clone, on one thread."""
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT},
        stdin=subprocess.DEVNULL,
        stdout=out,  # type: ignore[call-overload]
        stderr=error,
    )


def resident_mb(process: int) -> float:
    """Return the largest resident memory that a process has had, 0 if it is gone."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        return 0.0


def watch(words: Sequence[str], seconds: float) -> Ended:
    """Run ``python words…``, killed after so many seconds or when it takes too much memory."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
        process = start(words, out, error)
        end, peak, hung = time.monotonic() + seconds, 0.0, False
        while process.poll() is None:
            peak = max(peak, resident_mb(process.pid))
            hung = time.monotonic() > end
            if hung or peak > MEMORY_LIMIT_MB:
                process.send_signal(signal.SIGKILL)
                process.wait()
                break
            time.sleep(0.05)
        for file in (out, error):
            file.seek(0)
        said = [file.read().decode("utf-8", "replace") for file in (out, error)]
    return Ended(process.returncode, hung, peak, *said)
