from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from eval.data.options import check_out, precision_of
from eval.records import report
from eval.records.report import (
    cell,
    provenance,
    read_record,
    strict,
    table,
    write_report,
)
from faces.command import UserError, run


def test_one_run_is_a_flat_object_and_several_are_a_list(tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    write_report(out, "detection", [{"ap": 0.5}])
    assert json.loads(out.read_text()) == {"kind": "detection", "ap": 0.5}
    write_report(out, "detection", [{"ap": 0.5}, {"ap": 0.25}])
    assert json.loads(out.read_text()) == {
        "runs": [{"kind": "detection", "ap": ap} for ap in (0.5, 0.25)]
    }
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_reports_are_strict_json(tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    value = {"a": float("nan"), "b": np.float32("inf"), "c": np.arange(2), "d": (np.int64(1),)}
    write_report(out, "detection", [value | {"é": "ü"}])
    parsed = json.loads(out.read_text(encoding="utf-8"), parse_constant=lambda name: 1 / 0)
    assert parsed == {"kind": "detection", "a": None, "b": None, "c": [0, 1], "d": [1], "é": "ü"}


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("{", "not valid JSON"),
        ("[1]", "no record of an evaluation"),
        ('{"command": "c"}', "its kind is None, none of detection, joint; measure again"),
        ('{"command": "c", "kind": "card"}', "its kind is card, none of detection, joint"),
        ('{"runs": [{"kind": "joint"}]}', "names no command; measure again"),
    ],
)
def test_a_file_that_is_no_record_of_these_kinds_is_refused_with_its_cause(
    tmp_path: Path, text: str, cause: str
) -> None:
    path = tmp_path / "odd.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"odd\.json: ") as refused:
        read_record(path, {"joint", "detection"})
    assert cause in str(refused.value)


def test_what_was_written_is_read_again_with_its_kind(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    row = {"command": "c", "weights_sha256": {}, "ap": 0.5}
    for rows in ([row], [row, row | {"ap": None}]):
        write_report(path, "detection", rows)
        assert read_record(path, {"detection"}) == [{"kind": "detection"} | one for one in rows]


def test_an_old_report_survives_a_failure(tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    out.write_text("old")
    with pytest.raises(TypeError):
        write_report(out, "detection", [{"a": object()}])
    assert out.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_bad_places_are_refused_before_anything_is_measured(tmp_path: Path) -> None:
    check_out(None)
    check_out(tmp_path / "new" / "folder" / "report.json")
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        check_out(tmp_path / "file" / "report.json")
    with pytest.raises(UserError, match="is a folder"):
        check_out(tmp_path)


def test_cells() -> None:
    assert cell(0.12345, "percent") == "12.35 %" or cell(0.12345, "percent") == "12.34 %"
    assert cell(float("nan"), "percent") == cell(None, "number") == "–"
    assert (cell(3, "count"), cell(12.345, "number"), cell("x", "text")) == ("3", "12.3", "x")
    assert strict({1: [np.bool_(True)]}) == {"1": [True]}


def test_tables_show_the_chosen_columns() -> None:
    text = table(
        [{"detector": "haar", "ap": 0.5, "more": 1}], {"detector": "text", "ap": "percent"}
    )
    assert "haar" in text and "50.00 %" in text and "more" not in text
    assert "ap" in table([], {"ap": "percent"})


@dataclass
class Model:
    dtype: object


@dataclass
class Several:
    members: tuple[object, ...]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Model(torch.bfloat16), "bfloat16"),
        (Model("float32"), "float32"),
        (object(), None),
        (Several((Model("float32"), Model("float32"))), "float32"),
        (Several((Model("float32"), Model("bfloat16"))), None),
        (Several((Model("float32"), object())), None),
    ],
)
def test_a_models_precision_is_the_one_that_all_its_members_name(
    model: object, expected: str | None
) -> None:
    assert precision_of(model) == expected


def test_provenance_names_the_processor_that_runs_the_models(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(report, "usable_device", lambda device: device or "cuda")
    monkeypatch.setattr(report, "processor_name", lambda: "a CPU")
    monkeypatch.setattr(report, "processor_class", lambda: "AVX2, float32")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device}")
    shown = [provenance("c", device) for device in ("cpu", "cuda:1", None)]
    assert [(row["processor"], row["processor_class"]) for row in shown] == [
        ("a CPU", "AVX2, float32"),
        ("GPU cuda:1", None),
        ("GPU None", None),
    ]


def test_errors_become_one_line_and_a_status(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(error: BaseException) -> int:
        raise error

    assert run("eval.x", lambda: 1) == 1
    assert run("eval.x", lambda: fail(UserError("a.json: bad\nfile"))) == 2
    assert run("eval.x", lambda: fail(PermissionError(13, "Permission denied", "b.json"))) == 2
    assert run("eval.x", lambda: fail(KeyboardInterrupt())) == 130
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "eval.x: a.json: bad file"
    assert lines[1] == "eval.x: b.json: Permission denied"
    with pytest.raises(ZeroDivisionError):
        run("eval.x", lambda: fail(ZeroDivisionError()))
