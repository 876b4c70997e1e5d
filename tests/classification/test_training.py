"""The training loop: its parts by hand-computed values; stopped runs end in the same bits."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from classification import train as training
from classification.data.augment import Augmentation, TrainPreset
from classification.data.fer2013 import Fer2013
from classification.data.ferplus import FerPlus
from classification.inference.classifier import TrainedNetwork, save_network
from classification.modeling.face_resnet import FaceResNet
from classification.modeling.normalization import Normalization
from classification.training import batches, distributed, schedule
from classification.training.batches import TrainBatches, soft_targets
from classification.training.card import training_data
from classification.training.ema import MovingAverage
from classification.training.loss import Teachers, class_weights, training_loss
from classification.training.recipe import Recipe, RecipeError
from classification.training.state import CHECKPOINT, new_network
from faces.command import UserError
from faces.emotions import EMOTIONS

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny_data(count: int = 28) -> Fer2013:
    rng = np.random.default_rng(1)
    labels = np.tile(np.arange(7), 2 * count // 7)[: 2 * count]
    images = rng.integers(0, 60, (2 * count, 48, 48), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:: int(label) + 1] += np.uint8(40 + 25 * label)
    splits = np.array(["Training"] * count + ["PublicTest"] * count)
    return Fer2013(images, labels.astype(np.int64), splits, tuple(map(str, range(2 * count))))


def one_hot(data: Fer2013) -> NDArray[np.float32]:
    return np.eye(len(EMOTIONS), dtype=np.float32)[data.labels]


def tiny_recipe(**changes: object) -> Recipe:
    values: dict[str, object] = {
        "model": {"widths": [8, 16], "depths": [1, 1], "dropout": 0.2},
        "epochs": 4,
        "batch_size": 8,
        "warmup": 1.0,
        "learning_rate": 0.05,
    }
    return Recipe(**{**values, **changes})  # type: ignore[arg-type]


def test_learning_rate_follows_warm_up_and_cosine() -> None:
    recipe = Recipe(epochs=10, warmup=2.0, learning_rate=0.4)
    rates = [schedule.learning_rate(recipe, step, 5) for step in range(50)]
    assert rates[0] == pytest.approx(0.04)
    assert rates[9] == rates[10] == pytest.approx(0.4)
    assert rates[30] == pytest.approx(0.2)
    assert 0 < rates[49] < 0.001
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_moving_average_is_the_recursion_with_a_short_start() -> None:
    model = nn.BatchNorm1d(1)
    average = MovingAverage(model, 0.9)
    expected = 1.0
    for step, value in enumerate([3.0, -2.0, 5.0, 0.5]):
        nn.init.constant_(model.weight, value)
        model.num_batches_tracked.fill_(step + 40)
        average.update(model, step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert average.state["weight"].item() == pytest.approx(expected, rel=1e-6)
    assert average.state["num_batches_tracked"].item() == 43


def test_mixed_loss_is_cross_entropy_with_mixed_soft_targets() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 7))
    x, y = torch.randn(6, 1, 4, 4), torch.tensor([0, 1, 2, 3, 6, 6])
    smooth, lam = 0.1, 0.7
    targets = nn.functional.one_hot(y, 7) * (1 - smooth) + smooth / 7
    soft = lam * targets + (1 - lam) * targets.flip(0)
    logits = model(lam * x + (1 - lam) * x.flip(0))
    expected = -(soft * logits.log_softmax(1)).sum(1).mean()
    recipe = Recipe(label_smoothing=smooth)
    found = training_loss(model, x, nn.functional.one_hot(y, 7).float(), recipe, lam)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_class_weights_multiply_each_target() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 7))
    x, targets = torch.randn(5, 1, 4, 4), torch.rand(5, 7).softmax(1)
    weights = torch.rand(7)
    expected = -(weights * targets * model(x).log_softmax(1)).sum(1).mean()
    found = training_loss(model, x, targets, Recipe(label_smoothing=0.0), weights=weights)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_balanced_classes_weigh_alike(balance: float) -> None:
    data = tiny_data().split("Training")
    labels = np.repeat(np.arange(7), [10, 1, 3, 4, 5, 3, 2])
    weights = class_weights(Fer2013(data.images, labels, data.splits, data.names), balance)
    total = weights.numpy() * np.bincount(labels)
    assert total.sum() == pytest.approx(28, rel=1e-6)
    assert total[0] / total[1] == pytest.approx(10 ** (1 - balance), rel=1e-5)


def test_targets_blend_labels_with_votes() -> None:
    data = tiny_data().split("Training")
    votes = np.zeros((28, 10), np.int64)
    votes[0, [0, 1, 8]] = 6, 2, 2  # neutral, happiness, unknown
    votes[1, 9] = 10  # not a face: only the label is left
    found = soft_targets(data, FerPlus(votes), 0.5)
    expected = one_hot(data)
    expected[0] *= 0.5
    expected[0, EMOTIONS.index("neutral")] += 0.5 * 0.75
    expected[0, EMOTIONS.index("happy")] += 0.5 * 0.25
    np.testing.assert_allclose(found, expected, atol=1e-7)
    assert np.array_equal(soft_targets(data, None, 0.0), one_hot(data))


def test_distillation_is_zero_beyond_the_entropy_for_the_teacher_itself(tmp_path: Path) -> None:
    network = TrainedNetwork(
        "face_resnet", {"widths": [8], "depths": [1]}, normalization=Normalization(0.4, 0.2)
    )
    torch.manual_seed(3)
    model = FaceResNet(**network.model).eval()
    nn.init.normal_(model.head.weight)
    save_network(tmp_path / "model.safetensors", model.state_dict(), network)
    # The student's pictures are normalised otherwise than the teacher's.
    pixels = torch.rand(6, 1, 48, 48)
    teachers = Teachers([tmp_path / "model.safetensors"], Normalization(0.5, 0.25), 2.0, CPU)
    teachers.members[0].dtype = torch.float32
    recipe = Recipe(label_smoothing=0.0, distill=0.75, distill_temperature=2.0)

    class Student(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = model((x * 0.25 + 0.5 - 0.4) / 0.2)
            return out

    targets = torch.eye(7)[[0, 1, 2, 3, 4, 5]]
    with torch.no_grad():
        found = training_loss(Student(), (pixels - 0.5) / 0.25, targets, recipe, teachers=teachers)
        logits = model((pixels - 0.4) / 0.2)
    hard = -(targets * logits.log_softmax(1)).sum(1).mean()
    entropy = torch.distributions.Categorical(logits=logits / 2.0).entropy().mean()
    assert found.item() == pytest.approx((0.25 * hard + 0.75 * 4 * entropy).item(), rel=1e-4)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_weight_decay_spares_biases_and_normalisation(name: str) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 7))
    groups = schedule.make_optimizer(model, Recipe(weight_decay=0.01, optimizer=name)).param_groups
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    found = {name: decay[id(p)] for name, p in model.named_parameters()}
    assert {name for name, value in found.items() if value} == {"0.weight", "3.weight"}
    assert len(found) == 6


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_looks_ahead_where_it_has_momentum(momentum: float) -> None:
    recipe = Recipe(momentum=momentum)
    (group, *_) = schedule.make_optimizer(nn.Linear(2, 7), recipe).param_groups
    assert group["momentum"] == momentum and group["nesterov"] == (momentum > 0)


def test_batches_cover_an_epoch_once_and_depend_on_the_step_alone() -> None:
    data = tiny_data().split("Training")
    plain = Augmentation(0, 0, 0, 0, 0, 0, 0, 0, 0)
    whole = TrainBatches(data, one_hot(data), tiny_recipe(batch_size=7, augment=plain))
    epoch = [whole[step] for step in range(whole.steps_per_epoch)]
    seen = sorted(image.tobytes() for images, _ in epoch for image in images)
    assert seen == sorted(image.tobytes() for image in data.images)
    varied = TrainBatches(data, one_hot(data), tiny_recipe())
    later = varied[5][0]
    _ = varied[2]
    assert np.array_equal(varied[5][0], later)
    assert not np.array_equal(varied[6][0], later)


def test_processes_share_a_batch_without_overlap() -> None:
    data = tiny_data().split("Training")
    plain = Augmentation(0, 0, 0, 0, 0, 0, 0, 0, 0)
    recipe = tiny_recipe(augment=plain)
    whole = TrainBatches(data, one_hot(data), recipe)[1][0]
    shares = [TrainBatches(data, one_hot(data), recipe, rank, 2)[1][0] for rank in (0, 1)]
    assert sorted(i.tobytes() for share in shares for i in share) == sorted(
        i.tobytes() for i in whole
    )
    with pytest.raises(RecipeError, match="divide"):
        TrainBatches(data, one_hot(data), recipe, 0, 3)


def test_augmentation_varies_and_can_be_seeded() -> None:
    image = tiny_data().images[0]
    preset = TrainPreset(Augmentation(blur=0.5))
    preset.seed(3)
    first = [preset(image) for _ in range(4)]
    preset.seed(3)
    again = [preset(image) for _ in range(4)]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], first[1])
    assert first[0].shape == (48, 48) and first[0].dtype == np.uint8


def test_normalization_maps_grey_levels() -> None:
    batch = Normalization(0.5, 0.25)(np.array([[[0, 255]]], np.uint8))
    assert batch.shape == (1, 1, 1, 2)
    assert batch.flatten().tolist() == [-2.0, 2.0]


class StopAt(TrainPreset):
    """Sends this process a signal while a chosen picture is prepared."""

    calls = 0
    stop_at = -1

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        StopAt.calls += 1
        if StopAt.calls == StopAt.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().__call__(image)


@pytest.mark.parametrize("stop_at", [3, 30, 60])
def test_a_stopped_run_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    monkeypatch.setattr(batches, "TrainPreset", StopAt)
    data, recipe = tiny_data(), tiny_recipe()
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    StopAt.stop_at = -1
    whole = training.train(recipe, data, tmp_path / "whole", CPU)
    StopAt.calls, StopAt.stop_at = 0, stop_at
    with pytest.raises(KeyboardInterrupt):
        training.train(recipe, data, tmp_path / "broken", CPU)
    StopAt.stop_at = -1
    resumed = training.train(recipe, data, tmp_path / "broken", CPU)
    for history in (whole["history"], resumed["history"]):
        assert len(history) == 4
    assert whole["history"] == resumed["history"]
    one, other = (load_file(tmp_path / n / "model.safetensors") for n in ("whole", "broken"))
    assert all(torch.equal(one[key], other[key]) for key in one)
    saved = [
        torch.load(tmp_path / n / CHECKPOINT, weights_only=True)["model"]
        for n in ("whole", "broken")
    ]
    assert all(torch.equal(saved[0][key], saved[1][key]) for key in saved[0])


def test_another_recipe_does_not_go_on_with_a_run(tmp_path: Path) -> None:
    data = tiny_data()
    training.train(tiny_recipe(epochs=1), data, tmp_path, CPU)
    with pytest.raises(UserError, match="epochs was 1 and is 2"):
        training.train(tiny_recipe(epochs=2), data, tmp_path, CPU)


def test_a_run_starts_from_another_ones_network(tmp_path: Path) -> None:
    data, still = tiny_data(), {"epochs": 1, "warmup": 0.0, "ema_decay": 0.0}
    first = training.train(tiny_recipe(**still), data, tmp_path / "first", CPU)
    start = tmp_path / "first" / "model.safetensors"
    frozen = tiny_recipe(**still, learning_rate=1e-12)
    record = training.train(frozen, data, tmp_path / "second", CPU, start=start)
    assert first["start"] is None and record["start"]["name"] == "first"
    before, after = (load_file(tmp_path / n / "model.safetensors") for n in ("first", "second"))
    assert all(
        torch.allclose(before[k], after[k], atol=1e-4) for k in before if k.endswith("weight")
    )
    for recipe, cause in (
        (tiny_recipe(model={"widths": [8], "depths": [1]}), "no face_resnet of the recipe's form"),
        (tiny_recipe(published_start=True), "two starts"),
    ):
        with pytest.raises(UserError, match=cause):
            new_network(recipe, start, None, Normalization(0.5, 0.25))


def test_a_loss_that_is_not_finite_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"[Ll]ower the learning rate"):
        training.train(tiny_recipe(learning_rate=1e30, clip_norm=1e30), tiny_data(), tmp_path, CPU)


def write_folder(root: Path, data: Fer2013) -> Path:
    for image, label, split, name in zip(
        data.images, data.labels, data.splits, data.names, strict=True
    ):
        part = "train" if split == "Training" else "test"
        path = root / part / EMOTIONS[label] / f"{split}_{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return root


def test_command_line_leaves_a_usable_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        "epochs = 20\nbatch_size = 7\nlabel_smoothing = 0.0\nlearning_rate = 0.05\n"
        "[model]\nwidths = [8, 16]\ndepths = [1, 1]\n"
        "[augment]\nshift = 0.0\nrotate = 0.0\nscale = 0.0\nerase = 0.0\nmixup = 0.0\n"
    )
    data = write_folder(tmp_path / "fer", tiny_data())
    command = ["--recipe", str(recipe), "--data", str(data), "--out", str(tmp_path / "run")]
    assert training.main([*command, "--device", "cpu", "ema_decay", "0.5"]) == 0
    assert "not the official FER2013" in capsys.readouterr().err
    record = json.loads((tmp_path / "run/record.json").read_text())
    card = json.loads((tmp_path / "run/card.json").read_text())
    assert record["best_accuracy"] > 0.8
    assert card["trained_on"]["pictures"] == 28
    assert card["public_test"]["accuracy"] == record["best_accuracy"]
    assert np.trace(card["public_test"]["confusion"]) / 28 == pytest.approx(record["best_accuracy"])
    assert Image.open(tmp_path / "run/curves.png").width > 500
    assert training.main(command) == 2
    assert "--resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        (["--data", "nowhere"], "no such file"),
        (["--recipe", "nowhere.toml"], "nowhere.toml"),
        (["batch_size", "100"], "lower it"),
        (["architecture", "vgg"], "unknown architecture 'vgg'"),
        (["model.widths", "[32]"], "cannot be built"),
        (["model.depths", "3"], "cannot be built"),
        (["--device", "cuda"], "device cuda: not usable here"),
        (["--device", "gpu"], "device gpu: not usable here"),
        (["--out", __file__], "is a file; --out takes a folder"),
    ],
)
def test_wrong_command_lines_are_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: list[str], cause: str
) -> None:
    if "cuda" in changes and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("epochs = 1\nbatch_size = 7\n")
    data = write_folder(tmp_path / "fer", tiny_data())
    command = ["--recipe", str(recipe), "--data", str(data), "--out", str(tmp_path / "run")]
    assert training.main(command + changes) == 2
    assert cause in capsys.readouterr().err


def test_a_card_names_the_votes_that_trained() -> None:
    about = {"training_pictures": 3, "data_fingerprint": "f", "data_differences": []}
    labels = training_data(about | {"recipe": {"votes": 0.0}})
    assert "votes" not in labels and training_data(about) == labels
    blend = training_data(about | {"recipe": {"votes": 0.5}})
    assert "FER+" in blend["votes"] and "50%" in blend["votes"]


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def usable(name: str | None) -> str:  # as on a machine with GPUs
        asked.append(name)
        return name or "cuda"

    monkeypatch.setattr(distributed, "usable_device", usable)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert distributed.own_device(None) == torch.device("cuda:3")
    assert asked == [None, "cuda:3"]  # that there is such a one was checked
    assert distributed.own_device("cpu") == torch.device("cpu")
    assert distributed.own_device("cuda:1") == torch.device("cuda:1")
