#!/usr/bin/env python3
"""Write constraints.txt: the newest versions that fit together, of everything the project needs.

pip resolves the project with all its extras and the Detectron2 wheel for an empty environment,
with no pin but ``TORCH``, and only says what it would install. Run it through ``make constraints``.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from environment import ROOT, SetupError, known_extras, run

TORCH = ("torch==2.14.1", "torchvision==0.29.1")
"""The pair that the shipped weights were trained and measured with."""

HEADER = """\
# The versions that `make setup` installs, for Python {python} on {system}; on another system
# the lines that it does not need stay unused. Written by `make constraints`: do not edit.
"""
LOCAL = ("twostage", "detectron2")
"""Built here, so not pinned."""


def pins(report: dict[str, Any]) -> list[str]:
    """Return ``name==version`` for every package of pip's installation report, sorted by name."""
    found = {}
    for item in report["install"]:
        metadata = item["metadata"]
        name = re.sub(r"[-_.]+", "-", metadata["name"]).lower()
        if name not in LOCAL:
            # A local version (2.14.1+cu130) is one builder's file; its public part fits all.
            found[name] = metadata["version"].split("+")[0]
    return [f"{name}=={found[name]}" for name in sorted(found)]


def resolve(root: Path) -> dict[str, Any]:
    """Return pip's report on what it would install into an empty environment.

    Raises:
        SetupError: no environment can be made, or pip cannot resolve the requirements.
    """
    with tempfile.TemporaryDirectory() as scratch:
        python = Path(scratch, "venv", "bin", "python")
        report = Path(scratch, "report.json")
        run([sys.executable, "-m", "venv", Path(scratch, "venv")], "python -m venv failed")
        wheel = run(
            [python, root / "setup/detectron2_wheel.py", "--out", scratch], "no Detectron2 wheel"
        ).strip()
        command: list[str | Path] = [
            python,
            "-m",
            "pip",
            "install",
            "--dry-run",
            "--ignore-installed",
        ]
        command += [
            "--report",
            report,
            "-q",
            f"{root}[{','.join(known_extras(root))}]",
            wheel,
            *TORCH,
            "setuptools",
            "wheel",
        ]
        run(command, "pip cannot resolve the requirements (see above)")
        found: dict[str, Any] = json.loads(report.read_text())
    return found


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, resolve, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "constraints.txt", help="file to write")
    options = parser.parse_args(arguments)
    try:
        lines = pins(resolve(ROOT))
    except SetupError as error:
        print(f"constraints: {error}", file=sys.stderr)
        return 1
    python = "{}.{}".format(*sys.version_info)
    system = f"{platform.system()} {platform.machine()}"
    options.out.write_text(HEADER.format(python=python, system=system) + "\n".join(lines) + "\n")
    print(f"{options.out}: {len(lines)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
