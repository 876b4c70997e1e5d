"""Measured runs → one strict JSON file, and a table for reading."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate

from eval.records.staleness import shipped_weights
from faces.command import UserError
from faces.provenance import git_commit

Run = dict[str, Any]
"""One measured model (or pair): a flat object; fractions lie in 0..1, nan where undefined."""


def check_out(path: Path | None) -> None:
    """Make sure, before anything is measured, that the report can be written; creates its folder.

    Raises:
        UserError: ``path`` is a folder, or its folder cannot be made or written to.
    """
    if path is None:
        return
    if path.is_dir():
        raise UserError(f"{path}: is a folder; --out takes a file name such as report.json")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe = _temporary(path)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); choose another --out"
        ) from error


def write_report(path: Path, runs: Sequence[Run]) -> None:
    """Write one run as one object, several as ``{"runs": [object, …]}``; all or nothing.

    The file is strict JSON: undefined values (nan) become null. A run that names its command also
    gets ``weights_sha256``, the shipped weights that it was measured with, if it has none yet.
    """
    runs = [
        run | {"weights_sha256": shipped_weights(run)}
        if "command" in run and "weights_sha256" not in run
        else run
        for run in runs
    ]
    document = runs[0] if len(runs) == 1 else {"runs": runs}
    text = json.dumps(strict(document), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    temporary = _temporary(path)
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def provenance(command_line: str) -> Run:
    """Return what every run says of its making: command, commit, day (UTC), processor, threads."""
    return {
        "command": command_line,
        "commit": git_commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def processor() -> str:
    """Return the name of the GPU if there is one, else of the CPU."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def strict(value: Any) -> Any:
    """Return ``value`` as plain Python for strict JSON: numpy unpacked, nan and inf → None."""
    if isinstance(value, Mapping):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return strict(value.tolist())
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    if isinstance(value, np.generic):
        return strict(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def table(runs: Sequence[Run], columns: Mapping[str, str]) -> str:
    """Lay runs out as a table, one row each.

    Args:
        runs: the measured runs.
        columns: key → how to show it: ``text``, ``count``, ``percent`` (a fraction) or ``number``.
    """
    rows = [[cell(run.get(key), kind) for key, kind in columns.items()] for run in runs]
    heads = [key.replace("_", "\n") for key in columns]  # narrow columns
    align = ["left" if kind == "text" else "right" for kind in columns.values()]
    return str(tabulate(rows, heads, colalign=align if rows else None, disable_numparse=True))


def cell(value: Any, kind: str) -> str:
    """Format one value of a table; a dash stands for what is undefined or was not measured.

    A list of two is an interval, each end of its kind.
    """
    value = strict(value)
    if value is None:
        return "–"
    if isinstance(value, list) and kind != "text":
        low, high = (cell(end, kind) for end in value)
        return "–" if low == high == "–" else f"{low.removesuffix(' %')} – {high}"
    if kind == "percent":
        return f"{100 * value:.2f} %"
    return f"{value:.3g}" if kind == "number" else str(value)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")
