"""Model files from elsewhere: none runs code, none is accepted, each ends in one line, status 2.

Every case is a way to spoil a run folder or a file of weights. Where a case could run code, that
code would make the file ``ran``.
"""

from __future__ import annotations

import functools
import http.server
import json
import os
import pickle
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from detection import average, export, train
from detection.inference.detectron import load_run
from detection.modeling.checkpoints import FaceCheckpointer, save_weights
from detection.modeling.config import build_network, load_config
from faces.command import UserError

OVERRIDES = [
    "MODEL.WEIGHTS", "", "INPUT.FACE_CROP.SIZE", "64", "INPUT.MIN_SIZE_TEST", "64",
    "SOLVER.MAX_ITER", "1", "SOLVER.IMS_PER_BATCH", "2", "TEST.EVAL_PERIOD", "0",
]  # fmt: skip


class Touch:
    """Pickles as a command; reading it back without care runs that."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run folder of the light detector, with random weights."""
    folder = tmp_path_factory.mktemp("good") / "run"
    folder.mkdir()
    cfg = load_config("mobilenet_fpn", OVERRIDES)
    torch.manual_seed(0)
    model = build_network(cfg)
    save_weights(folder / "model.safetensors", model)
    (folder / "config.yaml").write_text(cfg.dump())
    card = {"kind": "detector", "name": "run", "trained_on": [], "chosen_on": [], "hours": 1.0}
    (folder / "card.json").write_text(json.dumps(card))
    FaceCheckpointer(model, str(folder)).save("model_0000000", iteration=0)
    return folder


@pytest.fixture
def run(good: Path, tmp_path: Path) -> Path:
    """A copy of the good run folder, to be spoilt."""
    return Path(shutil.copytree(good, tmp_path / "run"))


def set_key(run: Path, key: str, value: Any) -> None:
    """Put a value at a dotted key of the run's configuration."""
    file = run / "config.yaml"
    values = yaml.safe_load(file.read_text())
    *parents, name = key.split(".")
    place = values
    for parent in parents:
        place = place[parent]
    place[name] = value
    file.write_text(yaml.safe_dump(values))


def set_base(base: Any) -> Callable[[Path], object]:
    def change(run: Path) -> None:
        file = run / "config.yaml"
        file.write_text(yaml.safe_dump({"_BASE_": base}) + file.read_text())

    return change


def write_config(text: str) -> Callable[[Path], object]:
    return lambda run: (run / "config.yaml").write_text(text)


