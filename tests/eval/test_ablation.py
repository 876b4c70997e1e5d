"""The ablation table: what is trained, and differences worked out by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from classification.data.fer2013 import load_fer2013
from classification.training.recipe import load_recipe
from eval import ablation
from eval.metrics.bootstrap import Bootstrap
from faces.command import UserError
from faces.pipeline import Image

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
    with pytest.raises(UserError, match="--votes"):
        ablation.training_command(votes, 0, Path("fer.csv"), None, Path("runs"))


class Reader:
    """Sees the label in the first pixel, and is right about the first ``share`` pictures of ten."""

    def __init__(self, share: int) -> None:
        self.share, self.name = share, "reader"

    def probabilities(self, crops: Sequence[Image]) -> NDArray[np.float32]:
        rows = [int(c[0, 0, 0]) if c[0, 1, 0] < self.share else 6 for c in crops]
        return np.eye(7, dtype=np.float32)[rows]


@pytest.fixture
def fer2013(tmp_path: Path) -> Path:
    """Ten pictures of PublicTest, the first three of them angry, and one of Training."""
    lines = ["emotion,pixels,Usage", f"3,{' '.join(['9'] * 48 * 48)},Training"]
    for number in range(10):
        pixels = np.zeros(48 * 48, int)
        pixels[:2] = label, _ = (0 if number < 3 else 3, number)
        lines.append(f"{label},{' '.join(map(str, pixels))},PublicTest")
    (tmp_path / "fer.csv").write_text("\n".join(lines))
    return tmp_path / "fer.csv"


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace trainings by notes of them; the last letter of a run's name says what it knows."""
    ran: list[str] = []

    def run(*words: str) -> None:
        folder, data = (Path(words[words.index(key) + 1]) for key in ("--out", "--data"))
        ran.append(folder.name)
        if folder.name == "stopped_s0":
            raise KeyboardInterrupt
        recipe_file = Path(words[words.index("--recipe") + 1])
        recipe = load_recipe(recipe_file, words[words.index("--resume") + 1 :])
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(
            json.dumps(
                {"recipe": recipe.to_dict(), "parameters": 5, "hours": 0.5, "precision": "float32"}
                | {"best_epoch": 2, "command": "python -m x", "commit": "abc"}
                | {"data_fingerprint": load_fer2013(data, progress=False).fingerprint}
            )
        )

    shares = {"reference_s0": 5, "reference_s1": 6, "votes_s0": 8, "other_s0": 8}
    monkeypatch.setattr(ablation, "python", run)
    monkeypatch.setattr(
        ablation.options,
        "load_classifiers",
        lambda names, _: [Reader(shares[Path(names[0]).name])],
    )
    return ran


def run_ablation(plan: Path, data: Path, *more: str) -> int:
    folder = plan.parent
    options = ["--data", str(data), "--votes", "votes.csv", "--plan", str(plan)]
    options += ["--runs", str(folder / "runs"), "--answers", str(folder / "answers")]
    return ablation.main([*options, "--out", str(folder / "table.json"), *more])


def table(plan: Path) -> list[dict[str, Any]]:
    document = json.loads((plan.parent / "table.json").read_text())
    runs: list[dict[str, Any]] = document.get("runs", [document])
    return runs


def test_the_table_grows_with_what_is_trained(
    plan: Path, fer2013: Path, trained: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_ablation(plan, fer2013, "--only", "reference", "other") == 0
    assert trained == ["reference_s0", "reference_s1", "other_s0"]
    assert [row["variant"] for row in table(plan)] == ["reference"]  # other lacks its opposite
    assert "not all is trained: votes, other" in capsys.readouterr().err
    shutil.rmtree(plan.parent / "runs")  # the records are enough
    assert run_ablation(plan, fer2013) == 0
    assert trained[3:] == ["votes_s0"]
    reference, votes, other = table(plan)
    assert reference["accuracies"] == [0.5, 0.6] and reference["parameters"] == 5
    assert votes["difference"] == pytest.approx(0.3)
    assert other["difference"] == 0 and other["against"] == "votes"
    assert run_ablation(plan, fer2013) == 0 and len(trained) == 4


def test_a_variant_of_another_recipe_is_trained_again(
    plan: Path, fer2013: Path, trained: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_ablation(plan, fer2013) == 0
    plan.write_text(plan.read_text().replace("votes = 0.5", "votes = 0.6"))
    assert run_ablation(plan, fer2013) == 2
    assert "votes_s0: was trained by another recipe" in capsys.readouterr().err
    shutil.rmtree(plan.parent / "runs" / "votes_s0")
    assert run_ablation(plan, fer2013) == 0
    assert trained[4:] == ["votes_s0"]
    (plan.parent / "answers" / "votes_s0.json").write_text("[]")
    assert run_ablation(plan, fer2013) == 2
    assert "votes_s0.json: no record of an evaluation" in capsys.readouterr().err


def test_what_was_trained_before_a_stop_is_kept(
    plan: Path, fer2013: Path, trained: list[str]
) -> None:
    text = plan.read_text().replace("variants.votes", "variants.stopped")
    plan.write_text(text.replace('against = "votes"', 'against = "stopped"'))
    assert run_ablation(plan, fer2013) == 130
    assert trained == ["reference_s0", "reference_s1", "stopped_s0"]
    assert len(list((plan.parent / "answers").iterdir())) == 2


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
        ("recipe = ", "not valid TOML"),
        ('recipe = "x.toml"\nseeds = [0]\n[common]\n[variants.a]\n', "no plan"),
        (
            'recipe = "x.toml"\nseeds = [0]\n[common]\n[variants.a]\nabout = ""\nagainst = "b"\n',
            "against b",
        ),
        (
            'recipe = "x.toml"\nseeds = [0]\n[common]\n[variants.reference]\nabout = ""\n',
            "no such file",
        ),
    ],
)
def test_bad_plans_are_explained(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        ablation.read_plan(path)


def test_the_projects_plan_is_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(ablation.__file__).resolve().parent.parent)
    variants = ablation.read_plan(ablation.PLAN)
    assert variants[0].name == ablation.REFERENCE
    assert all(variant.about for variant in variants)
