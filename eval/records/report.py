"""Measured rows → one record, a strict JSON file, and back; and a table for reading."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
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


def check_out(path: Path | None) -> None:
    """Make sure, before anything is measured, that the record can be written; creates its folder.

    Raises:
        UserError: ``path`` is a folder, or its folder cannot be made or written to.
    """
    if path is None:
        return
    if path.is_dir():
        raise UserError(f"{path}: is a folder; --out takes a file name such as report.json")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); choose another --out"
        ) from error


def write_report(path: Path, kind: str, rows: Sequence[Row]) -> None:
    """Write a record: one row as one object, several as ``{"runs": [object, …]}``; all or nothing.

    The file is strict JSON: undefined values (nan) become null. A row that names its command also
    gets ``weights_sha256``, the shipped weights that it was measured with, if it has none yet.

    Args:
        path: the file.
        kind: of the rows, see ``eval.records.sections.Section``; every row gets it as ``kind``.
        rows: the rows.
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

    Args:
        path: the file.
        kinds: that its rows may have.

    Raises:
        UserError: it is no record, or a row is of another kind or names no command.
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

    Args:
        command_line: that makes the record.
        device: where the models run; None for a GPU if there is one.
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


def precision_of(model: object) -> str | None:
    """Return the number format that a model computes in, where it or all its members say so."""
    formats = {getattr(part, "dtype", None) for part in getattr(model, "members", (model,))}
    dtype = formats.pop() if len(formats) == 1 else None
    return None if dtype is None else str(dtype).removeprefix("torch.")


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
    """Lay rows out as a table.

    Args:
        rows: the rows of a record.
        columns: key (see ``value_at``) → how to show it: ``text``, ``count``, ``percent`` (a
            fraction), ``number``, or ``interval`` (of fractions, on the left as text is).
    """
    cells = [[cell(value_at(row, key), kind) for key, kind in columns.items()] for row in rows]
    heads = [key.replace("_", "\n") for key in columns]  # narrow columns
    align = alignment(columns) if rows else None
    return str(tabulate(cells, heads, colalign=align, disable_numparse=True))


def value_at(row: Row, key: str) -> object:
    """Return the value of a key, ``a.b`` being the key b of the object a; None if it is missing."""
    value: object = row
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
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
