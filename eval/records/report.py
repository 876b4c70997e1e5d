"""Measured rows → one record, a strict JSON file, and back; and a table for reading."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate

from eval.records.staleness import shipped_weights
from faces import files
from faces.command import UserError
from faces.provenance import git_commit
from networks.device import usable_device
from networks.precision import processor_class, processor_name

Row = dict[str, Any]
"""One measured model (or pair): a flat object; fractions lie in 0..1, nan where undefined."""


def write_report(path: Path, kind: str, rows: Sequence[Row]) -> None:
    """Write a record: one row as one object, several as ``{"runs": [object, …]}``; all or nothing.

    The file is strict JSON: undefined values (nan) become null. Every row gets ``kind``, see
    ``eval.records.sections.Section``. One that names its command also gets ``weights_sha256``, the
    shipped weights that it was measured with, if it has none yet.
    """
    rows = [
        {"kind": kind} | row
        if "weights_sha256" in row or "command" not in row
        else {"kind": kind} | row | {"weights_sha256": shipped_weights(row)}
        for row in rows
    ]
    files.write_json(path, strict(rows[0] if len(rows) == 1 else {"runs": rows}))


def read_record(path: Path, kinds: Collection[str]) -> list[Row]:
    """Read the rows of a record.

    Raises:
        UserError: it is no record, or a row is of none of the ``kinds`` or names no command.
    """
    try:
        document = files.read_json(path)
        rows: list[Row] = [dict(row) for row in document.get("runs", [document])]
    except (AttributeError, TypeError) as error:
        raise UserError(f"{path}: no record of an evaluation: {error}") from error
    for row in rows:
        if row.get("kind") not in kinds:
            raise UserError(
                f"{path}: no record of an evaluation: its kind is {row.get('kind')}, none of "
                f"{', '.join(sorted(kinds))}; measure again"
            )
        if "command" not in row:
            raise UserError(f"{path}: no record of an evaluation: names no command; measure again")
    return rows


def provenance(command_line: str, device: str | None = None) -> Row:
    """Return what every row says of its making: command, commit, day (UTC), processor, threads.

    ``device`` is where the models run; None stands for a GPU if there is one.
    """
    on_gpu = usable_device(device).startswith("cuda")
    return {
        "command": command_line,
        "commit": git_commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "processor": torch.cuda.get_device_name(device) if on_gpu else processor_name(),
        "processor_class": None if on_gpu else processor_class(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


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


def table(rows: Sequence[Row], columns: Mapping[str, str]) -> str:
    """Lay rows out as a table for a terminal.

    ``columns`` says of each key (see ``value_at``) how to show it: ``text``, ``count``, ``number``,
    ``percent`` (a fraction), or ``interval`` (of fractions, on the left as text is).
    """
    heads = [key.replace("_", "\n") for key in columns]  # narrow columns
    lines = [cells(row, columns) for row in rows]
    align = alignment(columns) if rows else None
    return str(tabulate(lines, heads, colalign=align, disable_numparse=True))


def markdown(heads: Sequence[str], lines: Sequence[Sequence[str]], align: Sequence[str]) -> str:
    """Lay lines of cells out as a table in Markdown; empty without a line.

    ``align`` says where the first columns stand, ``left`` or ``right``; the others stand right.
    """
    aligned = [*align, *["right"] * (len(heads) - len(align))]
    table = tabulate(lines, heads, "pipe", colalign=aligned, disable_numparse=True)
    return str(table) if lines else ""


def cells(row: Row, columns: Mapping[str, str]) -> list[str]:
    """Return a row's cells; ``columns`` as in ``table``."""
    return [cell(value_at(row, key), kind) for key, kind in columns.items()]


def value_at(row: Row, key: str) -> Any:
    """Return the value of a key; None if it is missing.

    ``a.b`` is the key b of the object a, ``a.1`` the second value of the list a.
    """
    value: Any = row
    try:
        for part in key.split("."):
            value = value[int(part)] if isinstance(value, list) else value[part]
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    return value


def alignment(columns: Mapping[str, str]) -> list[str]:
    """Return where the cells of each column stand, as ``tabulate`` takes it."""
    return ["left" if kind in ("text", "interval") else "right" for kind in columns.values()]


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
    if kind in ("percent", "interval"):
        return f"{100 * value:.2f} %"
    return f"{value:.3g}" if kind == "number" else str(value)
