"""Put the packages to compare with into ``.peers/``: ``python -m benchmarks.peers.install``."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from faces.command import UserError, run

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent.parent / ".peers"
"""Where the packages lie, in the clone."""

NODE_MISSING = (
    "npm is missing, so human and face-api are left out; the Python packages are there. Install "
    "Node.js 18 or newer (on Debian: apt install nodejs npm) and repeat make peers"
)
STAMP = "installed-from"


def install_python(target: Path) -> None:
    """Install the packages of ``python.txt`` into a folder, without their requirements."""
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--disable-pip-version-check"]
    listed = HERE / "python.txt"
    _install(target, [listed], [*command, "--target", str(_fresh(target)), "-r", str(listed)])


def install_node(target: Path) -> None:
    """Install the packages of ``package-lock.json`` into a folder; none of their scripts is run."""
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(NODE_MISSING)
    inputs = [HERE / "package.json", HERE / "package-lock.json"]
    fresh = _fresh(target)
    if not _is_installed(target, inputs):
        fresh.mkdir(parents=True)
        for file in inputs:
            shutil.copy(file, fresh)
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(fresh)]
    _install(target, inputs, [npm, "ci", *options])


def _install(target: Path, inputs: Sequence[Path], command: Sequence[str]) -> None:
    """Run a command that fills the folder beside ``target``, then put that in its place."""
    if _is_installed(target, inputs):
        print(f"{target.name}: is there already", flush=True)
        return
    print(f"{target.name}: installing ({inputs[0].name} of {HERE.name}/)", flush=True)
    if subprocess.run(command).returncode:
        shutil.rmtree(_fresh(target), ignore_errors=True)
        raise UserError(f"{command[0]} failed, see above; is the network there? Repeat make peers")
    (_fresh(target) / STAMP).write_text(_fingerprint(inputs), encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    _fresh(target).rename(target)


def _fresh(target: Path) -> Path:
    return target.with_name(f"{target.name}.new")


def _fingerprint(inputs: Sequence[Path]) -> str:
    digest = hashlib.sha256(sys.version.encode())
    for file in inputs:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _is_installed(target: Path, inputs: Sequence[Path]) -> bool:
    stamp = target / STAMP
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == _fingerprint(inputs)


def install_all() -> int:
    """Install all that can be installed; UserError if some could not, with the rest there."""
    failures = []
    PEERS.mkdir(exist_ok=True)
    for name, install in (("python", install_python), ("node", install_node)):
        shutil.rmtree(_fresh(PEERS / name), ignore_errors=True)
        try:
            install(PEERS / name)
        except UserError as error:
            failures.append(str(error))
    if failures:
        raise UserError("; ".join(failures))
    return 0


def main() -> int:
    """Run the command line; returns the exit status."""
    return run("make peers", install_all)


if __name__ == "__main__":
    sys.exit(main())
