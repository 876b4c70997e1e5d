from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from detectron2.data import DatasetCatalog
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from detection.data.catalog import (
    DataSpec,
    describe,
    fingerprint,
    register,
    short_name,
    split_of,
    to_coco,
)
from faces.command import UserError


def test_splits_never_change() -> None:
    # first byte of `printf NAME | sha256sum`: 50, 7a, d4, ff, of 256; val from 0.70, test from 0.85
    known = {"a.jpg": "train", "b.jpg": "train", "i.jpg": "val", "f.jpg": "test"}
    assert {name: split_of(name) for name in known} == known


def test_splits_have_their_shares() -> None:
    counts = Counter(split_of(f"picture {i}.jpg") for i in range(20_000))
    assert counts["train"] / 20_000 == pytest.approx(0.70, abs=0.02)
    assert counts["val"] / 20_000 == pytest.approx(0.15, abs=0.02)


@given(st.text())
def test_every_name_has_one_split(name: str) -> None:
    assert split_of(name) in ("train", "val", "test")
    assert split_of(name) == split_of(name)


def test_names_of_data_sets() -> None:
    assert DataSpec.parse("coco:a/b.json:pics") == DataSpec("coco", Path("a/b.json"), Path("pics"))
    assert DataSpec.parse("dataturks:a.json:pics:val") == DataSpec(
        "dataturks", Path("a.json"), Path("pics"), "val"
    )
    assert DataSpec.parse("coco_2017_val") is None
    assert short_name("dataturks:x/y/a.json:pics:val") == "y/a.json, val"
    assert short_name("coco_2017_val") == "coco_2017_val"


@pytest.mark.parametrize(
    "name",
    ["coco:a.json", "coco:a.json:b:train", "coco::b", "dataturks:a.json:b:c:d", "dataturks:a:b:x"],
)
def test_malformed_names_are_refused(name: str) -> None:
    with pytest.raises(UserError):
        DataSpec.parse(name)


def test_registering(faces: Any) -> None:
    name = f"coco:{faces.coco}:{faces.images}"
    register([name, name])
    assert len(DatasetCatalog.get(name)) == 12
    with pytest.raises(UserError, match="no such data set"):
        register(["no_such_set"])
    with pytest.raises(UserError, match=r"absent\.json: no such file"):
        register([f"coco:absent.json:{faces.images}"])
    with pytest.raises(UserError, match="absent: no such folder"):
        register([f"coco:{faces.coco}:absent"])


def coco(file: Path, images: Path) -> list[dict[str, Any]]:
    return DataSpec("coco", file, images).load()


def dataturks(file: Path, images: Path, split: str = "") -> list[dict[str, Any]]:
    return DataSpec("dataturks", file, images, split).load()


def write_coco(folder: Path, **changes: Any) -> Path:
    for name, size in (("a.png", (10, 20)), ("b.png", (100, 80))):
        Image.new("RGB", size).save(folder / name)
    data = {
        "images": [
            {"id": 2, "file_name": "b.png", "width": 100, "height": 80},
            {"id": 1, "file_name": "a.png", "width": 10, "height": 20},
        ],
        "categories": [{"id": 4, "name": "happy"}, {"id": 9, "name": "sad"}],
        "annotations": [
            {"id": 1, "image_id": 2, "category_id": 4, "bbox": [90, 70, 20, 20], "iscrowd": 0},
            {"id": 2, "image_id": 2, "category_id": 9, "bbox": [-5, 10, 25, 30]},
            {"id": 3, "image_id": 2, "category_id": 9, "bbox": [1, 2, 0, 5]},
            {"id": 4, "image_id": 2, "category_id": 9, "bbox": [200, 2, 5, 5]},
            {"id": 5, "image_id": 2, "category_id": 4, "bbox": [1, 2, 3, 4], "iscrowd": 1},
        ],
    } | changes
    path = folder / "coco.json"
    path.write_text(json.dumps(data))
    return path


def test_records_hold_clipped_boxes_of_one_class(tmp_path: Path, capsys: Any) -> None:
    first, second = coco(write_coco(tmp_path), tmp_path)
    assert (first["image_id"], first["annotations"]) == (1, [])
    assert [a["bbox"] for a in second["annotations"]] == [
        [90, 70, 100, 80],
        [0, 10, 20, 40],
        [1, 2, 4, 6],
    ]
    assert [a["iscrowd"] for a in second["annotations"]] == [0, 0, 1]
    assert {a["category_id"] for a in second["annotations"]} == {0}
    err = capsys.readouterr().err
    assert "annotation 3 passed over" in err and "annotation 4 passed over" in err