def bomb(run: Path) -> None:
    """Write lists of lists of aliases: 10 to the power of 9 values in 600 characters."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for i in range(1, 10):
        lines.append(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]")
    (run / "config.yaml").write_text("\n".join(lines))


def set_weight(value: float) -> Callable[[Path], object]:
    def change(run: Path) -> None:
        state = load_file(run / "model.safetensors")
        state["roi_heads.box_predictor.cls_score.bias"][0] = value
        save_file(state, run / "model.safetensors")

    return change


def set_state(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], object]:
    def spoil(run: Path) -> None:
        state = load_file(run / "model.safetensors")
        change(state)
        save_file(state, run / "model.safetensors")

    return spoil


RUN_FOLDERS: dict[str, Callable[[Path], object]] = {
    "base is an address": set_base("http://127.0.0.1:9/x.yaml"),
    "base is a folder's file": set_base("../run/config.yaml"),
    "base is absolute": set_base("/etc/passwd"),
    "base is in the home": set_base("~/.bashrc"),
    "base is itself": set_base("config.yaml"),
    "base is a list": set_base(["a.yaml", "b.yaml"]),
    "base is nothing": set_base(""),
    "aliases of aliases": bomb,
    "too long": write_config("A: " + "x" * 200_000),
    "nested too deeply": write_config("A: " + "[" * 5000),
    "python object": write_config("A: !!python/object/apply:os.system ['touch ran']"),
    "list": write_config("- 1"),
    "number": write_config("3"),
    "empty": write_config(""),
    "binary": lambda run: (run / "config.yaml").write_bytes(bytes(range(256))),
    "MODEL is a number": write_config("MODEL: 3"),
    "unknown key": write_config("NO_SUCH_KEY: 1"),
    "test size 0": lambda run: set_key(run, "INPUT.MIN_SIZE_TEST", 0),
    "test size negative": lambda run: set_key(run, "INPUT.MIN_SIZE_TEST", -5),
    "test size huge": lambda run: set_key(run, "INPUT.MIN_SIZE_TEST", 10**9),
    "limit of the size 0": lambda run: set_key(run, "INPUT.MAX_SIZE_TEST", 0),
    "test size is text": lambda run: set_key(run, "INPUT.MIN_SIZE_TEST", "big"),
    "colour order": lambda run: set_key(run, "INPUT.FORMAT", "YUV"),
    "architecture": lambda run: set_key(run, "MODEL.META_ARCHITECTURE", "NoSuchNet"),
    "another architecture": lambda run: set_key(run, "MODEL.META_ARCHITECTURE", "RetinaNet"),
    "backbone": lambda run: set_key(run, "MODEL.BACKBONE.NAME", "no_such_backbone"),
    "heads": lambda run: set_key(run, "MODEL.ROI_HEADS.NAME", "NoSuchHeads"),
    "feature maps": lambda run: set_key(run, "MODEL.FPN.IN_FEATURES", ["c9"]),
    "no feature maps": lambda run: set_key(run, "MODEL.ROI_HEADS.IN_FEATURES", []),
    "classes": lambda run: set_key(run, "MODEL.ROI_HEADS.NUM_CLASSES", 0),
    "pooler": lambda run: set_key(run, "MODEL.ROI_BOX_HEAD.POOLER_TYPE", "NoSuchPooler"),
    "deviation 0": lambda run: set_key(run, "MODEL.PIXEL_STD", [1.0, 0.0, 1.0]),
    "mean not finite": lambda run: set_key(run, "MODEL.PIXEL_MEAN", [float("nan"), 0.0, 0.0]),
    "two means": lambda run: set_key(run, "MODEL.PIXEL_MEAN", [1.0, 2.0]),
    "threshold not finite": lambda run: set_key(run, "MODEL.SCORE_THRESHOLD", float("nan")),
    "threshold above 1": lambda run: set_key(run, "MODEL.SCORE_THRESHOLD", 1.5),
    "suppression": lambda run: set_key(run, "MODEL.ROI_HEADS.NMS_THRESH_TEST", -1.0),
    "voting 0": lambda run: set_key(run, "MODEL.VOTING", 0.0),
    "containment": lambda run: set_key(run, "MODEL.CONTAINMENT", float("-inf")),
    "no detections": lambda run: set_key(run, "TEST.DETECTIONS_PER_IMAGE", 0),
    "number format": lambda run: set_key(run, "MODEL.BF16", "maybe"),
    "no anchors": lambda run: set_key(run, "MODEL.ANCHOR_GENERATOR.SIZES", []),
    "channels": lambda run: set_key(run, "MODEL.FPN.OUT_CHANNELS", -1),
    "weights not a number": set_weight(float("nan")),
    "weights infinite": set_weight(float("inf")),
    "a weight is missing": set_state(lambda state: state.popitem()),
    "a weight too many": set_state(lambda state: state.update(extra=torch.zeros(1))),
    "a weight of another shape": set_state(
        lambda state: state.update({next(iter(state)): torch.zeros(2, 3)})
    ),
    "weights cut": lambda run: os.truncate(run / "model.safetensors", 1000),
    "weights empty": lambda run: os.truncate(run / "model.safetensors", 0),
    "weights garbage": lambda run: (run / "model.safetensors").write_bytes(b"\xff" * 5000),
}


@pytest.mark.parametrize("case", RUN_FOLDERS)
def test_a_spoilt_run_folder_is_refused_by_every_reader(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, case: str
) -> None:
    monkeypatch.chdir(tmp_path)
    RUN_FOLDERS[case](run)
    with pytest.raises(UserError) as caught:
        load_run(run, "cpu")
    assert len(str(caught.value)) < 1000
    for main, words in (
        (export.main, [str(run), str(tmp_path / "out" / "name")]),
        (average.main, [f"{run}=1.0", "--out", str(tmp_path / "mean")]),
    ):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "Traceback" not in error
    assert not (tmp_path / "ran").exists() and not (tmp_path / "mean").exists()


def test_the_good_run_folder_loads(run: Path) -> None:
    assert load_run(run, "cpu").name == "run"


@pytest.mark.parametrize(
    "text", ["[1]", "{", "", "\x00", "[" * 100_000, '{"kind": "detector", "hours": NaN}', "nul"]
)
def test_a_spoilt_card_is_refused(run: Path, tmp_path: Path, capsys: Any, text: str) -> None:
    (run / "card.json").write_text(text)
    assert export.main([str(run), str(tmp_path / "out" / "name")]) == 2
    assert average.main([f"{run}=1.0", "--out", str(tmp_path / "mean")]) == 2
    assert "Traceback" not in capsys.readouterr().err


def command(faces: Any, out: Path, *more: str) -> list[str]:
    data = ["--train-coco", str(faces.coco), str(faces.images)]
    data += ["--val-coco", str(faces.coco), str(faces.images)]
    head = ["--config-file", "mobilenet_fpn", "--num-gpus", "0", *data]
    return [*head, *OVERRIDES, "OUTPUT_DIR", str(out), *more]


NAMES = ["../evil.pkl", "evil.pkl", "/etc/passwd", "..\\evil.pth", "sub/evil.pth", "..", "", "\0"]


@pytest.mark.parametrize("name", [*NAMES, "link.pth", "http://127.0.0.1:9/evil.pth", "x" * 999])
@pytest.mark.parametrize("eval_only", [False, True])
def test_last_checkpoint_must_be_a_file_of_the_run_folder(
    faces: Any, run: Path, capsys: Any, name: str, eval_only: bool
) -> None:
    ran = run.parent / "ran"
    evil = pickle.dumps({"model": {}, "__author__": Touch(ran)})
    for file in (run.parent / "evil.pkl", run / "evil.pkl", run.parent / "evil.pth"):
        file.write_bytes(evil)
    (run / "link.pth").symlink_to(run.parent / "evil.pth")
    (run / "last_checkpoint").write_text(name)
    options = ["--resume", *(["--eval-only"] if eval_only else [])]
    assert train.main([*options, *command(faces, run)]) == 2
    error = capsys.readouterr().err
    assert "last_checkpoint: names" in error and error.count("\n") == 1
    assert not ran.exists()


CHECKPOINTS: dict[str, Callable[[Path, dict[str, Any], Path], object]] = {
    "a command": lambda file, state, ran: torch.save(state | {"x": Touch(ran)}, file),
    "an old pickle": lambda file, state, ran: file.write_bytes(pickle.dumps(Touch(ran))),
    "text": lambda file, state, ran: file.write_text("hello"),
    "nothing": lambda file, state, ran: file.write_bytes(b""),
    "a list": lambda file, state, ran: torch.save([1, 2], file),
    "a number as model": lambda file, state, ran: torch.save({"model": 3}, file),
    "text as weight": lambda file, state, ran: torch.save({"model": {"a": "b"}}, file),
    "weights of another network": lambda file, state, ran: torch.save(
        {"model": {"a": torch.zeros(2)}}, file
    ),
    "not finite": lambda file, state, ran: torch.save(
        {"model": {k: v.float() * np.inf for k, v in state["model"].items()}}, file
    ),
    "cut": lambda file, state, ran: os.truncate(file, 10_000),
    "trainer is a number": lambda file, state, ran: torch.save(state | {"trainer": 3}, file),
    "no iteration": lambda file, state, ran: torch.save(state | {"trainer": {}}, file),
    "hooks of others": lambda file, state, ran: torch.save(
        state | {"trainer": {"iteration": "x", "hooks": [], "_trainer": {"optimizer": 0}}}, file
    ),
}


@pytest.mark.parametrize("case", CHECKPOINTS)
def test_a_spoilt_checkpoint_is_refused_by_resume(
    faces: Any, run: Path, capsys: Any, case: str
) -> None:
    ran, file = run.parent / "ran", run / "model_0000000.pth"
    CHECKPOINTS[case](file, torch.load(file, weights_only=True), ran)
    assert train.main(["--resume", *command(faces, run)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "Traceback" not in error
    assert not ran.exists()


class Elsewhere(OrderedDict):  # type: ignore[type-arg]
    """A class that a pickle may name, and that is no plain container."""


PICKLES: dict[str, Callable[[Path], Any]] = {
    "a command": lambda ran: {"model": {}, "__author__": Touch(ran)},
    "a command as weight": lambda ran: {"model": {"a": Touch(ran)}, "__author__": "x"},
    "Caffe2": lambda ran: {"blobs": {"a": Touch(ran)}},
    "a class": lambda ran: {"model": Elsewhere(a=np.zeros(1)), "__author__": "x"},
    "a function": lambda ran: {"model": {"a": os.getcwd}, "__author__": "x"},
    "a tensor's storage": lambda ran: {"model": {"a": torch.zeros(1)}, "__author__": "x"},
    "objects in an array": lambda ran: {
        "model": {"a": np.array([{}], dtype=object)},
        "__author__": "x",
    },
    "text as weight": lambda ran: {"model": {"a": "b"}, "__author__": "x"},
    "a list": lambda ran: [1, 2],
    "numbers as names": lambda ran: {1: np.zeros(1)},
    "nothing that fits": lambda ran: {"model": {"a": np.zeros(1)}, "__author__": "x"},
}


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve the temporary folder; downloads go there too."""
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.mark.parametrize("case", PICKLES)
@pytest.mark.parametrize("route", ["file", "http", "config"])
def test_a_poisoned_pickle_is_refused_as_model_weights(
    faces: Any, tmp_path: Path, web: str, capsys: Any, case: str, route: str
) -> None:
    ran, file = tmp_path / "ran", tmp_path / "evil.pkl"
    file.write_bytes(pickle.dumps(PICKLES[case](ran)))
    weights = f"{web}/evil.pkl" if route == "http" else str(file)
    argv = command(faces, tmp_path / "out", "MODEL.WEIGHTS", weights)
    if route == "config":
        cfg = load_config("mobilenet_fpn", [*OVERRIDES, "MODEL.WEIGHTS", weights])
        (tmp_path / "mine.yaml").write_text(cfg.dump())
        argv = ["--config-file", str(tmp_path / "mine.yaml"), "--num-gpus", "0", "--eval-only"]
        argv += ["--val-coco", str(faces.coco), str(faces.images)]
    assert train.main(argv) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("detection.train: ") and "evil.pkl" in error
    assert not ran.exists()


