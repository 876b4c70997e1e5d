"""Folders and zips of images, and the images of a COCO file in them."""

from __future__ import annotations

import json
import os
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from eval.data.images import AnnotatedImages, open_images
from faces.coco import load_coco
from faces.command import UserError
from faces.images import ImageError


def truth_of(folder: Path, *names: str) -> Path:
    images = [{"id": i, "file_name": name} for i, name in enumerate(names)]
    face = {"id": 0, "image_id": 0, "category_id": 0, "bbox": [1, 2, 3, 4]}
    document = {"images": images, "annotations": [face], "categories": [{"id": 0, "name": "x"}]}
    (folder / "truth.json").write_text(json.dumps(document))
    return folder / "truth.json"


def test_images_of_a_folder_are_found_where_file_name_says(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.jpg").write_text("")
    (tmp_path / ".hidden.jpg").write_text("")
    truth = load_coco(truth_of(tmp_path, "./sub/a.jpg", ".hidden.jpg"))
    assert AnnotatedImages(truth, tmp_path).names == {0: "sub/a.jpg", 1: ".hidden.jpg"}
    with pytest.raises(UserError, match=r"lacks 1 of the 1 .*: a\.jpg;.*--images"):
        AnnotatedImages(load_coco(truth_of(tmp_path, "a.jpg")), tmp_path)


def test_images_of_a_zip_are_found_in_any_one_folder(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in ("one/images/a.jpg", "one/b.jpg", "two/b.jpg"):
            archive.writestr(name, "")
    names = AnnotatedImages(
        load_coco(truth_of(tmp_path, "a.jpg", "two/b.jpg")), tmp_path / "x.zip"
    ).names
    assert names == {0: "one/images/a.jpg", 1: "two/b.jpg"}
    with pytest.raises(UserError, match=r"more than once \(one/b.jpg, two/b.jpg\)"):
        AnnotatedImages(load_coco(truth_of(tmp_path, "b.jpg")), tmp_path / "x.zip")
    with pytest.raises(UserError, match="lacks 4 of the 4"):
        AnnotatedImages(load_coco(truth_of(tmp_path, *"cdef")), tmp_path / "x.zip")


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Three images of 40×30: one with a face, one with a face far outside, one that is broken."""
    for name in ("a.png", "b.png"):
        PillowImage.fromarray(np.full((30, 40, 3), 9, np.uint8)).save(tmp_path / name)
    (tmp_path / "c.png").write_bytes(b"no image")
    boxes: list[dict[str, Any]] = [
        {"id": 1, "image_id": 0, "category_id": 1, "bbox": [35, 25, 20, 20]},
        {"id": 2, "image_id": 1, "category_id": 1, "bbox": [50, 5, 10, 10]},
    ]
    images = [{"id": i, "file_name": f"{name}.png"} for i, name in enumerate("abc")]
    document = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "face"}]}
    (tmp_path / "t.json").write_text(json.dumps(document))
    return tmp_path / "t.json"


def test_images_of_no_use_are_passed_and_told(
    coco: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = AnnotatedImages(load_coco(coco), coco.parent)
    read = list(images)
    assert [image.file_name for image, _ in read] == ["a.png", "b.png"]
    assert read[0][0].boxes.tolist() == [[35, 25, 40, 30]] and not read[1][0].faces
    assert read[0][1].shape == (30, 40, 3)
    assert images.close("x") == 1
    dropped, failed, count = (x for x in capsys.readouterr().err.splitlines() if x[:2] == "x:")
    assert "faces dropped: 1, the first:" in dropped and "b.png" in dropped
    assert "c.png" in failed and count == "x: images left out: 1 of 3"


def test_an_image_of_another_size_is_of_no_use(coco: Path) -> None:
    document = json.loads(coco.read_text())
    document["images"][0] |= {"width": 30, "height": 40}
    coco.write_text(json.dumps(document))
    images = AnnotatedImages(load_coco(coco), coco.parent)
    assert [image.file_name for image, _ in images] == ["b.png"]
    assert "a.png: is 40×30 pixels, but" in images.failed[0]


def test_strict_reading_refuses_the_first_image_of_no_use(coco: Path) -> None:
    with pytest.raises(UserError, match=r"c\.png"):
        list(AnnotatedImages(load_coco(coco), coco.parent, strict=True))


@pytest.mark.parametrize(
    ("broken", "cause"),
    [("abc", "none of its images could be used"), ("a", "no image that could be used has a face")],
)
def test_without_a_usable_face_there_is_no_evaluation(coco: Path, broken: str, cause: str) -> None:
    for name in broken:
        (coco.parent / f"{name}.png").write_bytes(b"")
    images = AnnotatedImages(load_coco(coco), coco.parent)
    list(images)
    with pytest.raises(UserError, match=cause):
        images.close("x")


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="no regular file"):
        open_images(tmp_path).read("pipe.jpg")
    with pytest.raises(UserError, match="no regular file"):
        open_images(tmp_path / "pipe.jpg")


def test_a_huge_file_in_a_small_zip_is_refused_without_unpacking_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eval.data.images.MAX_BYTES", 1 << 20)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jpg", bytes(50 << 20))
    tracemalloc.start()
    with pytest.raises(ImageError, match="has more than 1 MiB"):
        open_images(tmp_path / "bomb.zip").read("a.jpg")
    assert tracemalloc.get_traced_memory()[1] < 5 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("offset", [10, 14, 26, 28, 42])
def test_a_zip_whose_places_are_damaged_is_an_error_of_its_image(
    tmp_path: Path, offset: int
) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.jpg", b"x" * 100)
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + offset : entry + offset + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    with pytest.raises((ImageError, UserError), match=r"a\.zip"):
        store = open_images(path)
        store.read("a.jpg")
        raise UserError("a.zip: read")  # where the place does not matter
