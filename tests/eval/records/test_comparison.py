"""The comparison from made-up records: its tables, its figures, what is trained and measured."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
from PIL import Image

from baselines import train
from classification.training.recipe import load_recipe
from eval import figures, refresh, systems, tables
from eval.classification import figures as measured_figures
from eval.metrics.grouping import group_figures, top_k
from eval.records import publish
from eval.records.comparison import System, find_systems, read_systems, sections
from eval.records.report import Row, write_report
from eval.records.staleness import present_hashes, shipped_weights
from faces.command import UserError
from faces.emotions import EMOTIONS, GROUPINGS

N = 140
TRUTH = np.arange(N) % 7


def record(name: str, right: int, **more: Any) -> Row:
    """A record of a classifier that has ``right`` pictures right and calls the others happy."""
    predicted = np.where(np.arange(N) < right, TRUTH, 3)
    scores = 0.9 * np.eye(7, dtype=np.float32)[predicted] + np.float32(0.1 / 7)
    return {
        "classifier": name,
        "split": "PrivateTest",
        "views": "single",
        **measured_figures(scores, TRUTH),
        "top": [top_k(scores, TRUTH, k) for k in (1, 2, 3)],
        "groups": {key: group_figures(scores, TRUTH, key) for key in GROUPINGS},
        "without_twins": measured_figures(scores[70:], TRUTH[70:]),
        "ferplus_majority": measured_figures(scores[:70], TRUTH[:70]),
        "truth": "".join(map(str, TRUTH)),
        "predicted": "".join(map(str, predicted)),
        "ms_per_face": 1.5,
        "weights_sha256": {name: "ab"},
        "weights_bytes": 2_000_000,
        "parameters": 500_000,
        "training_hours": 0.25,
        "history": [
            {"epoch": e, "accuracy": 0.1 * e, "training_loss": 1 / e, "loss": 1.0} for e in (1, 2)
        ],
        "command": f"python -m eval.classification --classifier {name} --out results/{name}.json",
        **more,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    results = tmp_path / "results"
    (results / "systems").mkdir(parents=True)
    for name, right in (("knn_pixels", 80), ("simple_cnn", 90), ("mlp_pixels", 82)):
        write_report(results / "systems" / f"{name}.json", "classification", [record(name, right)])
    write_report(results / "fer2013.json", "classification", [record("accurate", 120)])
    write_report(results / "ten.json", "classification", [record("accurate", 122, views="ten")])
    return results


def rows(text: str, heading: str) -> list[list[str]]:
    part = text.split(f"{heading}\n")[1].split("\n#")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if ":-" not in line
    ]


def test_rows_stand_in_the_order_of_the_systems(folder: Path) -> None:
    text = tables.render(tables.read_rows(folder))
    table = rows(text, "## The comparison on FER2013")
    titles = [row[0] for row in table]
    assert titles == [
        "system",
        "always the largest class",
        "chance",
        *(system.title for system in read_systems()),
    ]
    by_title = {row[0]: row for row in table}
    knn = by_title["KNN on pixels"]
    right = 80 + sum(TRUTH[80:] == 3)
    assert knn[1:4] == ["31.5 %", "not said", f"{100 * right / N:.2f} %"]
    assert knn[5] == f"{100 * (10 + sum(TRUTH[80:] == 3)) / 70:.2f} %"
    assert by_title["base net: 2 convolutions"][3:] == ["–"] * 5
    assert by_title["always the largest class"][3] == "14.29 %"
    costs = {row[0]: row[1:] for row in rows(text, "### What each is called, and costs")}
    assert costs["KNN on pixels"] == ["`knn_pixels`", "0.5", "2", "15", "1.5"]
    assert costs["base net: 2 convolutions"] == ["`base_cnn`", *["–"] * 4]


def test_systems_have_no_place_in_the_readme_and_the_general_table(folder: Path) -> None:
    runs = tables.read_rows(folder)
    text = tables.render(runs)
    assert [row[0] for row in rows(text, "## Emotions of face crops")[1:]] == ["fer2013", "ten"]
    readme = tables.update_readme(f"a{tables.START}b{tables.END}c", runs)
    assert "92.14 %" not in readme.split("knn_pixels")[0] and "knn" not in readme
    assert "- `systems/knn_pixels`: `python -m" in text


def test_neighbours_are_compared_on_the_same_pictures(folder: Path) -> None:
    text = tables.render(tables.read_rows(folder))
    table = rows(text, "### Neighbours")
    assert [row[:2] for row in table[1:3]] == [
        ["KNN on pixels", "MLP on pixels, properly trained"],
        ["MLP on pixels, properly trained", "simple CNN: 3 convolutions"],
    ]
    gained = sum(TRUTH[80:82] != 3)
    assert table[1][3:] == ["0", str(gained), f"{min(1, 2 / 2**gained):.4f}"]


def test_best_and_worst_of_each_emotion_are_marked(folder: Path) -> None:
    text = tables.render(tables.read_rows(folder))
    table = {row[0]: row for row in rows(text, "#### Fear")}
    predicted = np.where(np.arange(N) < 122, TRUTH, 3)
    recall = sklearn.metrics.recall_score(TRUTH, predicted, average=None)[2]
    assert table["ours, accurate, ten views"][2] == f"**{100 * recall:.2f} %**"
    assert table["KNN on pixels"][2].startswith("*") and table["KNN on pixels"][4] == "20"
    assert "**" not in table["MLP on pixels, properly trained"][2]
    assert [e in text for e in EMOTIONS]

    best = record("keras_cnn_resplit", N, split="PublicTest")  # other pictures than the others'
    write_report(folder / "systems" / "resplit.json", "classification", [best])
    text = tables.render(tables.read_rows(folder))
    again = {row[0]: row for row in rows(text, "#### Fear")}
    assert again["Keras-style CNN, its own split"][1:4] == ["100.00 %", "100.00 %", "1"]
    assert again["ours, accurate, ten views"] == table["ours, accurate, ten views"]


def test_nothing_is_said_without_records(folder: Path) -> None:
    assert sections([]) == []
    assert not any(system.row for system in find_systems([]))


def test_every_system_can_be_trained_or_is_shipped() -> None:
    found = read_systems()
    keys = [(system.classifier, system.split, system.views) for system in found]
    assert len(set(keys)) == len(keys)
    for system in found:
        if system.train is None:
            continue
        words = systems.training_words(system, Path("d.zip"), Path("r"))
        assert words[1] in ("baselines.train", "classification.train")
        assert ("--resume" in words) == (words[1] == "classification.train")
        if "--recipe" in words:
            assert Path(words[words.index("--recipe") + 1]).is_file()
        else:
            name = f"{words[words.index('--model') + 1]}_{words[words.index('--features') + 1]}"
            assert name == system.classifier


def test_overrides_come_last() -> None:
    (scratch,) = (s for s in read_systems() if s.classifier == "resnet18_scratch")
    words = systems.training_words(scratch, Path("d"), Path("r"))
    assert words[-2:] == ["published_start", "false"]


def test_unknown_systems_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert systems.main(["nothing", "--data", str(tmp_path)]) == 2
    assert "nothing: no system that is trained; known: knn_pixels" in capsys.readouterr().err


def test_done_work_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    recipe = tmp_path / "r.toml"
    recipe.write_text("epochs = 2\n")
    train = f"classification.train --recipe {recipe} batch_size 8"
    system = System("t", "simple_cnn", train=train, resplit=True)
    folder = tmp_path / "runs" / "simple_cnn"

    def fake_python(*words: str) -> None:
        calls.append(words[1])
        if words[1] == "classification.resplit":
            Path(words[-1]).parent.mkdir(parents=True)
            Path(words[-1]).write_text("zip")
        else:
            folder.mkdir(parents=True, exist_ok=True)
            made = load_recipe(recipe, ["batch_size", "8"]).to_dict()
            (folder / "card.json").write_text(json.dumps({"training": {"recipe": made}}))
            (folder / "model.safetensors").write_text("weights")

    def fake_measure(argv: list[str]) -> int:
        calls.append("measure")
        out = Path(argv[argv.index("--out") + 1])
        out.parent.mkdir(exist_ok=True)
        facts = systems.classifier_facts(str(folder))
        out.write_text(json.dumps({"weights_sha256": facts["weights_sha256"]}))
        return 0

    monkeypatch.setattr(systems, "python", fake_python)
    monkeypatch.setattr(systems.classification, "main", fake_measure)
    for _ in range(2):
        systems.train_and_measure(system, tmp_path / "d", tmp_path / "runs", tmp_path / "out")
    assert calls == ["classification.resplit", "classification.train", "measure"]
    (folder / "model.safetensors").write_text("other weights")
    systems.train_and_measure(system, tmp_path / "d", tmp_path / "runs", tmp_path / "out")
    assert calls[3:] == ["measure"]
    recipe.write_text("epochs = 3\n")
    systems.train_and_measure(system, tmp_path / "d", tmp_path / "runs", tmp_path / "out")
    assert calls[4:] == ["classification.train", "measure"]


def test_an_embedding_of_another_network_is_trained_anew(tmp_path: Path) -> None:
    network = tmp_path / "n.safetensors"
    network.write_text("one")
    system = System("t", "knn_embedding", train=f"baselines.train --network {network}")
    assert not systems.is_trained(system, tmp_path)
    sha = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    (tmp_path / "card.json").write_text(json.dumps({"training": {"network_sha256": sha}}))
    assert systems.is_trained(system, tmp_path)
    network.write_text("two")
    assert not systems.is_trained(system, tmp_path)
    (tmp_path / "card.json").write_text("{")
    with pytest.raises(UserError, match=r"card.json: not valid JSON"):
        systems.is_trained(system, tmp_path)


def test_failures_name_the_command() -> None:
    with pytest.raises(UserError, match="status 3: python -c 'raise SystemExit"):
        systems.python("-c", "raise SystemExit(3)")


# --- Refreshing


def test_stale_records_are_those_of_other_weights() -> None:
    present = {"a": "1", "b": "2"}
    records = [
        {"weights_sha256": {"a": "1"}, "command": "fresh"},
        {"weights_sha256": {"a": "0"}, "command": "python -m x --out old"},
        {"weights_sha256": {"a": "1", "b": "0"}, "command": "python -m x --keep y --out both"},
        {"weights_sha256": {"gone": "3"}, "command": "python -m x --classifier gone --out gone"},
        {"weights_sha256": {"own": "3"}, "command": "python -m x --classifier runs/own --out own"},
        {"weights_sha256": {}, "command": "python -m x --detector haar --out others"},
        {"command": "python -m x --write --out unknown"},
        {"command": "python -m x --write --out unknown"},
    ]
    found = refresh.stale_commands(records, present)
    assert [words[-1] for words in found] == ["unknown", "both", "old", "gone"]


def test_records_name_the_shipped_weights_that_their_commands_do(tmp_path: Path) -> None:
    present = present_hashes()
    fast, light = (
        hashlib.sha256(Path(f"weights/{name}.safetensors").read_bytes()).hexdigest()
        for name in ("fast", "mobilenet_fpn")
    )
    assert (present["fast"], present["mobilenet_fpn"]) == (fast, light)
    assert present["mobilenet_fpn_fast"] == light and "haar" not in present
    command = "python -m x --detector default haar --classifier accurate+fast runs/fast --out y"
    runs: list[Row] = [{"command": command, "classifier": "fer"}, {"command": "c", "detector": "z"}]
    runs += [{"command": "c", "weights_sha256": {"own": "1"}}, {"command": "c", "detector": None}]
    write_report(tmp_path / "r.json", "joint", runs)
    named = [one["weights_sha256"] for one in json.loads((tmp_path / "r.json").read_text())["runs"]]
    assert set(named[0]) == {"mobilenet_fpn", "mobilenet_fpn.yaml", "accurate", "fast"}
    config = hashlib.sha256(Path("weights/mobilenet_fpn.yaml").read_bytes()).hexdigest()
    assert named[0]["mobilenet_fpn.yaml"] == config
    setting = {"mobilenet_fpn.yaml", "mobilenet_fpn_fast.yaml", "mobilenet_fpn_fast"}
    assert set(shipped_weights({"detector": "mobilenet_fpn_fast"})) == setting
    assert named[0]["fast"] == fast and named[1:] == [{}, {"own": "1"}, {}]


def test_commands_find_data_elsewhere() -> None:
    words = ["python", "-m", "eval.x", "--data", "data/fer2013.zip", "--out", "results/x.json"]
    assert refresh.moved(words, Path("data")) == words[1:]
    assert refresh.absent_runs([*words, "fer=runs/gone.json"]) == ["runs/gone.json"]
    assert refresh.absent_runs(["--classifier", "fast+runs/gone+runs/lost"]) == [
        "runs/gone",
        "runs/lost",
    ]
    assert refresh.absent_runs(words) == []
    assert refresh.moved(words, Path("/d"))[3] == "/d/fer2013.zip"
    for broken in (["rm", "-rf", "data"], ["python", "-m", "eval.x"]):
        with pytest.raises(UserError, match="no command of a record"):
            refresh.moved(broken, Path("data"))


def test_a_record_of_an_ensemble_is_current_whatever_its_runs_weigh() -> None:
    record = {"command": "python -m x --classifier fast+runs/a+runs/b --out y"}
    measured = {"fast": "1", "a": "2", "b": "3"}
    assert refresh.is_current(record | {"weights_sha256": measured}, {"fast": "1"})
    assert not refresh.is_current(record | {"weights_sha256": measured}, {"fast": "0"})
    assert not refresh.is_current(record | {"weights_sha256": measured | {"c": "4"}}, {"fast": "1"})


def test_committed_records_are_of_the_shipped_weights() -> None:
    present = present_hashes()
    for one in tables.read_rows(tables.ROOT / "results"):
        if "weights_sha256" in one:
            assert refresh.is_current(one, present), (
                f"{one['record']} measured other weights: run make refresh DATA=data"
            )


def test_a_record_without_its_detectors_configuration_is_stale() -> None:
    record = {"command": "python -m x --detector a --out y", "weights_sha256": {"a": "1"}}
    present = {"a": "1", "a.yaml": "2"}
    assert not refresh.is_current(record, present)
    assert refresh.is_current(record | {"weights_sha256": present}, present)
    assert not refresh.is_current(record | {"weights_sha256": present}, present | {"a.yaml": "3"})


def test_committed_records_name_no_folder_of_one_machine() -> None:
    for one in tables.read_rows(tables.ROOT / "results"):
        words = shlex.split(one["command"])
        assert not [word for word in words if word.rpartition("=")[2].startswith(("/", "~"))]


@pytest.mark.parametrize(
    ("file", "found", "not_found"),
    [
        (
            "accurate",
            {"fer2013_private_single", "portraits_joint", "calibration", "unsure"},
            {"systems/knn_hog_pca", "wider_held_out", "x101_cost"},
        ),
        (
            "mobilenet_fpn_accurate.yaml",
            {"wider_held_out", "operating_point_accurate"},
            {"crop_study", "portraits_joint", "detector_batches"},
        ),
    ],
)
def test_a_record_of_files_that_are_no_longer_shipped_is_found(
    file: str, found: set[str], not_found: set[str]
) -> None:
    present = present_hashes() | {file: "0"}
    stale = {
        one["record"]
        for one in tables.read_rows(tables.ROOT / "results")
        if "weights_sha256" in one and not refresh.is_current(one, present)
    }
    assert found <= stale
    assert not not_found & stale


def test_every_picture_of_the_documents_is_redone_or_said_to_be_left_out() -> None:
    commands = [one["command"].split() for one in tables.read_rows(tables.ROOT / "results")]
    redone = {words[words.index("--picture") + 1] for words in commands if "--picture" in words}
    for words in commands:
        if "--figures" in words:
            stem, folder = Path(words[words.index("--out") + 1]).stem, words[-1]
            redone |= {f"{folder}/{stem}_{kind}.png" for kind in ("miss_rate", "precision_recall")}
    drawn = "classes confusion_counts confusion_shares guesses learning explained".split()
    redone |= {f"docs/figures/{name}.png" for name in drawn} | {"docs/figures/sample.jpg"}
    pictures = {
        path.relative_to(tables.ROOT).as_posix()
        for kind in ("png", "jpg")
        for path in (tables.ROOT / "docs").rglob(f"*.{kind}")
    }
    assert pictures - redone == {"docs/demo_dark.png", "docs/demo_light.png"}
    assert "tests/browser/screenshots.py" in str(refresh.__doc__)


def test_everything_is_redone_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, runs = tmp_path / "results", tmp_path / "runs"
    (results / "systems").mkdir(parents=True)
    for name in ("knn_pixels", "knn_embedding"):
        weights = {name: "1"} | ({"accurate": "0"} if "embedding" in name else {})
        command = f"python -m eval.classification --classifier runs/{name} --out x"
        one = record(name, 90, weights_sha256=weights, command=command)
        write_report(results / "systems" / f"{name}.json", "classification", [one])
    for name, words in (
        ("a", "--data data/a.zip"),
        ("b", "--results z=runs/gone.json --gallery runs/page.html"),
        ("c", "--keep runs/kept"),
    ):
        one = record(name, 90, command=f"python -m eval.x {words} --out results/{name}.json")
        write_report(
            results / f"{name}.json",
            "classification",
            [one | {"weights_sha256": {"accurate": "0"}}],
        )
    calls: list[str] = []

    def fake_python(*words: str) -> None:
        calls.append(" ".join(words[1:4]))
        if "--keep" in words:
            raise UserError("no packages")

    monkeypatch.setattr(refresh, "python", fake_python)
    monkeypatch.setattr(
        refresh, "train_and_measure", lambda system, *rest: calls.append(system.classifier)
    )
    monkeypatch.setattr(refresh, "stale_cards", lambda: ["accurate"])
    failed, absent = refresh.refresh(tmp_path, runs, results)
    assert failed == "no packages"
    assert absent.startswith("runs/gone.json is not here: python -m eval.x --results")
    assert calls == [
        "eval.card accurate --data",
        "eval.x --keep runs/kept",
        f"eval.x --data {tmp_path}/a.zip",
        "knn_embedding",
        "eval.tables",
        "eval.figures --photo samples/group.jpg",
    ]


def test_cards_without_the_present_weights_figures_are_stale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fast = refresh.shipped_models("classifier")["fast"]
    sha = present_hashes()["fast"]
    for measured, expected in (({"weights_sha256": sha}, []), ({}, ["fast"])):
        monkeypatch.setattr(type(fast), "card", lambda self, m=measured: {"measured": m})
        monkeypatch.setattr(refresh, "shipped_models", lambda stage: {"fast": fast})
        assert refresh.stale_cards() == expected


# --- Repeating


@pytest.fixture
def fer2013(tmp_path: Path) -> Path:
    rng = np.random.default_rng(5)
    patterns = rng.integers(0, 200, (7, 48, 48))
    lines = ["emotion,Usage,pixels"]
    for part, count in (("Training", 140), ("PublicTest", 28), ("PrivateTest", 40)):
        for number in range(count):
            pixels = (patterns[number % 7] + rng.integers(0, 56, (48, 48))).ravel()
            lines.append(f"{number % 7},{part},{' '.join(map(str, pixels))}")
    path = tmp_path / "fer2013.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_repetition_gives_the_recorded_figure(
    fer2013: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(systems, "python", lambda *words: train.main(words[2:]))
    places = ["--data", str(fer2013), "--out", str(tmp_path / "records")]
    places += ["--runs", str(tmp_path / "runs")]
    check = ["svm_hog", "--check", *places]
    assert systems.main(check) == 2
    assert "no record to compare with" in capsys.readouterr().err
    assert systems.main(["svm_hog", *places]) == 0
    assert systems.main(check) == 0
    out = capsys.readouterr().out
    file = tmp_path / "records" / "svm_hog.json"
    one = json.loads(file.read_text())
    shown = f"{100 * one['accuracy']:.2f} %"
    assert f"recorded {shown}, repeated {shown}: within 0.2 points" in out
    file.write_text(json.dumps(one | {"accuracy": one["accuracy"] - 0.003}))
    assert systems.main(check) == 1
    assert "NOT within 0.2 points" in capsys.readouterr().out
    assert not list((tmp_path / "runs" / "repeated").iterdir())


# --- Figures


def test_figures_are_drawn_from_the_records(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "figures"
    assert figures.main(["--results", str(folder), "--out", str(out)]) == 0
    names = {path.stem for path in out.glob("*.png")}
    assert names == {"classes", "confusion_counts", "confusion_shares", "guesses", "learning"}
    for path in out.iterdir():
        with Image.open(path) as picture:
            assert picture.width > 400 and len(picture.convert("L").getcolors(256)) > 10


def test_each_training_has_its_curve_and_each_system_its_guesses(folder: Path) -> None:
    measured = [one for one in find_systems(tables.read_rows(folder)) if one.row]
    learning = figures.learning_figure(measured)
    assert learning is not None
    titles = [axes.get_title() for axes in learning.axes if axes.get_title()]
    assert len(titles) == 4 and "ours, accurate, ten views" not in titles
    own = learning.axes[titles.index("simple CNN: 3 convolutions")].get_lines()[-1]
    assert np.allclose(own.get_ydata(), [10, 20])
    left, right = figures.guesses_figure(measured).axes
    for k, line in enumerate(left.get_lines()):
        assert np.allclose(line.get_xdata(), [100 * one.row["top"][k] for one in measured])
    shown = [line.get_label() for line in right.get_lines()]
    assert shown == ["seven emotions", "six classes", "positive, neutral, negative"]
    assert figures.learning_figure([]) is None


def test_confusion_matrices_are_shown_as_counts_and_as_shares(folder: Path) -> None:
    (knn,) = (s for s in find_systems(tables.read_rows(folder)) if s.classifier == "knn_pixels")
    for shares in (False, True):
        (axes,) = figures.confusion_figure([knn], shares=shares).axes
        shown = np.array([int(text.get_text()) for text in axes.texts]).reshape(7, 7)
        true = sklearn.metrics.confusion_matrix(
            TRUTH, np.where(np.arange(N) < 80, TRUTH, 3), normalize="true" if shares else None
        )
        assert np.array_equal(shown, np.rint(100 * true) if shares else true)


@pytest.mark.parametrize("place", ["docs/x", "mine", "."])
def test_pictures_of_faces_cannot_be_committed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    options = ["--results", str(folder), "--out", str(tmp_path / "f"), "--data", str(folder)]
    assert figures.main([*options, "--faces", str(tables.ROOT / place)]) == 2
    assert "go to output/, runs/ or out of the clone" in capsys.readouterr().err
    ignored = (tables.ROOT / ".gitignore").read_text().split()
    for name in figures.IGNORED:
        figures.check_private(tables.ROOT / name / "figures")
        assert {f"/{name}", f"/{name}/"} & set(ignored)
    figures.check_private(tmp_path)


def test_answers_are_framed() -> None:
    from classification.data.fer2013 import Fer2013

    rng = np.random.default_rng(0)
    labels = np.arange(20, dtype=np.int64) % 7
    images = rng.integers(0, 256, (20, 48, 48), dtype=np.uint8)
    data = Fer2013(images, labels, np.array(["PublicTest"] * 20), tuple(map(str, range(20))))
    scores = np.eye(7, dtype=np.float32)[(labels + (np.arange(20) < 4)) % 7]
    (axes,) = figures.answers_figure(data, scores).axes
    texts = [text.get_text() for text in axes.texts]
    assert len(texts) == len(axes.patches) == 20
    assert sum("\nis " in text for text in texts) == 4
    (axes,) = figures.samples_figure(data).axes
    shown = np.asarray(axes.images[0].get_array())
    expected = {(0, 0): 0, (1, 0): 1, (0, 1): 7}  # row and column of a picture
    for (row, column), index in expected.items():
        found = shown[48 * row : 48 * row + 48, 48 * column : 48 * column + 48]
        assert np.array_equal(found, images[index])


# --- The page


def test_the_page_takes_its_figures_from_the_records(folder: Path) -> None:
    found = find_systems(tables.read_rows(folder))
    text = (
        "{{knn_pixels accuracy}} {{simple_cnn - knn_pixels accuracy}} {{base_cnn accuracy}} "
        "{{simple_cnn - base_cnn accuracy}} {{simple_cnn per_class.fear.support}} "
        "{{simple_cnn ms_per_face}} {{simple_cnn top.2}} {{accurate@ten - accurate accuracy}}"
    )
    runs = {system.classifier: system.row for system in reversed(found)}
    knn, cnn = runs["knn_pixels"], runs["simple_cnn"]
    assert publish.fill(text, found) == (
        f"{100 * knn['accuracy']:.1f} % {100 * (cnn['accuracy'] - knn['accuracy']):+.1f} points – "
        f"– 2000.0 % 1.5 {100 * cnn['top'][2]:.1f} % {100 * 2 / N:+.1f} points"
    )


def test_the_page_refuses_what_there_is_not(folder: Path) -> None:
    found = find_systems(tables.read_rows(folder))
    for text, cause in (("{{magic accuracy}}", "no system magic"), ("{{simple_cnn x}}", "no such")):
        with pytest.raises(UserError, match=cause):
            publish.fill(text, found)


@pytest.mark.parametrize("name", ["knn_pixels", "mlp_defaults_pixels", "simple_cnn"])
def test_the_published_figure_is_reached(name: str) -> None:
    found = find_systems(tables.read_rows(tables.ROOT / "results"))
    (system,) = (one for one in found if one.classifier == name)
    if system.row:
        assert 100 * system.row["accuracy"] >= float(str(system.published).split()[0])


def test_every_figure_of_the_committed_page_can_be_filled(folder: Path) -> None:
    for system in read_systems():
        name = system.classifier
        one = record(name, 100, split=system.split, views=system.views)
        write_report(folder / "systems" / f"{name}_{system.views}.json", "classification", [one])
    filled = publish.fill(
        publish.TEMPLATE.read_text("utf-8"), find_systems(tables.read_rows(folder))
    )
    assert "{{" not in filled and "–" not in filled


def test_a_command_that_fails_is_named_and_one_that_is_stopped_stops() -> None:
    systems.python("-c", "")
    with pytest.raises(UserError, match="failed with status 3: python -c 'raise Sys"):
        systems.python("-c", "raise SystemExit(3)")
    with pytest.raises(KeyboardInterrupt):
        systems.python("-c", "raise SystemExit(130)")


def test_ctrl_c_leaves_a_training_the_time_to_save(tmp_path: Path) -> None:
    started, saved = tmp_path / "started", tmp_path / "saved"
    child = f"""
import pathlib, time
try:
    pathlib.Path({str(started)!r}).touch()
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(1)
    pathlib.Path({str(saved)!r}).touch()
    raise SystemExit(130)
"""
    parent = f"""
from eval import systems
from faces import command
raise SystemExit(command.run("eval.x", lambda: systems.python("-c", {child!r})))
"""
    options: dict[str, Any] = {"start_new_session": True, "stderr": subprocess.PIPE, "text": True}
    # a shell's background jobs, these tests perhaps, are started with Ctrl-C ignored
    options["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen([sys.executable, "-c", parent], **options) as process:
        while not started.exists() and process.poll() is None:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and saved.exists()
    assert errors == "\neval.x: stopped; what was finished is kept\n"
