"""The training command, in this process, on a dozen synthetic pictures."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.logger import setup_logger

from detection import export, train
from detection.data.mapper import FaceMapper
from detection.inference.detectron import load_detector, load_run
from detection.modeling.config import load_config
from detection.training.trainer import FaceTrainer, Progress, make_optimizer
from faces.images import read_image

SMALL = [
    "MODEL.WEIGHTS", "", "MODEL.BF16", "off", "MODEL.BACKBONE.FREEZE_AT", "0",
    "INPUT.FACE_CROP.SIZE", "96", "INPUT.MIN_SIZE_TEST", "96", "INPUT.MAX_SIZE_TEST", "128",
    "SOLVER.IMS_PER_BATCH", "2", "SOLVER.WARMUP_ITERS", "1", "SOLVER.MAX_ITER", "2",
    "SOLVER.CHECKPOINT_PERIOD", "1", "TEST.EVAL_PERIOD", "0",
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN", "50", "MODEL.RPN.PRE_NMS_TOPK_TEST", "50",
    "MODEL.RPN.POST_NMS_TOPK_TRAIN", "20", "MODEL.RPN.POST_NMS_TOPK_TEST", "20",
]  # fmt: skip
"""Overrides that make a training of the light model take a second or two."""


@pytest.fixture(autouse=True)
def fresh_logging() -> Iterator[None]:
    """Detectron2's loggers keep writing to the standard output that an earlier test captured."""
    yield
    setup_logger.cache_clear()
    for name in ("detectron2", "fvcore"):
        logger = logging.getLogger(name)
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            handler.close()


def command(faces: Any, out: Path, *more: str, options: tuple[str, ...] = ()) -> list[str]:
    data = ["--train-coco", str(faces.coco), str(faces.images)]
    data += ["--val-coco", str(faces.coco), str(faces.images)]
    head = ["--config-file", "mobilenet_fpn", "--num-gpus", "0", *data, *options]
    return [*head, *SMALL, "OUTPUT_DIR", str(out), *more]


