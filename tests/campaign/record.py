"""What a campaign found: one line for people, one row of results/robustness_campaign.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eval.records.report import provenance, read_record, write_report
from eval.records.sections import ROBUSTNESS_CAMPAIGN

RECORD = Path(__file__).resolve().parents[2] / "results" / "robustness_campaign.json"


def merge(path: Path, row: dict[str, Any], command: str) -> None:
    """Put a campaign's row into the record, in the place of an older one of the same campaign."""
    kind = ROBUSTNESS_CAMPAIGN.kind
    rows = read_record(path, {kind}) if path.exists() else []
    rows = [one for one in rows if one["campaign"] != row["campaign"]]
    rows.append(row | provenance(command, "cpu") | {"weights_sha256": {}})
    write_report(path, kind, sorted(rows, key=lambda one: one["campaign"]))


def line(row: dict[str, Any]) -> str:
    """Return a campaign's figures as one line."""
    figures = (
        f"{key.replace('_', ' ')} {value}" for key, value in row.items() if key != "campaign"
    )
    return f"{row['campaign']}: {', '.join(figures)}"
