"""The tables of cases: poisoned model files, and spellings of addresses that are not public."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tests.campaign import addresses as spellings
from tests.campaign.process import watch

POISONED = (
    "tests/detection/modeling/test_poisoned_files.py",
    "tests/classification/inference/test_poisoned_weights.py",
)
"""Each of their tests spoils a model file, and sees that it is refused in one line of every
command that reads it, that none of its code has run, and that nothing was written."""


def models(count: int, seed: int, folder: Path) -> dict[str, Any]:
    """Run the tests of poisoned model files and count them."""
    folder.mkdir(parents=True)
    report = folder / "report.xml"
    words = ["-m", "pytest", "-q", "-p", "no:xdist", "-o", "addopts=--import-mode=importlib"]
    ended = watch([*words, f"--junit-xml={report}", *POISONED], 3600)
    cases = [
        case
        for case in ElementTree.parse(report).iter("testcase")
        if any(word in case.get("name", "") for word in ("refused", "must_be"))
    ]
    wrong = [case for case in cases if case.find("failure") is not None]
    if wrong or ended.status:
        (folder / "said.txt").write_text(ended.out + ended.error)
    found = {"inputs": len(cases), "refused": len(cases) - len(wrong), "accepted": len(wrong)}
    return {"campaign": "poisoned model files", **found, "hangs": int(ended.hung)}


def addresses(count: int, seed: int, folder: Path) -> dict[str, Any]:
    """Ask for every spelling, and for every spelling by a redirect."""
    folder.mkdir(parents=True)
    wrong = spellings.let_through(folder)
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
    inputs = 2 * len(spellings.PRIVATE)
    found = {"inputs": inputs, "refused": inputs - len(wrong), "accepted": len(wrong)}
    return {"campaign": "addresses", **found}
