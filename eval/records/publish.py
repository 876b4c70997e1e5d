"""docs/comparison.md: what the comparison says, every figure of ours in it taken from a record.

``comparison_page.md`` is the text; ``{{NAME KEY}}`` in it becomes a figure of the system NAME
(``simple_cnn accuracy``, ``simple_cnn per_class.disgust.f1``) and ``{{NAME - OTHER KEY}}`` the
difference in points. ``NAME@ten`` is the system over ten views of each face. A system without a
record gives a dash.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from eval.records.comparison import System
from eval.records.report import Row, cell, value_at
from faces.command import UserError

TEMPLATE = Path(__file__).with_name("comparison_page.md")

_FIGURE = re.compile(r"\{\{(\S+)(?: - (\S+))? (\S+)\}\}")
_NUMBERS = ("f1", "macro_f1", "ms_per_face")


def fill(text: str, systems: Sequence[System]) -> str:
    """Return the text with its figures; UserError if one names no system or a missing key."""
    rows = {
        system.classifier + ("" if system.views == "single" else f"@{system.views}"): system.row
        for system in systems
    }

    def figure(match: re.Match[str]) -> str:
        name, other, key = match.groups()
        for one in filter(None, (name, other)):
            if one not in rows:
                raise UserError(f"{TEMPLATE.name}: {match.group()}: no system {one}")
        first, second = rows[name], rows[other] if other else None
        if not first or (other and not second):
            return "–"
        value = _value(first, key, match.group())
        if second is not None:
            return f"{100 * (value - _value(second, key, match.group())):+.1f} points"
        if key.split(".")[-1] in _NUMBERS:
            return cell(value, "number")
        return f"{100 * value:.1f} %"

    return _FIGURE.sub(figure, text)


def _value(row: Row, key: str, where: str) -> float:
    value = value_at(row, key)
    if not isinstance(value, int | float):
        raise UserError(f"{TEMPLATE.name}: {where}: the record has no such figure")
    return value
