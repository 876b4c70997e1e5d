"""Records name the shipped weights that they were measured with."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from eval.records.report import Row, write_report
from eval.records.staleness import present_hashes, shipped_weights


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
