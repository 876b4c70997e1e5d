"""What depends on changed weights is found and measured again."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from eval import refresh, tables
from eval.records.report import write_report
from eval.records.staleness import present_hashes
from faces.command import UserError
from tests.eval.made_records import record


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


def test_commands_are_moved_to_data_elsewhere() -> None:
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


def test_refresh_runs_cards_then_records_then_systems_then_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
