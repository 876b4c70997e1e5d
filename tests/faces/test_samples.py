"""The sample photos, and the command that makes them."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import io
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from faces.images import read_image

SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.fixture
def make_group(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_group", SAMPLES / "make_group.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "make_group", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "shape"), [("group", (512, 1260)), ("collins", (512, 512)), ("hopper", (600, 512))]
)
def test_photos(name: str, shape: tuple[int, int]) -> None:
    path = SAMPLES / f"{name}.jpg"
    assert read_image(path).shape == (*shape, 3)
    assert path.stat().st_size < 400_000


def test_every_photo_has_its_source_beside_it() -> None:
    text = (SAMPLES / "README.md").read_text("utf-8")
    for path in SAMPLES.glob("*.jpg"):
        assert f"`{path.name}`" in text
    assert "public domain" in text


def png(colour: tuple[int, int, int], size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_portraits_come_from_wheels_and_source_packages(
    make_group: ModuleType, tmp_path: Path
) -> None:
    data = png((10, 20, 30), (40, 60))
    with zipfile.ZipFile(tmp_path / "some-1.0-any.whl", "w") as wheel:
        wheel.writestr("some/a.png", data)
    with tarfile.open(tmp_path / "other-1.0.tar.gz", "w:gz") as source:
        member = tarfile.TarInfo("other-1.0/b.png")
        member.size = len(data)
        source.addfile(member, io.BytesIO(data))
    digest = hashlib.sha256(data).hexdigest()
    for pattern, name in [("some-*.whl", "some/a.png"), ("other-*.tar.gz", "other-1.0/b.png")]:
        portrait = make_group.Portrait(pattern, name, digest, 512, 0, 100)
        assert make_group.read_portrait(tmp_path, portrait).shape == (60, 40, 3)
        for change in ({"sha256": "0" * 64}, {"member": "none.png"}):
            with pytest.raises(ValueError, match="missing or another picture"):
                make_group.read_portrait(tmp_path, dataclasses.replace(portrait, **change))
        with pytest.raises(ValueError, match="download it"):
            make_group.read_portrait(tmp_path / "none", portrait)


def test_side_by_side(make_group: ModuleType) -> None:
    parts = []
    for index, height in enumerate((512, 600, 1024)):
        portrait = make_group.Portrait("", "", "", height, 10, 300)
        parts.append((portrait, np.full((1200, 1000, 3), index * 100, np.uint8)))
    group = make_group.side_by_side(parts)
    assert group.shape == (512, 900, 3)
    assert [int(group[5, x, 0]) for x in (0, 299, 300, 599, 600, 899)] == [0, 0, 100, 100, 200, 200]


@pytest.mark.slow
def test_faces_of_the_group_are_found_by_an_independent_detector() -> None:
    cv2 = pytest.importorskip("cv2")
    cascade = cv2.CascadeClassifier(
        cv2.data.haarcascades + "haarcascade_frontalface_default.xml"  # type: ignore[attr-defined]
    )
    grey = cv2.cvtColor(read_image(SAMPLES / "group.jpg"), cv2.COLOR_RGB2GRAY)
    centres = [x + w / 2 for x, y, w, h in cascade.detectMultiScale(grey, 1.1, 8, minSize=(60, 60))]
    assert {int(x // 420) for x in centres} == {0, 1, 2}
