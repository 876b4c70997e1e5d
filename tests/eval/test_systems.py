"""Systems are trained and measured once, and repeated for comparison."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from baselines import train
from classification.training.recipe import load_recipe
from eval import systems
from eval.records.comparison import System, read_systems
from faces.command import UserError


def test_every_system_can_be_trained_or_is_shipped() -> None:
    found = read_systems()
    keys = [(system.classifier, system.split, system.views) for system in found]
    assert len(set(keys)) == len(keys)
    for system in found:
        if system.train is None:
            continue
        words = systems.training_words(system, Path("d.zip"), Path("r"))
        assert words[1] in ("baselines.train", "classification.train")
        assert ("--resume" in words) == (words[1] == "classification.train")
        if "--recipe" in words:
            assert Path(words[words.index("--recipe") + 1]).is_file()
        else:
            name = f"{words[words.index('--model') + 1]}_{words[words.index('--features') + 1]}"
            assert name == system.classifier


def test_training_words_end_with_the_overrides() -> None:
    (scratch,) = (s for s in read_systems() if s.classifier == "resnet18_scratch")
    words = systems.training_words(scratch, Path("d"), Path("r"))
    assert words[-2:] == ["published_start", "false"]


def test_unknown_systems_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert systems.main(["nothing", "--data", str(tmp_path)]) == 2
    assert "nothing: no system that is trained; known: knn_pixels" in capsys.readouterr().err


def test_finished_trainings_and_current_records_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    recipe = tmp_path / "r.toml"
    recipe.write_text("epochs = 2\n")
    train = f"classification.train --recipe {recipe} batch_size 8"
    system = System("t", "simple_cnn", train=train, resplit=True)
    folder = tmp_path / "runs" / "simple_cnn"

    def fake_python(*words: str) -> None:
        calls.append(words[1])
        if words[1] == "classification.resplit":
            Path(words[-1]).parent.mkdir(parents=True)
            Path(words[-1]).write_text("zip")
        else:
            folder.mkdir(parents=True, exist_ok=True)
            made = load_recipe(recipe, ["batch_size", "8"]).to_dict()
            (folder / "card.json").write_text(json.dumps({"training": {"recipe": made}}))
            (folder / "model.safetensors").write_text("weights")

    def fake_measure(argv: list[str]) -> int:
        calls.append("measure")
        out = Path(argv[argv.index("--out") + 1])
        out.parent.mkdir(exist_ok=True)
        facts = systems.model_zoo.classifier_facts(str(folder))
        out.write_text(json.dumps({"weights_sha256": facts["weights_sha256"]}))
        return 0

    monkeypatch.setattr(systems, "python", fake_python)
    monkeypatch.setattr(systems.classification, "main", fake_measure)
    for _ in range(2):
        systems.train_and_measure(system, tmp_path / "d", tmp_path / "runs", tmp_path / "out")
    assert calls == ["classification.resplit", "classification.train", "measure"]
    (folder / "model.safetensors").write_text("other weights")
    systems.train_and_measure(system, tmp_path / "d", tmp_path / "runs", tmp_path / "out")
    assert calls[3:] == ["measure"]
    recipe.write_text("epochs = 3\n")
    systems.train_and_measure(system, tmp_path / "d", tmp_path / "runs", tmp_path / "out")
    assert calls[4:] == ["classification.train", "measure"]


def test_a_system_on_another_embedding_is_trained_again(tmp_path: Path) -> None:
    network = tmp_path / "n.safetensors"
    network.write_text("one")
    system = System("t", "knn_embedding", train=f"baselines.train --network {network}")
    assert not systems.is_trained(system, tmp_path)
    sha = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    (tmp_path / "card.json").write_text(json.dumps({"training": {"network_sha256": sha}}))
    assert systems.is_trained(system, tmp_path)
    network.write_text("two")
    assert not systems.is_trained(system, tmp_path)
    (tmp_path / "card.json").write_text("{")
    with pytest.raises(UserError, match=r"card.json: not valid JSON"):
        systems.is_trained(system, tmp_path)


def test_a_failed_training_names_its_command() -> None:
    with pytest.raises(UserError, match="status 3: python -c 'raise SystemExit"):
        systems.python("-c", "raise SystemExit(3)")


@pytest.fixture
def fer2013(tmp_path: Path) -> Path:
    rng = np.random.default_rng(5)
    patterns = rng.integers(0, 200, (7, 48, 48))
    lines = ["emotion,Usage,pixels"]
    for part, count in (("Training", 140), ("PublicTest", 28), ("PrivateTest", 40)):
        for number in range(count):
            pixels = (patterns[number % 7] + rng.integers(0, 56, (48, 48))).ravel()
            lines.append(f"{number % 7},{part},{' '.join(map(str, pixels))}")
    path = tmp_path / "fer2013.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_repetition_gives_the_recorded_figure(
    fer2013: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(systems, "python", lambda *words: train.main(words[2:]))
    places = ["--data", str(fer2013), "--out", str(tmp_path / "records")]
    places += ["--runs", str(tmp_path / "runs")]
    check = ["svm_hog", "--check", *places]
    assert systems.main(check) == 2
    assert "no record to compare with" in capsys.readouterr().err
    assert systems.main(["svm_hog", *places]) == 0
    assert systems.main(check) == 0
    out = capsys.readouterr().out
    file = tmp_path / "records" / "svm_hog.json"
    one = json.loads(file.read_text())
    shown = f"{100 * one['accuracy']:.2f} %"
    assert f"recorded {shown}, repeated {shown}: within 0.2 points" in out
    file.write_text(json.dumps(one | {"accuracy": one["accuracy"] - 0.003}))
    assert systems.main(check) == 1
    assert "NOT within 0.2 points" in capsys.readouterr().out
    assert not list((tmp_path / "runs" / "repeated").iterdir())


def test_a_command_that_fails_is_named_and_one_that_is_stopped_stops() -> None:
    systems.python("-c", "")
    with pytest.raises(UserError, match="failed with status 3: python -c 'raise Sys"):
        systems.python("-c", "raise SystemExit(3)")
    with pytest.raises(KeyboardInterrupt):
        systems.python("-c", "raise SystemExit(130)")


def test_ctrl_c_leaves_a_training_the_time_to_save(tmp_path: Path) -> None:
    started, saved = tmp_path / "started", tmp_path / "saved"
    child = f"""
import pathlib, time
try:
    pathlib.Path({str(started)!r}).touch()
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(1)
    pathlib.Path({str(saved)!r}).touch()
    raise SystemExit(130)
"""
    parent = f"""
from eval import systems
from faces import command
raise SystemExit(command.run("eval.x", lambda: systems.python("-c", {child!r})))
"""
    options: dict[str, Any] = {"start_new_session": True, "stderr": subprocess.PIPE, "text": True}
    # a shell's background jobs, these tests perhaps, are started with Ctrl-C ignored
    options["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen([sys.executable, "-c", parent], **options) as process:
        while not started.exists() and process.poll() is None:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and saved.exists()
    assert errors == "\neval.x: stopped; what was finished is kept\n"