@pytest.fixture(scope="module")
def run(faces: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "light"
    assert train.main(command(faces, out)) == 0
    return out


def test_training_leaves_a_complete_run_folder(run: Path, faces: Any) -> None:
    card = json.loads((run / "card.json").read_text())
    assert card["kind"] == "detector" and card["name"] == "light"
    assert card["trained_on"][0]["pictures"] == 12 and len(card["trained_on"][0]["sha256"]) == 64
    assert card["command"].startswith("python -m detection.train --config-file mobilenet_fpn")
    assert card["hours"] >= 0 and card["parameters"] == 3_099_504
    parts = card["parameters_by_part"]
    assert sum(part["all"] for part in parts.values()) == card["parameters"]
    assert card["peak_memory_gb"] > 0.1
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["validation"][0].keys() >= {"AP", "AP50", "AP75", "pictures"}
    cfg = load_config(run / "config.yaml")
    assert cfg.SOLVER.MAX_ITER == 2 and cfg.MODEL.SCORE_THRESHOLD == metrics["score_threshold"]
    rows = [json.loads(line) for line in (run / "training_log.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == [0, 1]
    assert all(row["total_loss"] > 0 for row in rows)
    detector = load_run(run, "cpu")
    assert detector.name == "light"
    assert len(detector.detect([read_image(faces.images / "picture_1.jpg")], 0.0)) == 1


def test_a_set_named_twice_is_seen_twice_and_measured_once(faces: Any, tmp_path: Path) -> None:
    data: tuple[str, ...] = ("--train-coco", str(faces.coco), str(faces.images))
    data += ("--dataturks", str(faces.dataturks), str(faces.images)) * 3
    arguments = train.build_parser().parse_args(command(faces, tmp_path, options=data))
    named = train.named_data(arguments)
    assert [len(named[key]) for key in ("TRAIN", "TEST", "REPORT")] == [5, 2, 1]
    assert len(set(named["TRAIN"])) == 2
    out = tmp_path / "run"
    assert train.main(command(faces, out, options=data[:3])) == 0
    (trained_on,) = json.loads((out / "card.json").read_text())["trained_on"]
    assert trained_on["pictures"] == 12 and trained_on["times"] == 2


def test_a_moved_run_still_loads(run: Path, tmp_path: Path) -> None:
    for name in ("config.yaml", "model.safetensors"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    load_run(tmp_path, "cpu")


def test_the_card_tells_where_the_weights_came_from(run: Path, faces: Any, tmp_path: Path) -> None:
    assert json.loads((run / "card.json").read_text())["started_from"] == "random weights"
    card = train.origin(str(run / "model.safetensors"))
    assert isinstance(card, dict) and card["name"] == "light" and card["hours"] >= 0
    assert train.origin("imagenet://mobilenet_v2") == "imagenet://mobilenet_v2"
    (tmp_path / "mine.pth").write_bytes(b"")
    assert train.origin(str(tmp_path / "mine.pth")) == "mine.pth"


def test_a_run_is_not_overwritten(run: Path, faces: Any, capsys: Any) -> None:
    assert train.main(command(faces, run)) == 2
    assert "holds a run already; continue it with --resume" in capsys.readouterr().err


def test_resuming_a_finished_run_completes_it_again(run: Path, faces: Any) -> None:
    before = (run / "model.safetensors").read_bytes()
    assert train.main(command(faces, run, options=("--resume",))) == 0
    assert (run / "model.safetensors").read_bytes() == before


def test_eval_only_measures_the_last_checkpoint(run: Path, faces: Any, capsys: Any) -> None:
    assert train.main(command(faces, run, options=("--eval-only", "--resume"))) == 0
    row = json.loads((run / "metrics.json").read_text())["validation"][0]
    figures = f"AP {row['AP']}  AP50 {row['AP50']}  AP75 {row['AP75']}"
    line = f"measured: {figures}  on {row['pictures']} pictures of {row['data']}\n"
    assert line in capsys.readouterr().out


def test_exporting_a_run(run: Path, faces: Any, tmp_path: Path, capsys: Any) -> None:
    figures = tmp_path / "scenes.json"
    figures.write_text('{"ap50": 0.9}')
    target = tmp_path / "weights" / "light"
    argv = [str(run), str(target), "--figures", str(figures), "--note", "chosen by lot"]
    assert export.main(argv) == 0
    card = json.loads(target.with_suffix(".json").read_text())
    assert card["figures"] == {"scenes": {"ap50": 0.9}}
    assert card["notes"] == ["chosen by lot"]
    assert card["limits"] and card["intended_use"]
    text = target.with_suffix(".yaml").read_text() + target.with_suffix(".json").read_text()
    assert str(faces.images) not in target.with_suffix(".yaml").read_text() and text
    assert target.with_suffix(".safetensors").stat().st_size < 8_000_000
    shipped = load_detector(target.with_suffix(".yaml"), target.with_suffix(".safetensors"), "cpu")
    image = read_image(faces.images / "picture_1.jpg")
    ours, theirs = (d.detect([image], 0.0)[0] for d in (shipped, load_run(run, "cpu")))
    if ours and theirs:
        assert ours[0].score == pytest.approx(theirs[0].score, abs=0.02)
    assert export.main([str(tmp_path), str(target)]) == 2
    assert "no finished run" in capsys.readouterr().err


def test_dataturks_from_json_and_pictures_to_a_figure(faces: Any, tmp_path: Path) -> None:
    argv = ["--config-file", "mobilenet_fpn", "--num-gpus", "0"]
    argv += ["--dataturks", str(faces.dataturks), str(faces.images)]
    argv += [*SMALL, "OUTPUT_DIR", str(tmp_path / "run"), "SOLVER.MAX_ITER", "1"]
    assert train.main(argv) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert [row["data"].split(", ")[1] for row in metrics["validation"] + metrics["report"]] == [
        "val",
        "test",
    ]


def interrupting(monkeypatch: pytest.MonkeyPatch, number: int, times: int, at: int) -> None:
    """Send this process a signal while the mapper reads its ``at``-th picture."""
    original, calls = FaceMapper.__call__, [0]

    def call(self: FaceMapper, record: dict[str, Any], rng: Any = None) -> dict[str, Any]:
        calls[0] += 1
        if calls[0] == at:
            for _ in range(times):
                os.kill(os.getpid(), number)
        return original(self, record, rng)

    monkeypatch.setattr(FaceMapper, "__call__", call)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_and_resume_goes_on(
    faces: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, number: int
) -> None:
    out = tmp_path / "run"
    argv = command(faces, out, "SOLVER.MAX_ITER", "5", "SOLVER.CHECKPOINT_PERIOD", "1000")
    handler = signal.getsignal(number)
    with monkeypatch.context() as patch:
        interrupting(patch, number, times=1, at=4)  # in the second iteration
        assert train.main(argv) == 130
    assert signal.getsignal(number) is handler
    err = capsys.readouterr().err
    assert "saving after this iteration" in err
    assert "stopped after 2 of 5 iterations" in err and "--resume" in err
    assert (out / "last_checkpoint").read_text() == "model_0000001.pth"
    assert not (out / "model.safetensors").exists()
    assert train.main(["--resume", *argv]) == 0
    rows = [json.loads(line) for line in (out / "training_log.jsonl").read_text().splitlines()]
    assert rows[-1]["iteration"] == 4
    assert load_run(out, "cpu")


def test_a_second_ctrl_c_stops_at_once(
    faces: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    interrupting(monkeypatch, signal.SIGINT, times=2, at=4)
    assert train.main(command(faces, tmp_path / "run", "SOLVER.MAX_ITER", "5")) == 130
    assert "stopped; nothing is saved since" in capsys.readouterr().err


def test_resuming_gives_the_weights_and_the_optimiser_back(
    faces: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    assert train.main(command(faces, out, "SOLVER.MAX_ITER", "1")) == 0
    saved = torch.load(out / "model_final.pth", weights_only=True)
    seen = {}

    def stop(self: Any) -> None:
        seen["start"] = self.start_iter
        seen["weights"] = {k: v.clone() for k, v in self.model.state_dict().items()}
        seen["state"] = self.optimizer.state_dict()["state"]
        raise KeyboardInterrupt

    monkeypatch.setattr("detection.training.trainer.FaceTrainer.train", stop)
    assert train.main(["--resume", *command(faces, out, "SOLVER.MAX_ITER", "3")]) == 130
    assert seen["start"] == 1
    assert all(torch.equal(value, saved["model"][k]) for k, value in seen["weights"].items())
    assert seen["state"] and all(s["step"] == 1 for s in seen["state"].values())


def seen_by(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that will hold the images that the mapper is asked for in training."""
    original, seen = FaceMapper.__call__, []

    def call(self: FaceMapper, record: dict[str, Any], rng: Any = None) -> dict[str, Any]:
        if rng is not None:
            seen.append(Path(record["file_name"]).name)
        return original(self, record, rng)

    monkeypatch.setattr(FaceMapper, "__call__", call)
    return seen


def test_a_longer_training_goes_on_with_the_images_not_seen_yet(
    faces: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = seen_by(monkeypatch)
    for options, iterations in (((), "4"), (("--resume",), "8")):
        argv = command(faces, tmp_path / "run", "SOLVER.MAX_ITER", iterations, options=options)
        assert train.main(argv) == 0
    assert len(seen) == 16  # of 12 images, 2 an iteration
    assert len(set(seen[:12])) == 12


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_killed_and_resumed_training_has_the_bits_of_an_unbroken_one(
    faces: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    more = ["SOLVER.MAX_ITER", "6", "SOLVER.CHECKPOINT_PERIOD", "2", "TEST.EVAL_PERIOD", "3"]
    more += ["DATALOADER.NUM_WORKERS", workers]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert train.main(command(faces, whole, *more)) == 0
    run_step = FaceTrainer.run_step

    def killed(self: FaceTrainer) -> None:
        if self.iter == 3:  # after the checkpoint of iteration 1, which comes after 2 iterations
            raise KeyboardInterrupt
        run_step(self)

    with monkeypatch.context() as patch:
        patch.setattr(FaceTrainer, "run_step", killed)
        assert train.main(command(faces, broken, *more)) == 130
    torch.manual_seed(99)  # whatever the new process draws
    assert train.main(command(faces, broken, *more, options=("--resume",))) == 0
    for name in ("model.safetensors", "metrics.json"):
        assert (whole / name).read_bytes() == (broken / name).read_bytes()


def test_resume_names_what_differs_from_the_run(
    run: Path, faces: Any, tmp_path: Path, capsys: Any
) -> None:
    before = (run / "config.yaml").read_bytes()
    options = ("--resume",)
    change = ["SOLVER.BASE_LR", "0.5", "INPUT.BLUR", "0.25"]
    assert train.main(command(faces, run, *change, options=options)) == 2
    err = capsys.readouterr().err
    rate = load_config("mobilenet_fpn").SOLVER.BASE_LR
    assert f"SOLVER.BASE_LR: {rate} then, 0.5 now" in err and "0.25 now" in err
    assert "MAX_ITER" not in err and "images" not in err
    assert train.main(command(faces, run, "SOLVER.MAX_ITER", "1", options=options)) == 2
    assert "has done 2 iterations already; SOLVER.MAX_ITER 1 is fewer" in capsys.readouterr().err
    more = (*options, "--train-coco", str(faces.coco), str(faces.images))
    assert train.main(command(faces, run, options=more)) == 2
    assert "DATASETS.TRAIN: 12 images with 9 faces" in capsys.readouterr().err
    assert (run / "config.yaml").read_bytes() == before


def test_a_training_whose_loss_has_burst_leaves_no_card(
    faces: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    out = tmp_path / "run"
    latest = Progress._note

    def bursting(self: Progress, loss: float) -> None:
        latest(self, 1e10 if len(self.losses) >= 2 else loss)

    monkeypatch.setattr(Progress, "_note", bursting)
    argv = command(faces, out, "SOLVER.MAX_ITER", "4")
    for options in ((), ("--resume",)):
        assert train.main([*options, *argv]) == 2
        err = capsys.readouterr().err
        assert "the training has diverged" in err and "SOLVER.BASE_LR" in err
        assert not (out / "card.json").exists() and not (out / "model.safetensors").exists()


def test_weights_that_burst_in_the_last_step_leave_no_card(
    faces: Any, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "run"
    options = ["SOLVER.BASE_LR", "3e38", "SOLVER.MAX_ITER", "1", "SOLVER.OPTIMIZER", "SGD"]
    options += ["SOLVER.CLIP_GRADIENTS.ENABLED", "False", "SOLVER.WARMUP_FACTOR", "1"]
    options += ["SOLVER.WEIGHT_DECAY", "1000.0", "DATASETS.TEST", "()"]
    assert train.main(command(faces, out, *options)) == 2
    assert "no longer finite numbers" in capsys.readouterr().err
    assert not (out / "card.json").exists()


def test_a_loss_that_is_no_number_is_refused_with_advice(
    faces: Any, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "run"
    options = ["SOLVER.BASE_LR", "1e30", "SOLVER.MAX_ITER", "6", "SOLVER.OPTIMIZER", "SGD"]
    options += ["SOLVER.CLIP_GRADIENTS.ENABLED", "False", "SOLVER.WARMUP_FACTOR", "1"]
    assert train.main(command(faces, out, *options)) == 2
    err = capsys.readouterr().err
    assert "detection.train: the loss is no longer a finite number" in err
    assert "SOLVER.BASE_LR" in err and "Traceback" not in err
    assert not (out / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--config-file", "nothing"], "no such configuration file"),
        (["--num-gpus", "7"], "--num-gpus 7"),
        (["SOLVER.BASELR", "1"], "did you mean SOLVER.BASE_LR"),
        (["MODEL.WEIGHTS", "absent.pth"], "absent.pth: no such file of weights"),
        (["SOLVER.OPTIMIZER", "LION"], "must be SGD or ADAMW"),
        (["OUTPUT_DIR", "/proc/nothing/here"], "/proc/nothing"),
        (["DATASETS.TRAIN", "('coco:a',)"], "expected coco:FILE.json:IMAGES"),
        (["DATASETS.TRAIN", "()"], "name what to train on"),
        (["SOLVER.MAX_ITER"], "pairs"),
    ],
)
def test_mistakes_end_in_one_line(
    faces: Any, tmp_path: Path, capsys: Any, change: list[str], message: str
) -> None:
    argv = command(faces, tmp_path / "run")
    if change[0].startswith("--"):
        position = argv.index(change[0])
        argv[position : position + 2] = change
    else:
        argv += change
    assert train.main(argv) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_an_empty_split_shows_before_the_training(faces: Any, tmp_path: Path, capsys: Any) -> None:
    lines = faces.dataturks.read_text().splitlines()
    (tmp_path / "one.json").write_text(lines[1])  # one image, with a face, of one split
    argv = ["--config-file", "mobilenet_fpn", "--num-gpus", "0"]
    argv += ["--dataturks", str(tmp_path / "one.json"), str(faces.images)]
    assert train.main([*argv, *SMALL, "OUTPUT_DIR", str(tmp_path / "run")]) == 2
    assert "is empty" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_set_without_a_face_is_refused_before_the_training(
    faces: Any, tmp_path: Path, capsys: Any
) -> None:
    none = tmp_path / "none.json"
    none.write_text(json.dumps(json.loads(faces.coco.read_text()) | {"annotations": []}))
    for option in ("--train-coco", "--val-coco", "--report-coco"):
        data = (option, str(none), str(faces.images))
        assert train.main(command(faces, tmp_path / "run", options=data)) == 2
        assert "none.json: has no face to find" in capsys.readouterr().err
    lines = [f'{{"content": "http://x/{image.name}"}}' for image in faces.images.iterdir()]
    none.write_text("\n".join(lines))
    data = ("--dataturks", str(none), str(faces.images))
    assert train.main(command(faces, tmp_path / "run", options=data)) == 2
    assert "none.json, train: no face to find in it" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_missing_configuration_is_asked_for(capsys: Any) -> None:
    assert train.main(["--num-gpus", "0"]) == 2
    assert "--config-file is missing" in capsys.readouterr().err


def test_the_optimisers_groups() -> None:
    cfg = load_config("mobilenet_fpn")
    model = build_model(cfg)
    groups = make_optimizer(cfg, model).param_groups
    rates = {round(group["lr"], 6) for group in groups}
    assert rates == {0.0002, 0.0006}
    held = sum(len(group["params"]) for group in groups)
    assert held == sum(p.requires_grad for p in model.parameters())
    for group in groups:
        assert (group["weight_decay"] == 0) == all(p.dim() == 1 for p in group["params"])


def test_training_learns_the_synthetic_faces(faces: Any, tmp_path: Path) -> None:
    """Thirty iterations must lower the loss: the whole path from files to gradients is right."""
    out = tmp_path / "run"
    more = ["SOLVER.MAX_ITER", "30", "SOLVER.BASE_LR", "0.002", "SOLVER.BACKBONE_LR_FACTOR", "1"]
    assert train.main(command(faces, out, *more)) == 0
    rows = [json.loads(line) for line in (out / "training_log.jsonl").read_text().splitlines()]
    losses = [row["total_loss"] for row in rows]
    assert losses[-1] < 1.0  # an untrained RPN and box head lose ln 2 each
