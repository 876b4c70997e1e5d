"""The robustness campaign: ``python -m tests.campaign pictures --count 2000 --record``.

Prints one line of figures for each part; ``--record`` puts it into
results/robustness_campaign.json. The exit status is 1 if anything went wrong; what did stays in
``--keep``.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.campaign import data_files, kills, pictures, record, tables

RIGHT = ("campaign", "seed", "inputs", "answered", "refused", "kills", "runs", "peak_mb")
"""The figures that may be other than zero."""

PARTS: dict[str, Callable[[int, int, Path], dict[str, Any]]] = {
    "pictures": pictures.fuzz,
    "data": data_files.fuzz,
    "analyze": kills.analyze,
    "classification": kills.classification,
    "detection": kills.detection,
    "models": tables.models,
    "addresses": tables.addresses,
}
DEFAULTS = {"pictures": 2000, "data": 500, "analyze": 25, "classification": 15, "detection": 15}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--count", type=int, help="inputs, or kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("output/campaign"), help="working folder")
    parser.add_argument("--record", action="store_true", help="into results/")
    args = parser.parse_args(argv)
    status = 0
    for part in args.parts:
        folder = args.keep / part
        if folder.exists():
            parser.error(f"{folder}: is there already; remove it, or give another --keep")
        row = PARTS[part](args.count or DEFAULTS.get(part, 0), args.seed, folder.resolve())
        print(record.line(row), flush=True)
        if any(value for key, value in row.items() if key not in RIGHT):
            print(f"what went wrong is in {folder}", file=sys.stderr)
            status = 1
        if args.record:
            words = [part, *(["--count", str(args.count)] if args.count else [])]
            command = shlex.join([*words, "--seed", str(args.seed), "--record"])
            record.merge(record.RECORD, row, f"python -m tests.campaign {command}")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
