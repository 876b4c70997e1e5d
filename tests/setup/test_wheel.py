"""The wheels of `make wheel`, installed into an environment elsewhere."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import detectron2_wheel
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "samples" / "group.jpg"
NOT_PACKAGED = {"tests", "benchmarks", "setup", "results", "docs"}

API = """
import json, sys
import twostage
from faces import emotions
from twostage import model_zoo

pipeline = twostage.load_pipeline()
faces = pipeline.analyze(sys.argv[1]).faces
print(json.dumps({
    "files": [twostage.__file__, emotions.__file__, str(model_zoo.WEIGHTS)],
    "boxes": [[face.box.x1, face.box.y1, face.box.x2, face.box.y2] for face in faces],
    "happy": [float(face.emotions["happy"]) for face in faces],
}))
"""


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both wheels, built from copies."""
    folder = tmp_path_factory.mktemp("wheels")
    clone = folder / "clone"
    ignore = shutil.ignore_patterns(
        "__pycache__", ".*", "data", "runs", "build", "dist", "output", "site"
    )
    shutil.copytree(ROOT, clone, ignore=lambda at, names: ignore(at, names) if at == ROOT else [])
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    command += ["--no-index", "--wheel-dir", str(folder / "dist"), str(clone)]
    subprocess.run(command, check=True)
    package = importlib.metadata.distribution("detectron2")
    if not package.version.endswith("+purepython"):
        pytest.skip("an official build of Detectron2 is installed")
    # What the set-up built, packed again: the archive itself is on the network.
    files = {
        "LICENSE" if path.name == "LICENSE" else str(path): path.read_binary()
        for path in package.files or []
        if path.suffix != ".pyc" and (path.parts[0] == "detectron2" or path.name == "LICENSE")
    }
    detectron2_wheel.write_wheel(files, folder / "dist")
    return folder / "dist"


@pytest.fixture(scope="module")
def installed(dist: Path) -> Path:
    """An environment with the wheels; their dependencies are those of the tests' environment."""
    venv = dist.parent / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    command = [sys.executable, "-m", "pip", "--python", str(venv / "bin" / "python"), "install"]
    command += [
        "-q",
        "--no-deps",
        "--no-index",
        "--find-links",
        str(dist),
        "twostage",
        "detectron2",
    ]
    subprocess.run(command, check=True)
    version = "{}.{}".format(*sys.version_info)
    shared = venv / "lib" / f"python{version}" / "site-packages" / "shared.pth"
    shared.write_text(sysconfig.get_paths()["purelib"] + "\n")
    return venv


def run(venv: Path, *command: str | Path) -> str:
    """Run a program of the environment away from the clone, and return what it prints."""
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    program, *arguments = command
    done = subprocess.run(
        [venv / "bin" / program, *arguments],
        cwd=venv.parent,
        env={**variables, "NO_ALBUMENTATIONS_UPDATE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_what_runs_and_trains(dist: Path) -> None:
    (path,) = dist.glob("twostage-*.whl")
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
    assert {name.split("/")[0] for name in names}.isdisjoint(NOT_PACKAGED)
    for pattern in ("weights/*.*", "detection/configs/*.yaml", "classification/recipes/*.toml"):
        expected = {file.relative_to(ROOT).as_posix() for file in ROOT.glob(pattern)}
        assert expected and expected <= names
    modules = {
        file.relative_to(ROOT).as_posix()
        for room in (
            "faces",
            "networks",
            "detection",
            "classification",
            "baselines",
            "eval",
            "demo",
        )
        for file in (ROOT / room).rglob("*")
        if file.suffix in (".py", ".css", ".js", ".toml")
    }
    assert modules and modules <= names


def test_its_requirements_are_met_by_the_environment_of_the_tests(installed: Path) -> None:
    command = [sys.executable, "-m", "pip", "--python", str(installed / "bin" / "python"), "check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not [line for line in done.stdout.splitlines() if line.startswith("twostage ")]


def test_the_command_analyzes_a_photo_elsewhere(installed: Path) -> None:
    run(installed, "twostage", "analyze", SAMPLE, "--out", "faces.json")
    (image,) = json.loads((installed.parent / "faces.json").read_text())
    assert len(image["faces"]) == 3


def test_the_python_api_works_elsewhere_with_the_wheels_weights(installed: Path) -> None:
    found = json.loads(run(installed, "python", "-c", API, SAMPLE))
    assert all(Path(file).is_relative_to(installed) for file in found["files"])
    assert len(found["boxes"]) == 3
    assert all(0 <= share <= 1 for share in found["happy"])
