#!/usr/bin/env python3
"""Build a pure-Python wheel of Detectron2 0.6 from the source archive on the Python package index.

Detectron2 itself is not on the index. The package ``pb1-detectron2`` carries the Python files of
the official tag v0.6 and the model-zoo configurations, but not the C++ sources, so that installing
it fails while compiling. Nothing in this project needs the compiled part (ROIAlign and NMS are
torchvision's). This script, which uses nothing but the standard library and pip,

1. lets pip fetch the archive, so that the user's index, proxy and certificates hold, and checks its
   SHA-256;
2. takes out the Python package and its configurations, without running any of the archive's code;
3. adapts the few lines that today's Pillow, NumPy, PyTorch and setuptools refuse (``PATCHES``);
4. puts a stub in the place of the compiled module ``detectron2._C``: importing it works, using it
   says what is missing;
5. writes the wheel ``detectron2-0.6+purepython-py3-none-any.whl``.

To have the compiled operators instead (deformable convolution, rotated boxes, the fast COCO
evaluation), build the official sources into an environment and run ``make VENV=<its folder>``.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from environment import SetupError

SDIST_NAME = "pb1-detectron2"
SDIST_VERSION = "0.6"
SDIST_SHA256 = "5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29"

WHEEL_VERSION = "0.6+purepython"
WHEEL_NAME = f"detectron2-{WHEEL_VERSION}-py3-none-any.whl"

REQUIREMENTS = (
    "Pillow>=7.1",
    "cloudpickle",
    "fvcore<0.1.6,>=0.1.5",
    "hydra-core>=1.1",
    "iopath<0.1.11,>=0.1.7",
    "matplotlib",
    "numpy",
    "omegaconf<2.4,>=2.1",
    "pycocotools>=2.0.2",
    "tabulate",
    "tensorboard",
    "termcolor>=1.1",
    "torch>=1.8",
    "torchvision",
    "tqdm>4.29.0",
    "yacs>=0.1.8",
)
"""What the package imports; upstream's list without its formatter and the Caffe2 export's needs."""

STUB = '''"""Stands in for Detectron2's compiled operators, which this build leaves out."""


def get_compiler_version():
    return "none (pure-Python build)"


def get_cuda_version():
    return "none (pure-Python build)"


def has_cuda():
    return False


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    raise NotImplementedError(
        f"detectron2._C.{name} is a compiled operator, and this is the pure-Python build of "
        "Detectron2 (deformable convolution, rotated boxes and the fast COCO evaluation need the "
        "official build; COCOEvaluator(..., use_fast_impl=False) needs none)"
    )
'''

NOTICE = "# Changed from Detectron2 v0.6 by twostage's setup/detectron2_wheel.py: {reason}.\n"
"""The mark that the Apache licence asks of changed files."""

METADATA = """\
Metadata-Version: 2.1
Name: detectron2
Version: {version}
Summary: Detectron2 0.6 without its compiled operators
Home-page: https://github.com/facebookresearch/detectron2
Author: FAIR
License: Apache-2.0
License-File: LICENSE
Requires-Python: >=3.9
{requirements}
"""

BACKEND = '''"""Answers pip's question for the metadata without running the archive's setup.py."""

import pathlib


class _Backend:
    def get_requires_for_build_wheel(self, config_settings=None):
        return []

    def prepare_metadata_for_build_wheel(self, metadata_directory, config_settings=None):
        folder = pathlib.Path(metadata_directory, "{folder}")
        folder.mkdir()
        folder.joinpath("METADATA").write_text(
            "Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n"
        )
        return folder.name


