#!/usr/bin/env python3
"""Write constraints.txt and setup/lock.txt: the newest versions that fit together, of all packages.

pip resolves the project with all its extras and the Detectron2 wheel for an empty environment,
with no pin but ``TORCH``, and only says what it would install. The lock adds the SHA-256 of each
file, and which extras need it. Run it through ``make constraints``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from environment import EXTRAS, ROOT, SetupError, known_extras, lock_header, run

TORCH = ("torch==2.14.1", "torchvision==0.29.1")
"""The pair that the shipped weights were trained and measured with."""

HEADER = """\
# The versions that `make setup` installs, for {machine}; on another system
# the lines that it does not need stay unused. Written by `make constraints`: do not edit.
"""
LOCAL = ("twostage", "detectron2")
"""Built here, so not pinned."""


@dataclass
class Package:
    """A file that pip would install."""

    version: str  # without a local label (2.14.1+cu130), which names one builder's file
    sha256: str  # of the file
    extras: list[str] = field(default_factory=list)  # those that need it


def packages(report: dict[str, Any]) -> dict[str, Package]:
    """Return what pip's installation report names, by normalised name, sorted."""
    found = {}
    for item in report["install"]:
        name = re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()
        if name not in LOCAL:
            sha256 = item["download_info"]["archive_info"]["hashes"]["sha256"]
            found[name] = Package(item["metadata"]["version"].split("+")[0], sha256)
    return dict(sorted(found.items()))


def constraints_text(found: dict[str, Package]) -> str:
    """Return the lines ``name==version``."""
    return "".join(f"{name}=={package.version}\n" for name, package in found.items())


def lock_text(found: dict[str, Package]) -> str:
    """Return the lines ``name==version --hash=sha256:…  # extra extra``."""
    lines = []
    for name, package in found.items():
        needed_by = f"  # {' '.join(package.extras)}" if package.extras else ""
        lines.append(f"{name}=={package.version} --hash=sha256:{package.sha256}{needed_by}\n")
    return "".join(lines)


class Resolver:
    """pip in an empty environment, asked what it would install."""

    def __init__(self, root: Path, scratch: Path) -> None:
        """Make the environment and the Detectron2 wheel in the folder ``scratch``."""
        self.root, self.scratch = root, scratch
        self.python = scratch / "venv" / "bin" / "python"
        run([sys.executable, "-m", "venv", scratch / "venv"], "python -m venv failed")
        builder: list[str | Path] = [
            self.python,
            root / "setup/detectron2_wheel.py",
            "--out",
            scratch,
        ]
        self.wheel = run(builder, "no Detectron2 wheel").strip()

    def resolve(self, extras: Iterable[str], pins: str = "") -> dict[str, Package]:
        """Return what the project needs with some of its extras, under lines of constraints.

        A ``SetupError`` says that pip cannot resolve the requirements.
        """
        report, pinned = self.scratch / "report.json", self.scratch / "pins.txt"
        pinned.write_text(pins)
        command: list[str | Path] = [self.python, "-m", "pip", "install", "--dry-run", "-q"]
        command += ["--ignore-installed", "--report", report, "-c", pinned]
        command += [f"{self.root}[{','.join(extras)}]", self.wheel, *TORCH, "setuptools", "wheel"]
        run(command, "pip cannot resolve the requirements (see above)")
        return packages(json.loads(report.read_text()))


def lock(root: Path, pins: str = "") -> dict[str, Package]:
    """Resolve everything, under lines of constraints, then find which extras need what."""
    with tempfile.TemporaryDirectory() as scratch:
        resolver = Resolver(root, Path(scratch))
        found = resolver.resolve(known_extras(root), pins)
        versions = constraints_text(found)
        everywhere = resolver.resolve(EXTRAS, versions)
        for extra in known_extras(root):
            if extra not in EXTRAS:
                for name in resolver.resolve([*EXTRAS, extra], versions):
                    if name not in everywhere:
                        found[name].extras.append(extra)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, resolve, and write the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT, help="the clone to write to")
    parser.add_argument("--keep", action="store_true", help="keep today's pins, add what is new")
    options = parser.parse_args(arguments)
    pins = (options.out / "constraints.txt").read_text() if options.keep else ""
    try:
        found = lock(ROOT, pins)
    except SetupError as error:
        print(f"constraints: {error}", file=sys.stderr)
        return 1
    header = HEADER.format(machine=lock_header())
    (options.out / "constraints.txt").write_text(header + constraints_text(found))
    (options.out / "setup" / "lock.txt").write_text(f"# {lock_header()}\n" + lock_text(found))
    print(f"{options.out}: {len(found)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
