"""The ablation table: what is trained, and differences worked out by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from classification.recipe import load_recipe
from eval import ablation
from eval.bootstrap import Bootstrap
from eval.command import EvaluationError

PLAN = """
recipe = "{recipe}"
seeds = [0]
[common]
epochs = 3
"model.widths" = [8]
[variants.reference]
about = "as it is"
seeds = [0, 1]
views = ["single", "flip"]
[variants.votes]
about = "votes"
votes = 0.5
[variants.other]
about = "another network"
recipe = "{other}"
against = "votes"
"augment.flip" = 0.0
"""


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    recipe, other = tmp_path / "recipe.toml", tmp_path / "other.toml"
    recipe.write_text('architecture = "face_resnet"\n[model]\nwidths = [16]\ndepths = [1]\n')
    other.write_text('architecture = "mobilenet_v2"\n[model]\nsize = 96\n')
    path = tmp_path / "plan.toml"
    path.write_text(PLAN.format(recipe=recipe, other=other))
    return path


def test_a_plan_becomes_commands_that_say_everything(plan: Path, tmp_path: Path) -> None:
    reference, votes, other = ablation.read_plan(plan)
    assert reference.seeds == (0, 1) and reference.views == ("single", "flip")
    words = ablation.training_command(votes, 0, Path("fer.csv"), Path("votes.csv"), Path("runs"))
    assert words[:8] == [
        *("-m", "classification.train", "--recipe", str(tmp_path / "recipe.toml")),
        *("--data", "fer.csv", "--votes", "votes.csv"),
    ]
    assert words[8:11] == ["--out", str(Path("runs") / "votes_s0"), "--resume"]
    recipe = load_recipe(votes.recipe, words[11:])
    assert (recipe.epochs, recipe.votes, recipe.model["widths"]) == (3, 0.5, [8])
    assert load_recipe(other.recipe, other.arguments(4)).model == {"size": 96}
    assert load_recipe(other.recipe, other.arguments(4)).augment.flip == 0.0
    with pytest.raises(EvaluationError, match="--votes"):
        ablation.training_command(votes, 0, Path("fer.csv"), None, Path("runs"))


def test_only_what_is_missing_is_trained(
    plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []
    status = [0]

    def run(words: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        ran.append(words)
        return subprocess.CompletedProcess(words, status[0])

    monkeypatch.setattr(subprocess, "run", run)
    variants = ablation.read_plan(plan)
    runs = tmp_path / "runs"
    (runs / "reference_s1").mkdir(parents=True)
    (runs / "reference_s1" / "record.json").write_text("{}")
    ablation.train_missing(variants, Path("fer.csv"), Path("votes.csv"), runs)
    outs = [Path(words[words.index("--out") + 1]).name for words in ran]
    assert outs == ["reference_s0", "votes_s0", "other_s0"]
    assert all(words[0] == sys.executable for words in ran)
    status[0] = 130
    with pytest.raises(KeyboardInterrupt):
        ablation.train_missing(variants, Path("fer.csv"), Path("votes.csv"), runs)
    status[0] = 2
    with pytest.raises(EvaluationError, match="reference, seed 0: the training failed"):
        ablation.train_missing(variants, Path("fer.csv"), Path("votes.csv"), runs)


def test_differences_are_paired_by_picture_and_seed(plan: Path) -> None:
    def answers(text: str) -> NDArray[np.bool_]:
        return np.array([letter == "1" for letter in text])

    right = {
        ("reference", 0, "single"): answers("1100"),
        ("reference", 1, "single"): answers("1110"),
        ("reference", 0, "flip"): answers("1111"),
        ("reference", 1, "flip"): answers("1110"),
        ("votes", 0, "single"): answers("1101"),
        ("other", 0, "single"): answers("1101"),
    }
    reference, votes, other = ablation.rows(ablation.read_plan(plan), right, Bootstrap.of(4))
    assert reference["accuracy"] == pytest.approx(5 / 8)
    assert reference["seed_spread"] == pytest.approx(1 / 8)
    assert reference["flip_difference"] == pytest.approx(2 / 8)
    assert reference["against"] is None and "difference" not in reference
    # Against the reference's seed 0 alone: the seed that both have.
    assert votes["difference"] == pytest.approx(1 / 4)
    low, high = votes["difference_ci"]
    assert low == 0.0 and 0.5 <= high <= 1.0
    # The same answers: no difference in any drawing.
    assert other["difference"] == 0.0 and other["difference_ci"] == (0.0, 0.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recipe = ", "no plan"),
        ('recipe = "x.toml"\nseeds = [0]\n[common]\n[variants.a]\n', "no plan"),
        (
            'recipe = "x.toml"\nseeds = [0]\n[common]\n[variants.a]\nabout = ""\nagainst = "b"\n',
            "against b",
        ),
        (
            'recipe = "x.toml"\nseeds = [0]\n[common]\n[variants.reference]\nabout = ""\n',
            "cannot be read",
        ),
    ],
)
def test_bad_plans_are_explained(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(text)
    with pytest.raises(EvaluationError, match=message):
        ablation.read_plan(path)


def test_the_projects_plan_is_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(ablation.__file__).resolve().parent.parent)
    variants = ablation.read_plan(ablation.PLAN)
    assert variants[0].name == ablation.REFERENCE
    assert all(variant.about for variant in variants)
