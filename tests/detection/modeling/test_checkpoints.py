from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from detection.modeling.checkpoints import (
    FaceCheckpointer,
    load_weights,
    read_card,
    save_weights,
)
from faces.command import UserError


def model(width: int = 4) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width))


@pytest.mark.parametrize("half", [False, True])
def test_a_round_trip(tmp_path: Path, half: bool) -> None:
    first, second = model(), model()
    save_weights(tmp_path / "w.safetensors", first, half=half)
    load_weights(tmp_path / "w.safetensors", second)
    for name, value in first.state_dict().items():
        stored = second.state_dict()[name]
        assert stored.dtype == value.dtype
        exact = not half or value.dim() < 2
        torch.testing.assert_close(
            stored, value, rtol=0 if exact else 1e-3, atol=0 if exact else 1e-6
        )
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_detectron2s_own_checkpoints_load_too(tmp_path: Path) -> None:
    first, second = model(), model()
    FaceCheckpointer(first, str(tmp_path)).save("model_final")
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    load_weights(tmp_path / "model_final.pth", second)
    assert torch.equal(first[0].weight, second[0].weight)  # type: ignore[index]
    again = FaceCheckpointer(model(), str(tmp_path))
    again.resume_or_load("", resume=True)
    assert torch.equal(first[0].weight, again.model[0].weight)  # type: ignore[index]


def test_the_model_zoos_pickles_load_and_heads_of_other_classes_are_skipped(tmp_path: Path) -> None:
    first, second = model(4), model(4)
    state = {name: value.numpy() for name, value in first.state_dict().items()}
    state["1.weight"] = np.zeros(81, np.float32)
    content = {"model": state, "__author__": "Detectron2 Model Zoo"}
    (tmp_path / "model_final.pkl").write_bytes(pickle.dumps(content))
    FaceCheckpointer(second).load(str(tmp_path / "model_final.pkl"))
    assert torch.equal(first[0].weight, second[0].weight)  # type: ignore[index]
    assert second[1].weight.shape == (4,)  # type: ignore[index]


def test_safetensors_as_a_start(tmp_path: Path) -> None:
    first, second = model(), model()
    save_weights(tmp_path / "w.safetensors", first)
    FaceCheckpointer(second).load(str(tmp_path / "w.safetensors"))
    assert torch.equal(first[0].weight, second[0].weight)  # type: ignore[index]


def test_weights_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_weights(tmp_path / "absent.safetensors", model())
    for name in ("damaged.safetensors", "damaged.pth"):
        (tmp_path / name).write_bytes(b"not weights at all")
        with pytest.raises(UserError, match=name):
            load_weights(tmp_path / name, model())
        with pytest.raises(UserError, match=name):
            FaceCheckpointer(model()).load(str(tmp_path / name))
    save_weights(tmp_path / "wide.safetensors", model(8))
    with pytest.raises(UserError, match="does not fit"):
        load_weights(tmp_path / "wide.safetensors", model())
    with pytest.raises(UserError, match="no such file of weights"):
        FaceCheckpointer(model()).load(str(tmp_path / "absent.pth"))


def test_an_interrupted_save_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpointer = FaceCheckpointer(model(), str(tmp_path))
    checkpointer.save("model_final")
    before = (tmp_path / "model_final.pth").read_bytes()

    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        checkpointer.save("model_final")
    assert (tmp_path / "model_final.pth").read_bytes() == before


def test_cards(tmp_path: Path) -> None:
    assert read_card(tmp_path / "card.json") == {}
    (tmp_path / "card.json").write_text(json.dumps({"kind": "detector"}))
    assert read_card(tmp_path / "card.json") == {"kind": "detector"}
    for text in ("[1]", "{"):
        (tmp_path / "card.json").write_text(text)
        with pytest.raises(UserError):
            read_card(tmp_path / "card.json")
