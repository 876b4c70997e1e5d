from pathlib import Path

import pytest

from eval.records.report import write_report
from tests.eval.made_records import record


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of made-up records, those of three systems among them."""
    results = tmp_path / "results"
    (results / "systems").mkdir(parents=True)
    for name, right in (("knn_pixels", 80), ("simple_cnn", 90), ("mlp_pixels", 82)):
        write_report(results / "systems" / f"{name}.json", "classification", [record(name, right)])
    write_report(results / "fer2013.json", "classification", [record("accurate", 120)])
    write_report(results / "ten.json", "classification", [record("accurate", 122, views="ten")])
    return results