def test_many_faults_are_counted_and_the_first_named(tmp_path: Path, capsys: Any) -> None:
    flat = [{"id": i, "image_id": 2, "category_id": 4, "bbox": [5, 5, 0, 0]} for i in range(50)]
    face = {"id": 99, "image_id": 2, "category_id": 4, "bbox": [5, 5, 30, 30]}
    assert len(coco(write_coco(tmp_path, annotations=[*flat, face]), tmp_path)) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 4 and "annotation 0 passed over" in err and "50 faults" in err


def test_images_of_another_size_than_the_json_says_are_refused(tmp_path: Path) -> None:
    file = write_coco(tmp_path)
    Image.new("RGB", (80, 100)).save(tmp_path / "b.png")
    with pytest.raises(UserError, match=r"b\.png: is 80×100 pixels, but .* made for 100×80"):
        coco(file, tmp_path)


def test_the_size_is_that_of_the_upright_image(tmp_path: Path) -> None:
    file = write_coco(tmp_path)
    exif = Image.Exif()
    exif[274] = 6  # a quarter turn
    Image.new("RGB", (80, 100)).save(tmp_path / "b.png", exif=exif)
    assert len(coco(file, tmp_path)) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations": []}, "no face to find"),
        ({"images": []}, "images"),
        ({"images": [{"id": 2, "file_name": "b.png"}]}, "has no width and height"),
        ({"images": [{"id": 2, "file_name": "c.png", "width": 9, "height": 9}]}, "1 of 1 images"),
    ],
)
def test_coco_files_that_training_cannot_use(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    face = {"id": 1, "image_id": 2, "category_id": 4, "bbox": [2, 2, 5, 5]}
    file = write_coco(tmp_path, **({"annotations": [face]} | changes))
    with pytest.raises(UserError, match=message):
        coco(file, tmp_path)


def test_dataturks_images_that_cannot_be_read_are_left_out_and_named(
    faces: Any, tmp_path: Path, capsys: Any
) -> None:
    for file in faces.images.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "picture_1.jpg").write_bytes(b"no picture")
    assert len(dataturks(faces.dataturks, tmp_path)) == 11
    assert "left out: " in capsys.readouterr().err


def test_both_forms_of_the_same_faces_agree(faces: Any) -> None:
    ours = coco(faces.coco, faces.images)
    turk = dataturks(faces.dataturks, faces.images)
    assert [len(r["annotations"]) for r in ours] == [len(r["annotations"]) for r in turk]
    for a, b in zip(ours, turk, strict=True):
        assert (a["width"], a["height"], a["file_name"]) == (
            b["width"],
            b["height"],
            b["file_name"],
        )
        for x, y in zip(a["annotations"], b["annotations"], strict=True):
            assert x["bbox"] == pytest.approx(y["bbox"])


def test_dataturks_splits_are_disjoint_and_complete(faces: Any) -> None:
    def names(split: str) -> set[str]:
        try:
            return {r["file_name"] for r in dataturks(faces.dataturks, faces.images, split)}
        except UserError as error:
            assert "is empty" in str(error)
            return set()

    parts = [names(split) for split in ("train", "val", "test")]
    assert sum(len(part) for part in parts) == len(set.union(*parts)) == 12


def test_a_round_trip_through_coco(faces: Any, tmp_path: Path) -> None:
    records = coco(faces.coco, faces.images)
    (tmp_path / "again.json").write_text(json.dumps(to_coco(records)))
    assert coco(tmp_path / "again.json", faces.images) == records


def test_the_fingerprint_sees_every_change(faces: Any) -> None:
    records = coco(faces.coco, faces.images)
    before = fingerprint(records)
    assert fingerprint(records[::-1]) == before
    records[1]["annotations"][0]["bbox"][0] += 1
    assert fingerprint(records) != before
    name = f"coco:{faces.coco}:{faces.images}"
    register([name])
    assert describe(name)["sha256"] == before
    assert describe(name) | {"sha256": ""} == {
        "set": "/".join(faces.coco.parts[-2:]),
        "pictures": 12,
        "faces": 9,
        "sha256": "",
    }
