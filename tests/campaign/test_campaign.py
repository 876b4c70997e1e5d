"""The campaign in small, as often as all tests run; ``make fuzz`` and ``make chaos`` do many."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eval.records.report import read_record
from eval.records.sections import ROBUSTNESS_CAMPAIGN
from tests.campaign import data_files, kills, pictures, record, tables
from tests.campaign.__main__ import RIGHT

STANDING_IN = ("-m", "tests.twostage.batch.scripted_run", "0.01")


def wrong(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if value and key not in RIGHT}


@pytest.mark.timeout(600)
def test_damaged_pictures_are_analysed_or_refused(tmp_path: Path) -> None:
    row = pictures.fuzz(60, seed=1, folder=tmp_path / "work", command=STANDING_IN)
    assert not wrong(row) and row["answered"] + row["refused"] == row["inputs"] == 60


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_300_damaged_pictures_take_less_than_2_gb(tmp_path: Path) -> None:
    row = pictures.fuzz(300, seed=2, folder=tmp_path / "work")
    assert not wrong(row) and row["inputs"] == 300 and row["peak_mb"] < 2000


@pytest.mark.timeout(600)
@pytest.mark.parametrize("reader", data_files.READERS)
def test_damaged_data_files_are_read_or_refused(tmp_path: Path, reader: str) -> None:
    ending, content, read = data_files.READERS[reader]
    (tmp_path / f"good{ending}").write_bytes(content())
    read(tmp_path / f"good{ending}")
    for number in range(14):
        data = data_files.data_file(3, reader, number)
        (tmp_path / f"{number:05d}{ending}").write_bytes(data)
    found = list(data_files.read_all(reader, tmp_path))
    assert len(found) == 14
    assert [one for one in found if one["outcome"] not in ("answered", "refused")] == []


@pytest.mark.timeout(600)
def test_killed_and_resumed_analyses_lose_nothing(tmp_path: Path) -> None:
    how: dict[str, Any] = {"command": STANDING_IN, "copies": 40, "forms": ["jsonl"]}
    row = kills.analyze(2, seed=0, folder=tmp_path / "work", **how)
    assert not wrong(row) and row["kills"] == 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("training", [kills.classification, kills.detection])
def test_killed_and_resumed_trainings_have_equal_bits(tmp_path: Path, training: Any) -> None:
    row = training(2, seed=0, folder=tmp_path / "work")
    assert not wrong(row) and row["kills"] >= 1


def test_no_spelling_of_a_private_address_is_let_through(tmp_path: Path) -> None:
    row = tables.addresses(0, 0, tmp_path / "work")
    assert not wrong(row) and row["inputs"] >= 100


def test_the_same_seed_makes_the_same_inputs() -> None:
    assert pictures.picture(1, 8) == pictures.picture(1, 8) != pictures.picture(2, 8)
    assert data_files.data_file(1, "coco", 7) == data_files.data_file(1, "coco", 7)


def test_a_reader_that_fails_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path) -> object:
        raise KeyError("x")

    monkeypatch.setitem(data_files.READERS, "coco", (".json", data_files.coco, read))
    (tmp_path / "00000.json").write_text("{}")
    (found,) = data_files.read_all("coco", tmp_path)
    assert found["outcome"] == "tracebacks" and "KeyError" in found["said"]


def test_a_campaign_replaces_its_row_of_the_record_alone(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    for campaign, inputs in (("b", 1), ("a", 2), ("b", 3)):
        record.merge(path, {"campaign": campaign, "inputs": inputs}, "python -m x")
    rows = read_record(path, {ROBUSTNESS_CAMPAIGN.kind})
    assert [(row["campaign"], row["inputs"]) for row in rows] == [("a", 2), ("b", 3)]
    assert json.loads(path.read_text())["runs"][0]["weights_sha256"] == {}
