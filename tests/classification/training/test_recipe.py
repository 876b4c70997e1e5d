"""Recipes: what is read, what overrides do, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from classification.modeling.face_resnet import MODELS
from classification.training.recipe import load_recipe, recipe_from_dict
from faces.command import UserError

RECIPES = sorted(
    (Path(__file__).resolve().parents[3] / "classification" / "recipes").glob("*.toml")
)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_of_the_repository_builds_its_network(path: Path) -> None:
    recipe = load_recipe(path)
    MODELS[recipe.architecture](**recipe.model)
    assert recipe_from_dict(recipe.to_dict(), "itself") == recipe


def test_overrides_reach_tables_and_keep_types(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text("epochs = 9\n[augment]\nflip = 0.5\n[model]\nwidths = [8, 8]\n")
    recipe = load_recipe(
        path, ["epochs", "3", "augment.mixup", "0", "model.stem_pool", "false", "architecture", "x"]
    )
    assert (recipe.epochs, recipe.augment.mixup, recipe.augment.flip) == (3, 0.0, 0.5)
    assert recipe.model == {"widths": [8, 8], "stem_pool": False}
    assert recipe.architecture == "x"


@pytest.mark.parametrize(
    ("text", "overrides", "cause"),
    [
        ("epoch = 3", [], "unknown key"),
        ("epochs = 3", ["augment.spin", "1"], "unknown key"),
        ("epochs = 'many'", [], "must be int"),
        ("epochs = true", [], "must be int"),
        ("epochs = 0", [], r"epochs must be within 1\.\."),
        ("epochs = 3", ["learning_rate", "nan"], "learning_rate must be within"),
        ("epochs = 3", ["ema_decay", "1.5"], "ema_decay must be within"),
        ("epochs = 3", ["augment.flip", "-3"], "flip must be within"),
        ("epochs = 3", ["seed", "-1"], "seed must be within"),
        ("epochs = ", [], "not valid TOML"),
        ("epochs = 3", ["epochs"], "KEY VALUE"),
        ("epochs = 3", ["epochs.x", "1"], "no table"),
        ("augment = 3", [], "table"),
    ],
)
def test_wrong_recipes_are_refused(
    tmp_path: Path, text: str, overrides: list[str], cause: str
) -> None:
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=cause):
        load_recipe(path, overrides)


def test_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.toml"):
        load_recipe(tmp_path / "none.toml")