__legacy__ = _Backend()
get_requires_for_build_wheel = __legacy__.get_requires_for_build_wheel
prepare_metadata_for_build_wheel = __legacy__.prepare_metadata_for_build_wheel
'''


@dataclass(frozen=True)
class Patch:
    """A replacement in the sources."""

    path: str  # inside the archive's root folder, or "" for every Python file
    pattern: str  # regular expression
    replacement: str  # what every match becomes
    count: int  # how often it must match, so that another archive does not pass unnoticed
    reason: str  # what made it necessary


PATCHES = (
    Patch(
        "detectron2/model_zoo/model_zoo.py",
        r"import pkg_resources\n",
        "",
        1,
        "setuptools 81 dropped pkg_resources",
    ),
    Patch(
        "detectron2/model_zoo/model_zoo.py",
        r"pkg_resources\.resource_filename\(\s*"
        r'"detectron2\.model_zoo", os\.path\.join\("configs", config_path\)\s*\)',
        'os.path.join(os.path.dirname(os.path.abspath(__file__)), "configs", config_path)',
        1,
        "setuptools 81 dropped pkg_resources",
    ),
    Patch(
        "detectron2/data/transforms/transform.py",
        r"\bImage\.LINEAR\b",
        "Image.BILINEAR",
        1,
        "Pillow 10 dropped Image.LINEAR",
    ),
    Patch(
        "detectron2/modeling/anchor_generator.py",
        r"torch\.meshgrid\(shifts_y, shifts_x\)",
        'torch.meshgrid(shifts_y, shifts_x, indexing="ij")',
        1,
        "PyTorch wants the indexing named",
    ),
    Patch(
        "",
        r"\bnp\.(bool|float|int|str)\b",
        r"\1",
        19,
        "NumPy 1.24 dropped the aliases of Python's types",
    ),
)


def fetch_sdist(folder: Path, python: str = sys.executable) -> Path:
    """Let pip download the source archive into an existing folder and return its path.

    pip asks an archive's build system for its metadata even where it only downloads. Ours stands in
    for it, so that ``setup.py`` (which imports PyTorch) never runs. A ``SetupError`` says that the
    pip of ``python`` could not get the archive, or got one with another hash.
    """
    with tempfile.TemporaryDirectory() as scratch:
        backend = Path(scratch, "backend", "setuptools")
        backend.mkdir(parents=True)
        backend.joinpath("__init__.py").touch()
        backend.joinpath("build_meta.py").write_text(
            BACKEND.format(
                folder=f"{SDIST_NAME.replace('-', '_')}-{SDIST_VERSION}.dist-info",
                name=SDIST_NAME,
                version=SDIST_VERSION,
            )
        )
        requirements = Path(scratch, "requirements.txt")
        requirements.write_text(f"{SDIST_NAME}=={SDIST_VERSION} --hash=sha256:{SDIST_SHA256}\n")
        command = [python, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        command += ["--no-build-isolation", "--use-pep517", "--no-binary", SDIST_NAME]
        command += ["--dest", str(folder), "--requirement", str(requirements)]
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": str(backend.parent)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    found = sorted(folder.glob("*.tar.gz"))
    if done.returncode or not found:
        raise SetupError(
            f"pip could not download {SDIST_NAME}=={SDIST_VERSION}:\n{done.stderr.strip()}\n"
            "Check that pip reaches a package index (pip config list), or fetch the archive "
            "elsewhere and pass it with --sdist FILE."
        )
    return found[0]


def read_sources(sdist: Path) -> dict[str, bytes]:
    """Return the files to keep, by their path relative to the archive's root folder.

    A ``SetupError`` says that the archive is not the pinned one.
    """
    try:
        digest = hashlib.sha256(sdist.read_bytes()).hexdigest()
    except OSError as error:
        raise SetupError(f"cannot read the archive {sdist}: {error.strerror}") from error
    if digest != SDIST_SHA256:
        raise SetupError(
            f"{sdist} is not the expected archive of {SDIST_NAME} {SDIST_VERSION}: "
            f"SHA-256 {digest}, expected {SDIST_SHA256}"
        )
    files: dict[str, bytes] = {}
    with tarfile.open(sdist) as archive:
        for member in archive:
            path = PurePosixPath(*PurePosixPath(member.name).parts[1:])
            if not member.isfile() or not (
                path.parts[:1] == ("detectron2",) or str(path) == "LICENSE"
            ):
                continue
            content = archive.extractfile(member)
            assert content is not None
            files[str(path)] = content.read()
    return files


def patch_sources(
    files: Mapping[str, bytes], patches: tuple[Patch, ...] = PATCHES
) -> dict[str, bytes]:
    """Return ``files`` with every patch applied and every changed file marked as changed.

    A patch that matches another number of times than it should is a ``SetupError``.
    """
    texts = {name: data.decode() for name, data in files.items() if name.endswith(".py")}
    reasons: dict[str, list[str]] = {}
    for patch in patches:
        matches = 0
        for name in [patch.path] if patch.path else list(texts):
            texts[name], changes = re.subn(patch.pattern, patch.replacement, texts.get(name, ""))
            matches += changes
            if changes and patch.reason not in reasons.setdefault(name, []):
                reasons[name].append(patch.reason)
        if matches != patch.count:
            raise SetupError(
                f"the sources are not those of Detectron2 v0.6: {patch.pattern!r} matches "
                f"{matches} times in {patch.path or 'the package'}, expected {patch.count}"
            )
    for name, why in reasons.items():
        texts[name] = NOTICE.format(reason="; ".join(why)) + texts[name]
    return {**files, **{name: text.encode() for name, text in texts.items()}}


def write_wheel(files: Mapping[str, bytes], folder: Path) -> Path:
    """Write the wheel into ``folder`` (made if missing) and return its path.

    The same files give the same bytes, whenever and wherever they are packed.
    """
    info = f"detectron2-{WHEEL_VERSION}.dist-info"
    content = {name: data for name, data in files.items() if name != "LICENSE"}
    content["detectron2/_C.py"] = STUB.encode()
    content[f"{info}/LICENSE"] = files["LICENSE"]
    content[f"{info}/METADATA"] = METADATA.format(
        version=WHEEL_VERSION,
        requirements="\n".join(f"Requires-Dist: {name}" for name in REQUIREMENTS),
    ).encode()
    content[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: twostage\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    content[f"{info}/RECORD"] = _record(content, f"{info}/RECORD").encode()

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as wheel:
        for path, data in content.items():
            entry = zipfile.ZipInfo(path, date_time=(2021, 11, 15, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            wheel.writestr(entry, data)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / WHEEL_NAME
    target.write_bytes(packed.getvalue())
    return target


def _record(content: Mapping[str, bytes], record: str) -> str:
    """Return the wheel's table of contents: path, hash and size of every file."""
    rows = []
    for path, data in content.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(data)}")
    return "\n".join([*rows, f"{record},,", ""])


def build(folder: Path, sdist: Path | None = None) -> Path:
    """Build the wheel into ``folder``, from ``sdist`` or else from the archive that pip finds."""
    if sdist is not None:
        return write_wheel(patch_sources(read_sources(sdist)), folder)
    with tempfile.TemporaryDirectory() as scratch:
        return write_wheel(patch_sources(read_sources(fetch_sdist(Path(scratch)))), folder)


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, build, and print the wheel's path."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=f"The archive's SHA-256: {SDIST_SHA256}"
    )
    parser.add_argument(
        "--out", type=Path, default=Path(".cache/wheels"), help="folder for the wheel"
    )
    parser.add_argument("--sdist", type=Path, help="an archive already downloaded")
    options = parser.parse_args(arguments)
    try:
        print(build(options.out, options.sdist))
    except SetupError as error:
        print(f"detectron2_wheel: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
