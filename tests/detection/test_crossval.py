"""Cross-validation on the synthetic export, with a stand-in for the training, and once with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.modeling import build_model

from detection import crossval
from detection.crossval import deal, find_start, sets_seen
from detection.modeling.checkpoints import save_weights
from detection.modeling.config import load_config
from faces.command import UserError
from faces.files import write_text

SMALL = [
    "MODEL.BF16", "off", "MODEL.BACKBONE.FREEZE_AT", "0", "INPUT.FACE_CROP.SIZE", "96",
    "INPUT.MIN_SIZE_TEST", "96", "INPUT.MAX_SIZE_TEST", "128", "SOLVER.IMS_PER_BATCH", "2",
    "SOLVER.WARMUP_ITERS", "1", "SOLVER.MAX_ITER", "2", "MODEL.RPN.PRE_NMS_TOPK_TRAIN", "50",
    "MODEL.RPN.PRE_NMS_TOPK_TEST", "50", "MODEL.RPN.POST_NMS_TOPK_TRAIN", "20",
    "MODEL.RPN.POST_NMS_TOPK_TEST", "20",
]  # fmt: skip

CARD = {
    "kind": "detector",
    "name": "light",
    "trained_on": [{"set": "wider/train.json"}],
    "chosen_on": [],
    "started_from": "imagenet://mobilenet_v2",
}


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of the light model with random weights."""
    folder = tmp_path_factory.mktemp("start")
    cfg = load_config(
        "mobilenet_fpn", [*SMALL, "MODEL.SCORE_THRESHOLD", "0.7", "MODEL.WEIGHTS", ""]
    )
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    torch.manual_seed(0)
    save_weights(folder / "model.safetensors", build_model(cfg))
    write_text(folder / "config.yaml", cfg.dump())
    write_text(folder / "card.json", json.dumps(CARD))
    return folder


def argv(start: Path, faces: Any, out: Path, *more: str, folds: int = 3) -> list[str]:
    data = ["--dataturks", str(faces.dataturks), str(faces.images)]
    return ["--start", str(start), *data, "--folds", str(folds), "--out", str(out), *more]


@pytest.fixture
def trainings(start: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Stand in for the training of a fold: copy the start; return what was asked."""
    asked: list[list[str]] = []

    def train(arguments: list[str]) -> int:
        asked.append(arguments)
        folder = Path(arguments[arguments.index("OUTPUT_DIR") + 1])
        shutil.copytree(start, folder, dirs_exist_ok=True)
        return 0

    monkeypatch.setattr(crossval, "train_fold", train)
    return asked


def test_each_picture_is_judged_once_by_a_model_that_did_not_see_it(
    start: Path, faces: Any, tmp_path: Path, trainings: list[list[str]], capsys: Any
) -> None:
    assert crossval.main(argv(start, faces, tmp_path, "SOLVER.MAX_ITER", "7")) == 0
    truth = json.loads((tmp_path / "truth.json").read_text())
    every = {image["id"] for image in truth["images"]}
    judged: list[int] = []
    for number, arguments in enumerate(trainings):
        file = Path(arguments[arguments.index("--train-coco") + 1])
        trained = {image["id"] for image in json.loads(file.read_text())["images"]}
        results = json.loads((tmp_path / f"fold_{number}" / "results.json").read_text())
        seen = {row["image_id"] for row in results}
        assert seen and not seen & trained and len(trained) == 8
        judged += every - trained
        assert arguments[arguments.index("MODEL.WEIGHTS") + 1] == str(start / "model.safetensors")
        given = dict(zip(arguments[-12::2], arguments[-11::2], strict=True))  # the last one counts
        assert given["SOLVER.MAX_ITER"] == "7" and given["SOLVER.BASE_LR"] == "0.0003"
    assert sorted(judged) == sorted(every) and len(every) == 12
    pooled = json.loads((tmp_path / "results.json").read_text())
    assert {row["image_id"] for row in pooled} <= every
    about = json.loads((tmp_path / "crossval.json").read_text())
    assert about["folds"] == [4, 4, 4] and about["start"]["name"] == "light"
    assert "--results-threshold 0.7" in capsys.readouterr().out


def test_going_on_trains_only_what_is_missing(
    start: Path, faces: Any, tmp_path: Path, trainings: list[list[str]], capsys: Any
) -> None:
    assert crossval.main(argv(start, faces, tmp_path)) == 0
    before = (tmp_path / "results.json").read_text()
    (tmp_path / "fold_1" / "results.json").unlink()
    (tmp_path / "results.json").unlink()
    assert crossval.main(argv(start, faces, tmp_path)) == 0
    assert len(trainings) == 4 and (tmp_path / "results.json").read_text() == before
    assert crossval.main(argv(start, faces, tmp_path, folds=4)) == 2
    assert "holds a cross-validation with other folds" in capsys.readouterr().err


def test_a_training_that_stops_stops_all(
    start: Path, faces: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crossval, "train_fold", lambda arguments: 130)
    assert crossval.main(argv(start, faces, tmp_path)) == 130
    assert not (tmp_path / "results.json").exists()


def test_folds_are_even_and_do_not_depend_on_the_order() -> None:
    records = [{"file_name": f"folder/{i}.jpg", "image_id": i} for i in range(11)]
    folds = deal(records, 3)
    assert sorted(len(fold) for fold in folds) == [3, 4, 4]
    assert sorted(r["image_id"] for fold in folds for r in fold) == list(range(11))
    assert deal(records[::-1], 3) == folds
    for wrong in (1, 12):
        with pytest.raises(UserError, match="between 2 and the 11"):
            deal(records, wrong)


@pytest.mark.parametrize(
    "card",
    [
        CARD | {"trained_on": [{"set": "dataturks/dataturks.json, train"}]},
        CARD | {"chosen_on": [{"set": "dataturks.json, val"}]},
        CARD | {"started_from": CARD | {"trained_on": [{"set": "x/dataturks.json"}]}},
    ],
)
def test_a_start_that_has_seen_the_set_is_refused(
    start: Path, faces: Any, tmp_path: Path, capsys: Any, card: dict[str, Any]
) -> None:
    assert "dataturks.json" in set(sets_seen(card))
    run = tmp_path / "run"
    shutil.copytree(start, run)
    (run / "card.json").write_text(json.dumps(card))
    assert crossval.main(argv(run, faces, tmp_path / "out")) == 2
    assert "has seen dataturks.json" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_start_that_is_none(start: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.safetensors is missing"):
        find_start(tmp_path, "x.json")
    shutil.copy(start / "model.safetensors", tmp_path / "light.safetensors")
    with pytest.raises(UserError, match=r"light\.yaml is missing"):
        find_start(tmp_path / "light.safetensors", "x.json")
    shutil.copy(start / "config.yaml", tmp_path / "light.yaml")
    with pytest.raises(UserError, match="has no card"):
        find_start(tmp_path / "light.safetensors", "x.json")
    (tmp_path / "light.json").write_text(json.dumps(CARD))
    found = find_start(tmp_path / "light.safetensors", "x.json")
    assert found == (tmp_path / "light.safetensors", tmp_path / "light.yaml")


@pytest.mark.slow
def test_two_folds_in_earnest(start: Path, faces: Any, tmp_path: Path) -> None:
    assert crossval.main(argv(start, faces, tmp_path, *SMALL, folds=2)) == 0
    for number in range(2):
        card = json.loads((tmp_path / f"fold_{number}" / "run" / "card.json").read_text())
        assert card["started_from"]["name"] == "light" and card["trained_on"][0]["pictures"] == 6
    assert json.loads((tmp_path / "results.json").read_text())
