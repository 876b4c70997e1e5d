"""Resuming: what may differ and what may not; damaged checkpoints; disks that refuse to write."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from classification import train as training
from classification.data.fer2013 import Fer2013
from classification.training.recipe import Recipe, recipe_from_dict
from classification.training.state import CHECKPOINT, TrainingState
from faces import files
from faces.command import UserError
from tests.stand_ins import write_fer2013

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny_recipe(**changes: Any) -> Recipe:
    values = {
        "model": {"widths": [4], "depths": [1]},
        "epochs": 1,
        "batch_size": 7,
        "warmup": 0.0,
        "learning_rate": 0.05,
        "augment": False,
    }
    return recipe_from_dict({**values, **changes}, "tiny")


def tiny_data(seed: int = 0) -> Fer2013:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (28, 48, 48), dtype=np.uint8)
    splits = np.repeat(["Training", "PublicTest"], 14)
    return Fer2013(images, np.arange(28) % 7, splits, tuple(map(str, range(28))))


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"epochs": 2}, "epochs was 1 and is 2: its schedule is made for that number"),
        ({"learning_rate": 0.01}, "learning_rate was 0.05 and is 0.01: give the same"),
        ({"model": {"widths": [8], "depths": [1]}}, r"model.widths was \[4\] and is \[8\]"),
        ({"augment": {"flip": 0.5}}, "augment.brightness was 0.0 and is 0.2; .*augment.contrast"),
        ({"seed": 1, "epochs": 3}, "epochs was 1 and is 3; seed was 0 and is 1: give the same"),
    ],
)
def test_a_resumed_run_names_the_keys_that_differ(
    tmp_path: Path, changes: dict[str, Any], cause: str
) -> None:
    training.train(tiny_recipe(), tiny_data(), tmp_path, CPU)
    with pytest.raises(UserError, match=cause):
        training.train(tiny_recipe(**changes), tiny_data(), tmp_path, CPU)


def test_a_resumed_run_says_that_the_data_or_the_start_differ(tmp_path: Path) -> None:
    training.train(tiny_recipe(), tiny_data(), tmp_path, CPU)
    with pytest.raises(UserError, match="the data have other images, labels or splits: give"):
        training.train(tiny_recipe(), tiny_data(1), tmp_path, CPU)
    start = tmp_path / "model.safetensors"
    with pytest.raises(UserError, match="resumed: --start is another run: give the same"):
        training.train(tiny_recipe(), tiny_data(), tmp_path, CPU, start=start)


def test_more_epochs_prolong_a_run_with_a_constant_rate(tmp_path: Path) -> None:
    short, long = (tiny_recipe(schedule="constant", epochs=epochs) for epochs in (1, 3))
    whole = training.train(long, tiny_data(), tmp_path / "whole", CPU)
    training.train(short, tiny_data(), tmp_path / "prolonged", CPU)
    prolonged = training.train(long, tiny_data(), tmp_path / "prolonged", CPU)
    assert prolonged["history"] == whole["history"] and prolonged["recipe"]["epochs"] == 3
    runs = (tmp_path / "whole", tmp_path / "prolonged")
    one, other = (load_file(run / "model.safetensors") for run in runs)
    assert all(torch.equal(one[key], other[key]) for key in one)
    with pytest.raises(UserError, match="epochs was 3 and is 1: give the same"):
        training.train(short, tiny_data(), tmp_path / "whole", CPU)


def of_key(key: str, change: Callable[[Any], Any]) -> Callable[[dict[str, Any]], Any]:
    return lambda saved: {**saved, key: change(saved[key])}


def of_progress(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return of_key("progress", lambda text: json.dumps({**json.loads(text), **changes}))


CHECKPOINTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a list": lambda saved: [saved],
    "nothing": lambda saved: {},
    "no identity": of_key("identity", lambda text: "{"),
    "nested identity": of_key("identity", lambda text: "[" * 100_000),
    "an identity without a recipe": of_key("identity", lambda text: '{"recipe": 1}'),
    "not finite": of_key("model", lambda state: {k: v * float("nan") for k, v in state.items()}),
    "an average of another": of_key("average", lambda state: {"a": torch.zeros(1)}),
    "an average of integers": of_key("average", lambda s: {k: v.int() for k, v in s.items()}),
    "no optimizer": of_key("optimizer", lambda state: {}),
    "steps below zero": of_progress(step=-3),
    "steps of text": of_progress(step="x"),
    "seconds not finite": of_progress(seconds=float("nan")),
    "a history of numbers": of_progress(history=[1]),
    "a history of nothing": of_progress(history=[{}]),
    "unknown progress": of_progress(more=1),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_an_impossible_checkpoint_is_refused(tmp_path: Path, name: str) -> None:
    training.train(tiny_recipe(), tiny_data(), tmp_path, CPU)
    saved = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    torch.save(CHECKPOINTS[name](saved), tmp_path / CHECKPOINT)
    with pytest.raises(UserError, match=r"checkpoint\.pt: damaged or no checkpoint .*remove it"):
        training.train(tiny_recipe(), tiny_data(), tmp_path, CPU)


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("evil",)


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\3\4garbage", b"\x80\x04."])
def test_garbage_is_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CHECKPOINT).write_bytes(content)
    with pytest.raises(UserError, match=r"checkpoint\.pt: damaged or no checkpoint"):
        training.train(tiny_recipe(), tiny_data(), tmp_path, CPU)


def test_a_checkpoint_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Evil()}, tmp_path / CHECKPOINT)
    with pytest.raises(UserError, match="damaged or no checkpoint") as caught:
        training.train(tiny_recipe(), tiny_data(), tmp_path, CPU)
    assert not (tmp_path / "evil").exists() and "\n" not in str(caught.value)


@pytest.mark.parametrize("fails_at", range(1, 7))
def test_a_full_disk_ends_in_one_line_and_leaves_whole_files(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fails_at: int,
) -> None:
    data, run = write_fer2013(tmp_path / "fer2013.csv"), tmp_path / "run"
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        "epochs = 1\nbatch_size = 7\n[model]\nwidths = [4]\ndepths = [1]\n", encoding="utf-8"
    )
    calls = 0

    def no_space(_: int) -> None:
        nonlocal calls
        calls += 1
        if calls == fails_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", no_space)
    command = ["--recipe", str(recipe), "--data", str(data), "--out", str(run), "--device", "cpu"]
    assert training.main(command) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "official" not in line]
    errors = [line for line in errors if not line.startswith("epoch ")]
    assert len(errors) == 1 and str(run) in errors[0] and "No space left" in errors[0]
    kept = {file.name for file in run.iterdir()} - {"tensorboard"}
    order = ["model.safetensors", CHECKPOINT, CHECKPOINT, "record.json", "curves.png", "card.json"]
    assert kept == set(order[: fails_at - 1])
    monkeypatch.undo()
    assert training.main([*command, "--resume"]) == 0
    assert (run / "card.json").exists()


@pytest.mark.parametrize(("limit", "epochs"), [("BURST", 1), ("BURST_AT_END", 2)])
def test_a_training_that_diverged_exits_2_without_a_card(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    limit: str,
    epochs: int,
) -> None:
    data, run = write_fer2013(tmp_path / "fer2013.csv"), tmp_path / "run"
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'architecture = "plain_cnn"\noptimizer = "adam"\nschedule = "constant"\nbatch_size = 7\n'
        "augment = false\n[model]\nwidths = [8]\ndepth = 1\ndense = [16]\n"
    )
    command = ["--recipe", str(recipe), "--data", str(data), "--out", str(run), "--device", "cpu"]
    if limit == "BURST_AT_END":  # that one alone decides
        monkeypatch.setattr(training, "BURST", 1e30)
    assert training.main([*command, "learning_rate", "900", "epochs", str(epochs)]) == 2
    assert "the training diverged: the training loss was" in capsys.readouterr().err
    assert not (run / "card.json").exists() and not (run / "record.json").exists()


def test_images_that_are_all_alike_are_refused(tmp_path: Path) -> None:
    data = tiny_data()
    data.images[:] = 7
    with pytest.raises(UserError, match="all pixels of Training are alike"):
        TrainingState(tiny_recipe(), data, tmp_path, CPU)
