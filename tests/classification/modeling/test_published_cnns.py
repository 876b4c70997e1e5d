"""The published networks: their shapes, their recipes, their stopping rule."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from classification import train as training
from classification.data.fer2013 import Fer2013
from classification.modeling import published_cnns
from classification.modeling.face_resnet import build_network, parameter_count
from classification.modeling.normalization import Normalization
from classification.modeling.published_cnns import FIRST_CONVOLUTION, PlainCnn, TorchvisionNet
from classification.training import schedule
from classification.training.recipe import Recipe, RecipeError, load_recipe, recipe_from_dict
from classification.training.state import CHECKPOINT
from faces.command import UserError
from faces.emotions import EMOTIONS

RECIPES = Path(training.__file__).parent / "recipes"
PUBLISHED = [
    path for path in sorted(RECIPES.glob("*.toml")) if "patience" in path.read_text("utf-8")
]


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_recipes_build_and_their_networks_learn(path: Path) -> None:
    recipe = load_recipe(path)
    torch.manual_seed(0)
    model = build_network(recipe.architecture, recipe.model)
    x = torch.randn(4, 1, 48, 48)
    loss = nn.functional.cross_entropy(model(x), torch.tensor([0, 2, 4, 6]))
    loss.backward()
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters() if p.ndim > 1
    )
    assert recipe.schedule == "constant" and recipe.patience == 6
    assert recipe.augment.mixup == recipe.augment.shift == recipe.augment.erase == 0


def test_all_published_networks_have_a_recipe() -> None:
    assert len(PUBLISHED) == 12


def layers(name: str, kind: type[nn.Module]) -> list[nn.Module]:
    recipe = load_recipe(RECIPES / f"{name}.toml")
    model = build_network(recipe.architecture, recipe.model)
    return [module for module in model.modules() if isinstance(module, kind)]


@pytest.mark.parametrize(
    ("name", "convolutions", "dense", "pools"),
    [
        ("simple_cnn", 3, 2, 3),
        ("base_cnn", 2, 2, 1),
        ("nine_layer_cnn", 9, 2, 3),
        ("deep_cnn", 6, 5, 3),
        ("deep_cnn_wide", 8, 6, 4),
        ("vggface_reduced", 10, 2, 5),
        ("keras_cnn", 4, 3, 4),
    ],
)
def test_plain_networks_have_the_published_layers(
    name: str, convolutions: int, dense: int, pools: int
) -> None:
    assert len(layers(name, nn.Conv2d)) == convolutions
    assert len(layers(name, nn.Linear)) == dense
    assert len(layers(name, nn.MaxPool2d)) == pools


def test_normalisation_is_on_every_layer_but_the_output() -> None:
    assert not layers("deep_cnn", nn.BatchNorm2d)
    norms = layers("deep_cnn_norm", nn.BatchNorm2d), layers("deep_cnn_norm", nn.BatchNorm1d)
    assert [len(one) for one in norms] == [6, 4]


def test_parameters_of_a_small_network_by_hand() -> None:
    model = PlainCnn([4, 8], 1, [16])
    expected = (9 * 4 + 4) + (9 * 4 * 8 + 8) + (12 * 12 * 8 * 16 + 16) + (16 * 7 + 7)
    assert parameter_count(model) == expected


@pytest.mark.parametrize("name", FIRST_CONVOLUTION)
def test_imagenet_starts_see_grey_as_three_equal_colours(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchvision

    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name, weights=None).eval()
    monkeypatch.setattr(published_cnns, "imagenet_state", lambda _: theirs.state_dict())
    ours = TorchvisionNet(name).eval()
    mean, std = 0.5, 0.25
    grey = torch.rand(2, 1, 48, 48)
    ours.load_published(grey, Normalization(mean, std))
    first = ours.network.get_submodule(FIRST_CONVOLUTION[name])
    expected = theirs.get_submodule(FIRST_CONVOLUTION[name])
    deviation = torch.tensor([0.229, 0.224, 0.225])[None, :, None, None]
    bias = expected.bias
    rgb = nn.functional.conv2d(
        (grey - mean) / deviation, expected.weight, bias, expected.stride, expected.padding
    )
    assert torch.allclose(first((grey - mean) / std), rgb, atol=1e-5)


def test_missing_imagenet_weights_name_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", fail)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(UserError, match=r"resnet18.*published_start false"):
        TorchvisionNet("resnet18").load_published(
            torch.zeros(1, 1, 48, 48), Normalization(0.5, 0.25)
        )


def test_strided_depthwise_convolutions_stay_in_float32_and_change_nothing() -> None:
    torch.manual_seed(0)
    own = TorchvisionNet("mobilenet_v2").eval()
    plain = torchvision.models.mobilenet_v2(num_classes=7).eval()
    plain.features[0][0] = nn.Conv2d(1, 32, 3, 2, 1, bias=False)
    plain.load_state_dict(own.network.state_dict())
    faces = torch.randn(2, 1, 48, 48)
    kinds = {}

    def note(conv: nn.Conv2d, _: object, out: torch.Tensor) -> None:
        kinds[conv.groups > 1, conv.stride] = out.dtype

    for module in own.network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(note)
    with torch.inference_mode():
        torch.testing.assert_close(own(faces), plain(faces))
        kinds.clear()
        with torch.autocast("cpu", torch.bfloat16):
            own(faces)
    assert kinds == {
        (False, (2, 2)): torch.bfloat16,
        (False, (1, 1)): torch.bfloat16,
        (True, (1, 1)): torch.bfloat16,
        (True, (2, 2)): torch.float32,
    }


def test_unknown_torchvision_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="name must be one of resnet18"):
        build_network("torchvision", {"name": "vgg16"})


# --- The recipe's new keys


def tiny(**changes: object) -> Recipe:
    values: dict[str, object] = {
        "architecture": "plain_cnn",
        "model": {"widths": [4], "depth": 1, "dense": [8]},
        "epochs": 6,
        "batch_size": 8,
        "learning_rate": 1e-9,
        "warmup": 0.0,
        "schedule": "constant",
        "ema_decay": 0.0,
        "augment": False,
    }
    return recipe_from_dict({**values, **changes}, "test")


def data() -> Fer2013:
    rng = np.random.default_rng(0)
    splits = np.array(["Training"] * 16 + ["PublicTest"] * 14)
    labels = np.arange(30, dtype=np.int64) % 7
    images = rng.integers(0, 256, (30, 48, 48), dtype=np.uint8)
    return Fer2013(images, labels, splits, tuple(map(str, range(30))))


def test_a_constant_rate_follows_the_warm_up() -> None:
    recipe = tiny(learning_rate=0.5, warmup=1.0)
    rates = [training.learning_rate(recipe, step, 4) for step in range(24)]
    assert rates == [0.125, 0.25, 0.375, 0.5, *[0.5] * 20]


def test_patience_counts_from_the_first_best() -> None:
    def history(*accuracies: float) -> list[dict[str, float]]:
        return [{"epoch": i, "accuracy": a} for i, a in enumerate(accuracies, start=1)]

    recipe = tiny(patience=2)
    for accuracies, over in (
        ((), False),
        ((0.5, 0.4), False),
        ((0.5, 0.4, 0.5), True),
        ((0.5, 0.4, 0.6), False),
        ((0.5, 0.4, 0.6, 0.1, 0.6), True),
    ):
        assert schedule.out_of_patience(recipe, history(*accuracies)) is over
    assert not schedule.out_of_patience(tiny(), history(0.5, *[0.1] * 50))


def test_training_ends_when_patience_is_over_and_resuming_adds_nothing(tmp_path: Path) -> None:
    # At a rate of 1e-9 nothing changes: the first pass is the best one.
    for _ in range(2):
        record = training.train(tiny(patience=3), data(), tmp_path, torch.device("cpu"))
        assert len(record["history"]) == 4 and record["best_epoch"] == 1


def test_checkpoints_from_before_a_key_came_are_gone_on_from(tmp_path: Path) -> None:
    training.train(tiny(epochs=2), data(), tmp_path, torch.device("cpu"))
    path = tmp_path / CHECKPOINT
    saved = torch.load(path, weights_only=True)
    identity = json.loads(saved["identity"])
    del identity["recipe"]["patience"]
    torch.save({**saved, "identity": json.dumps(identity)}, path)
    training.train(tiny(epochs=2), data(), tmp_path, torch.device("cpu"))
    with pytest.raises(UserError, match="patience was 0 and is 3"):
        training.train(tiny(epochs=2, patience=3), data(), tmp_path, torch.device("cpu"))


def test_six_classes_never_see_disgust() -> None:
    merged = data().disgust_as_angry()
    disgust, angry = EMOTIONS.index("disgust"), EMOTIONS.index("angry")
    before = data().labels
    assert not (merged.labels == disgust).any()
    assert (merged.labels[before == disgust] == angry).all()
    assert (merged.labels == before)[before != disgust].all()


def test_wrong_words_are_refused() -> None:
    for changes, cause in (
        ({"schedule": "steps"}, "schedule must be one of cosine, constant"),
        ({"optimizer": "lion"}, "optimizer must be one of sgd, adam, adamw"),
        ({"augment": True}, "augment must be a table, or false"),
        ({"patience": -1}, "patience must be within"),
    ):
        with pytest.raises(RecipeError, match=cause):
            tiny(**changes)
