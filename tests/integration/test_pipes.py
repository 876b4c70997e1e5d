"""A pipe named where a file is expected is refused at once; opening it would wait for ever."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from detection.modeling.config import load_config
from tests.stand_ins import write_coco, write_fer2013

RUN_FILES = (
    "config.yaml card.json record.json metrics.json model.safetensors last_checkpoint "
    "checkpoint.pt model_final.pth training_log.jsonl"
)

TRAIN = "detection.train --config-file mobilenet_fpn --num-gpus 0"
SETS = "--train-coco {coco} {images} --val-coco {coco} {images}"
LEARN = "classification.train --recipe classification/recipes/simple_cnn.toml"

COMMANDS = f"""
twostage analyze {{pipe}}
twostage analyze {{pipes}}
twostage analyze {{photo}} --detector {{run}}
twostage analyze {{photo}} --detector {{pipe}}
twostage analyze {{photo}} --classifier {{run}}
twostage analyze {{photo}} --classifier {{pipe}}
twostage analyze {{photo}} --classifier fast+{{run}}
twostage analyze {{photo}} --out {{pipe}}.jsonl
twostage analyze {{photo}} --annotated {{pipe}}
twostage analyze {{pipe}}.zip
twostage analyze {{pipe}}.tar
twostage analyze --list {{pipe}}
twostage analyze {{photo}} --out {{journal}} --resume
twostage summary {{pipe}}.jsonl
twostage merge {{journals}} --out {{out}}.jsonl
twostage video {{pipe}}
twostage video {{pipe}}.mp4
twostage video {{pipes}}
{TRAIN} --train-coco {{pipe}} {{images}}
{TRAIN} --train-coco {{coco}} {{pipe}}
{TRAIN} --train-coco {{coco}} {{pipes}}
{TRAIN} {SETS} --val-coco {{pipe}} {{images}}
{TRAIN} {SETS} --report-coco {{pipe}} {{images}}
{TRAIN} --dataturks {{pipe}} {{images}}
{TRAIN} --dataturks {{dataturks}} {{pipes}}
{TRAIN} {SETS} MODEL.WEIGHTS {{pipe}}
{TRAIN} {SETS} MODEL.WEIGHTS {{pipe}}.pkl
{TRAIN} {SETS} MODEL.WEIGHTS {{pipe}}.pth
{TRAIN} {SETS} MODEL.WEIGHTS {{pipe}}.safetensors
{TRAIN} {SETS} --resume OUTPUT_DIR {{run}}
{TRAIN} {SETS} --resume OUTPUT_DIR {{checkpoint}}
{TRAIN} {SETS} --resume --eval-only OUTPUT_DIR {{checkpoint}}
detection.train --config-file {{pipe}} --num-gpus 0 {SETS}
detection.train --config-file {{pipe}}.yaml --num-gpus 0 {SETS}
detection.train --config-file {{based}} --num-gpus 0 {SETS}
detection.crossval --start {{run}} --dataturks {{dataturks}} {{images}} --out {{out}}
detection.crossval --start {{pipe}} --dataturks {{dataturks}} {{images}} --out {{out}}
detection.crossval --start {{photo}} --dataturks {{pipe}} {{images}} --out {{out}}
detection.average {{run}}=1 --out {{out}}
detection.export {{run}} {{out}}
detection.export {{run}} {{out}} --figures {{pipe}}
detection.datasets wider-split --coco {{pipe}} --out {{out}}
detection.dataturks show --json {{pipe}} --images {{images}} --out {{out}}
detection.dataturks download --json {{pipe}} --out {{out}}
classification.train --recipe {{pipe}} --data {{fer2013}} --out {{out}}
{LEARN} --data {{pipe}} --out {{out}}
{LEARN} --data {{pipe}}.zip --out {{out}}
{LEARN} --data {{pipes}} --out {{out}}
{LEARN} --data {{fer2013}} --out {{out}} --votes {{pipe}} votes 0.5
{LEARN} --data {{fer2013}} --out {{out}} --extra {{pipe}}
{LEARN} --data {{fer2013}} --out {{out}} --extra {{extra}}
{LEARN} --data {{fer2013}} --out {{out}} --start {{run}}
{LEARN} --data {{fer2013}} --out {{out}} --start {{pipe}}
{LEARN} --data {{fer2013}} --out {{out}} --teacher {{run}} distill 0.5
{LEARN} --data {{fer2013}} --out {{run}} --resume
classification.calibrate {{run}} --data {{fer2013}}
classification.calibrate fast --data {{pipe}}
classification.average {{run}}=1 --data {{fer2013}} --out {{out}}
classification.support {{run}} --data {{fer2013}} --out {{out}}
classification.support fast --data {{pipe}} --out {{out}}
classification.resplit --data {{pipe}} --out {{out}}.zip
classification.export {{run}} name --weights {{out}}
classification.export_onnx {{run}} {{out}}.onnx
baselines.train --model knn --features pixels --data {{pipe}} --out {{out}}
baselines.train --model knn --features embedding --network {{pipe}} --data {{fer2013}} --out {{out}}
eval.classification --classifier fast --data {{pipe}}
eval.classification --classifier fast --data {{fer2013}} --split PrivateTest --ferplus {{pipe}}
eval.classification --scores a={{pipe}} --data {{fer2013}} --split PrivateTest
eval.classification --classifier {{run}} --data {{fer2013}} --split PrivateTest
eval.detection --coco {{pipe}} --images {{images}} --detector haar
eval.detection --coco {{coco}} --images {{pipe}} --detector haar
eval.detection --coco {{coco}} --images {{pipes}} --detector haar
eval.detection --coco {{coco}} --images {{images}} --results a={{pipe}}
eval.detection --dataturks {{pipe}} {{images}} --detector haar
eval.joint --coco {{pipe}} --images {{images}} --detector haar --classifier fast
eval.joint --coco {{emotions}} --images {{images}} --detector haar --scores a={{scores}}
eval.calibration --data {{pipe}} --classifier fast
eval.multilabel --data {{fer2013}} --ferplus {{pipe}} --classifier fast
eval.unsure --data {{fer2013}} --ferplus {{pipe}} --classifier fast
eval.robustness --data {{pipe}} --classifier fast
eval.crop_study --coco {{pipe}} --images {{images}}
eval.ablation --data {{fer2013}} --plan {{pipe}}
eval.operating_point --detector {{run}} --coco {{coco}} --images {{images}}
eval.operating_point --detector mobilenet_fpn --coco {{pipe}} --images {{images}}
eval.card {{run}} --data {{fer2013}} --ferplus {{pipe}}
eval.crops --coco {{pipe}} --images {{images}} --detector haar --out {{out}}
eval.mosaics --coco {{pipe}} --images {{images}} --out {{out}}
eval.scenes --data {{pipe}} --out {{out}}
eval.systems --data {{pipe}} simple_cnn
eval.tables --results {{pipes}}
eval.figures --results {{pipes}}
eval.figures --photo {{pipe}}
eval.detector_training --run {{run}}
eval.video --clips {{run}}
""".strip().splitlines()


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The paths that the commands name; the folders ``run`` and ``pipes`` hold pipes only."""
    folder = tmp_path_factory.mktemp("pipes")
    coco = write_coco(folder / "coco")
    emotions = write_coco(folder / "emotions", category="happy")
    found = {name: folder / name for name in "pipe run pipes checkpoint extra scores out".split()}
    for name in "run pipes checkpoint extra/happy scores".split():
        (folder / name).mkdir(parents=True)
    (folder / "journals").mkdir()
    os.mkfifo(folder / "journals" / "faces.jsonl.run")
    (folder / "journals" / "faces.jsonl").touch()
    for ending in ("", ".tar", ".mp4", ".jsonl", ".pkl", ".pth", ".safetensors", ".yaml", ".zip"):
        os.mkfifo(folder / f"pipe{ending}")
    for name in [*RUN_FILES.split(), "truth.json"]:
        os.mkfifo(found["run"] / name)
    for name in ("image_0.png", "image_1.png", "a.csv", "fer2013.csv", "record.json"):
        os.mkfifo(found["pipes"] / name)
    os.mkfifo(found["scores"] / "haar.csv")
    os.mkfifo(found["extra"] / "happy" / "a.png")
    (found["checkpoint"] / "last_checkpoint").write_text("model_final.pth")
    os.mkfifo(found["checkpoint"] / "model_final.pth")
    (found["checkpoint"] / "config.yaml").write_text(load_config("mobilenet_fpn").dump())
    based = folder / "based.yaml"
    based.write_text("_BASE_: pipe.yaml\n")
    dataturks = folder / "dataturks.json"
    points = [{"x": 0.2, "y": 0.2}, {"x": 0.6, "y": 0.6}]
    face = {"label": ["Face"], "points": points}
    images = [{"content": f"http://x/image_{i}.png", "annotation": [face]} for i in range(2)]
    dataturks.write_text("\n".join(map(json.dumps, images)))
    return found | {
        "coco": coco.json,
        "images": coco.images,
        "emotions": emotions.json,
        "journals": folder / "journals",
        "journal": folder / "journals" / "faces.jsonl",
        "photo": coco.images / "image_0.png",
        "dataturks": dataturks,
        "based": based,
        "fer2013": write_fer2013(folder / "fer2013.csv"),
    }


@pytest.mark.timeout(60)
@pytest.mark.parametrize("line", COMMANDS)
def test_a_pipe_is_refused_at_once(
    names: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    line: str,
) -> None:
    module, *words = line.format(**names | {"out": tmp_path / "out"}).split()
    if module == "detection.train" and "OUTPUT_DIR" not in words:
        words += ["OUTPUT_DIR", str(tmp_path / "out")]
    main = importlib.import_module("twostage.cli" if module == "twostage" else module).main
    status = main(words)
    error = capsys.readouterr().err
    assert status in (1, 2) and "Traceback" not in error
    assert error.strip().splitlines()[-1].startswith((f"{module}: ", "twostage: "))
