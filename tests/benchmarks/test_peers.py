import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers import classifiers, install
from benchmarks.peers.classifiers import folder_of
from benchmarks.peers.detectors import detections
from faces.command import UserError
from faces.emotions import EMOTIONS


def test_python_packages_go_without_requirements_and_only_once(tmp_path, monkeypatch):
    calls = []

    def run(command):
        calls.append(command)
        Path(command[command.index("--target") + 1]).mkdir(parents=True)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(install.subprocess, "run", run)
    install.install_python(tmp_path / "python")
    install.install_python(tmp_path / "python")
    (command,) = calls
    assert command[:4] == [sys.executable, "-m", "pip", "install"]
    assert "--no-deps" in command
    assert [folder.name for folder in tmp_path.iterdir()] == ["python"]


def test_a_failed_installation_leaves_the_old_one(tmp_path, monkeypatch):
    target = tmp_path / "python"
    target.mkdir()
    (target / "old").touch()
    monkeypatch.setattr(
        install.subprocess, "run", lambda command: subprocess.CompletedProcess(command, 1)
    )
    with pytest.raises(UserError, match="failed, see above"):
        install.install_python(target)
    assert (target / "old").exists()
    assert [folder.name for folder in tmp_path.iterdir()] == ["python"]


def test_without_npm_the_rest_is_installed_and_the_way_out_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(install, "PEERS", tmp_path)
    monkeypatch.setattr(install, "install_python", lambda target: target.mkdir())
    monkeypatch.setattr(install.shutil, "which", lambda name: None)
    assert install.main() == 2
    assert (tmp_path / "python").is_dir()
    assert "apt install nodejs npm" in capsys.readouterr().err


def test_every_listed_package_is_pinned():
    lines = (install.HERE / "python.txt").read_text().splitlines()
    assert all("==" in line for line in lines if line and not line.startswith("#"))
    lock = (install.HERE / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    assert '"integrity": "sha512-' in lock


def test_missing_package_names_the_way_out():
    with pytest.raises(ImportError, match="run make peers"):
        folder_of("no_such_package_anywhere")


def test_facex_sees_grey_of_200_pixels_and_its_emotions_are_put_in_order(monkeypatch):
    named = ["anger", "disgust", "fear", "happy", "neutral", "sadness", "surprised"]
    seen = []

    def answer(face):
        seen.append(face)
        return np.eye(7, dtype=np.float32)[len(seen) - 1]

    monkeypatch.setattr(classifiers, "folder_of", lambda package: Path(package))
    monkeypatch.setattr(classifiers, "tflite", lambda file, threads: answer)
    crops = [np.full((48, 48, 3), 51, np.uint8)] * 7
    found = [EMOTIONS[index] for index in classifiers.FaceX(1).probabilities(crops).argmax(1)]
    short = {"anger": "angry", "sadness": "sad", "surprised": "surprise"}
    assert found == [short.get(name, name) for name in named]
    assert seen[0].shape == (200, 200, 3)
    np.testing.assert_allclose(seen[0], 0.2, atol=1e-6)


def test_detections_are_clipped_sorted_and_cleaned():
    rows = [
        (-5.0, 2.0, 8.0, 30.0, 0.4),
        (1.0, 1.0, 4.0, 4.0, 1.2),
        (30.0, 1.0, 40.0, 5.0, 0.9),
        (1.0, 1.0, 1.0, 4.0, 0.9),
        (1.0, 1.0, 4.0, 4.0, 0.1),
    ]
    found = detections(rows, np.zeros((20, 10, 3), np.uint8), 0.2)
    assert [one.score for one in found] == [1.0, 0.4]
    assert found[1].box.as_tuple() == (0.0, 2.0, 8.0, 20.0)
