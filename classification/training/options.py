"""Options that several commands on FER2013 take."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path


def add_data_options(
    parser: ArgumentParser, *, ferplus: bool = False, out: str = ""
) -> ArgumentParser:
    """Add ``--data``, and where asked for ``--ferplus`` and ``--out``, whose help is ``out``."""
    about = "FER2013: csv, Kaggle folder, or zip"
    parser.add_argument("--data", type=Path, required=True, help=about)
    if ferplus:
        about = "FER+, for what has learnt from votes"
        parser.add_argument("--ferplus", type=Path, metavar="CSV", help=about)
    if out:
        parser.add_argument("--out", type=Path, required=True, help=out)
    return parser
