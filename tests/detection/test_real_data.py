"""The real sets, where ``TWOSTAGE_DATA`` names their folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from detection.data.catalog import SPLITS, load_dataturks
from detection.data.dataturks import find_images, read_dataturks

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif("TWOSTAGE_DATA" not in os.environ, reason="TWOSTAGE_DATA is not set"),
]


def test_dataturks_as_published() -> None:
    folder = Path(os.environ["TWOSTAGE_DATA"]) / "dataturks"
    records, report = read_dataturks(folder / "face_detection.json")
    assert (report.images, report.faces) == (409, 1132)
    found, missing = find_images(records, folder / "images")
    assert len(found) + len(missing) == 409
    sizes = [
        len(load_dataturks(folder / "face_detection.json", folder / "images", split).images)
        for split in SPLITS
    ]
    assert sum(sizes) == len(found)
    if len(found) == 95:
        assert sizes == [64, 18, 13]
        assert sum(len(record.boxes) for record, _ in found) == 262