def test_weights_from_an_address_load_where_they_are_sound(
    faces: Any, good: Path, tmp_path: Path, web: str, capsys: Any
) -> None:
    state = {name: value.numpy() for name, value in load_file(good / "model.safetensors").items()}
    for protocol in (2, 4):
        content = pickle.dumps({"model": state, "__author__": "somebody"}, protocol=protocol)
        (tmp_path / f"fine{protocol}.pkl").write_bytes(content)
        argv = command(faces, tmp_path / "out", "MODEL.WEIGHTS", f"{web}/fine{protocol}.pkl")
        assert train.main(["--eval-only", *argv]) == 0
        assert "measured: AP" in capsys.readouterr().out


def test_a_base_beside_a_configuration_is_one_level_deep(tmp_path: Path) -> None:
    (tmp_path / "below.yaml").write_text(load_config("mobilenet_fpn").dump())
    (tmp_path / "above.yaml").write_text("_BASE_: below.yaml\nINPUT:\n  MIN_SIZE_TEST: 321\n")
    assert load_config(tmp_path / "above.yaml").INPUT.MIN_SIZE_TEST == 321
    with pytest.raises(UserError, match="none in a run folder"):
        load_config(tmp_path / "above.yaml", resolved=True)
    for base, message in (
        ("above.yaml", "one level only"),
        ("self.yaml", "one level only"),
        ("absent.yaml", "absent.yaml"),
        ("../below.yaml", "in the same folder"),
        ("http://127.0.0.1:9/x.yaml", "in the same folder"),
    ):
        (tmp_path / "self.yaml").write_text(f"_BASE_: {base}\n")
        with pytest.raises((UserError, OSError), match=message):
            load_config(tmp_path / "self.yaml")
