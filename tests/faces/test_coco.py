from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faces.coco import GroundTruth, load_coco, load_results
from faces.command import UserError


def document(**changes: Any) -> dict[str, Any]:
    result: dict[str, Any] = {
        "images": [
            {"id": 7, "file_name": "a.jpg", "width": 640, "height": 480},
            {"id": 0, "file_name": "sub/b.jpg", "unlabelled_faces": True},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 20, 30.5, 40], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 4, "bbox": [1, 2, 3, 4], "iscrowd": 1},
        ],
        "categories": [{"id": 3, "name": "happy"}, {"id": 4, "name": "sad"}],
    }
    return result | changes


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def load(tmp_path: Path, value: Any) -> GroundTruth:
    return load_coco(write(tmp_path / "truth.json", value))


def test_images_and_faces_are_read(tmp_path: Path) -> None:
    truth = load(tmp_path, document())
    first, second = truth.images
    assert (first.id, first.file_name, first.size) == (7, "a.jpg", (640, 480))
    assert first.boxes.tolist() == [[10, 20, 40.5, 60], [1, 2, 4, 6]]
    assert first.ignored.tolist() == [False, True]
    assert [face.category for face in first.faces] == ["happy", "sad"]
    assert (first.unlabelled_faces, second.unlabelled_faces) == (False, True)
    assert second.size is None and second.boxes.shape == (0, 4)
    assert truth.faces == 1
    assert truth.fingerprint == hashlib.sha256(truth.path.read_bytes()).hexdigest()


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    assert load(tmp_path, "\ufeff" + json.dumps(document())).faces == 1


def test_boxes_without_area_are_faults(tmp_path: Path) -> None:
    broken = [
        {"id": 8 + i, "image_id": 7, "category_id": 3, "bbox": box}
        for i, box in enumerate(([5, 5, 0, 9], [5, 5, 9, -1], [1e8, 5, 1e-12, 9]))
    ]
    truth = load(tmp_path, document(annotations=[*broken, *document()["annotations"]]))
    assert truth.faces == 1
    assert len(truth.faults) == 3 and "annotation 9" in truth.faults[1]


def faces_of(truth: GroundTruth) -> list[list[float]]:
    return truth.images[0].boxes.tolist()


def test_boxes_are_clipped_to_their_image_and_passed_over_outside_it(tmp_path: Path) -> None:
    boxes = ([-5, 470, 20, 20], [700, 20, 30, 40], [10, 480, 30, 40], [0, 0, 640, 480])
    rows = [{"id": i, "image_id": 7, "category_id": 3, "bbox": box} for i, box in enumerate(boxes)]
    truth = load(tmp_path, document(annotations=rows))
    assert faces_of(truth) == [[0, 470, 15, 480], [0, 0, 640, 480]]
    assert [fault.split(" passed over")[0] for fault in truth.faults] == [
        "annotation 1",
        "annotation 2",
    ]
    assert all("outside its image of 640×480 pixels" in fault for fault in truth.faults)
    rows = [row | {"image_id": 0} for row in rows]
    unsized = load(tmp_path, document(annotations=rows))
    assert len(unsized.images[1].faces) == 4 and unsized.faults == ()


def test_where_there_is_a_category_face_only_that_one_counts(tmp_path: Path) -> None:
    names = [{"id": 3, "name": "Face"}, {"id": 4, "name": "person"}]
    truth = load(tmp_path, document(categories=names))
    assert [face.category for face in truth.images[0].faces] == ["Face"]
    assert truth.faults == ("1 annotations passed over: their category is not face",)


@pytest.mark.parametrize(
    ("value", "ignored"),
    [(0, False), (1, True), ("0", False), ("1", True), (False, False), (None, False), (1.0, True)],
)
def test_flags_may_be_numbers_booleans_or_text(
    tmp_path: Path, value: object, ignored: bool
) -> None:
    rows = document()["annotations"]
    rows[1]["iscrowd"] = value
    truth = load(tmp_path, document(annotations=rows))
    assert truth.images[0].ignored.tolist() == [False, ignored]


def test_training_needs_the_size_of_every_image(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"image 0 \(sub/b.jpg\) has no width and height"):
        load(tmp_path, document()).require_sizes()
    images = [document()["images"][0] | {"width": 640.0}]
    load(tmp_path, document(images=images)).require_sizes()


def test_ids_may_be_text_or_whole_floats(tmp_path: Path) -> None:
    text = json.dumps(document())
    assert load(tmp_path, text.replace('"image_id": 7', '"image_id": 7.0')).faces == 1
    assert load(tmp_path, text.replace("7,", '"a",')).images[0].id == "a"


def annotation(**changes: Any) -> dict[str, Any]:
    good = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4]}
    return document(annotations=[good | changes])


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        ("{", "not valid JSON"),
        ("", "not valid JSON"),
        ("[" * 100_000, "nested|JSON"),
        ("9" * 5000, "not valid JSON"),
        (annotation(image_id=7.5), "image_id"),
        (annotation(bbox=[1, 2, 3, 10**400]), "bbox must be"),
        (annotation(bbox=[1, 2, 3, 1e300]), "bbox must be"),
        ([], "--results"),
        ({}, "expected an object with images"),
        (3, "expected an object with images"),
        (document(images={}), "images"),
        (document(annotations=None), "annotations"),
        (document(annotations=[3]), "annotations"),
        ({k: v for k, v in document().items() if k != "categories"}, "categories"),
        (document(images=[], annotations=[]), "empty"),
        (document(images=[{"id": 7}]), "no file_name"),
        (document(images=[{"file_name": "a.jpg"}]), "'id' must be"),
        (document(images=document()["images"] * 2), "occurs twice"),
        (annotation(image_id=8), "image 8"),
        (annotation(image_id=None), "image_id"),
        (annotation(category_id=8), "category 8"),
        (annotation(bbox=None), "bbox must be"),
        (annotation(bbox=[1, 2, 3]), "bbox must be"),
        (annotation(iscrowd="no"), "annotation 1: iscrowd must be 0 or 1, got 'no'"),
        (annotation(iscrowd=2), "iscrowd must be 0 or 1, got 2"),
        (annotation(doubtful=[]), "doubtful must be 0 or 1"),
        (document(images=[{"id": 7, "file_name": "a.jpg", "width": "64"}]), "number of pixels"),
        (document(images=[{"id": 7, "file_name": "a.jpg", "height": -64}]), "number of pixels"),
        (document(annotations=[]), "no face to find among its 0"),
        (annotation(iscrowd=1), "no face to find among its 1"),
        (annotation(bbox=[9, 9, -3, -3]), "no face to find.*annotation 1 passed over.*no area"),
        (annotation(bbox=[0.2, 0.3, 0.5, 0.5]), "fractions; COCO's boxes are pixels"),
        (annotation(bbox=[1, 2, 3, "4"]), "bbox must be"),
        (json.dumps(annotation(bbox=[1, 2, 3, float("nan")])), "bbox must be"),
    ],
)
def test_bad_files_are_named_with_their_cause(tmp_path: Path, value: Any, cause: str) -> None:
    with pytest.raises(UserError, match=cause) as error:
        load(tmp_path, value)
    assert "truth.json" in str(error.value)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_coco(tmp_path / "none.json")
    with pytest.raises(UserError, match="is a folder"):
        load_coco(tmp_path)
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(UserError, match="no regular file"):
        load_coco(tmp_path / "pipe.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                "images annotations categories id image_id category_id bbox file_name score "
                "width height iscrowd name".split()
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=25,
)


@given(JSON)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_json_is_read_or_refused(tmp_path: Path, value: Any) -> None:
    path = write(tmp_path / "any.json", value)
    try:
        load_coco(path)
    except UserError:
        pass
    try:
        load_results(path, ())
    except UserError:
        pass


ROW = {"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}


def results(tmp_path: Path, value: Any) -> Any:
    return load_results(write(tmp_path / "found.json", value), load(tmp_path, document()).images)


def test_reads_results(tmp_path: Path) -> None:
    by_image = results(tmp_path, [ROW, ROW | {"score": 2}, ROW | {"bbox": [1, 2, 0, 4]}])
    assert by_image[7].boxes.tolist() == [[1, 2, 4, 6]] * 2
    assert by_image[7].scores.tolist() == [0.5, 2]
    assert by_image[7].above(0.6).scores.tolist() == [2]
    assert by_image[0].boxes.shape == (0, 4)
    assert all(len(found.scores) == 0 for found in results(tmp_path, []).values())


def test_reads_scored_coco_objects_by_file_name(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "/photos/b.jpg"}, {"id": 2, "file_name": "a.jpg"}]
    rows = [ROW | {"image_id": 1}, ROW | {"image_id": 2, "score": 0.9}]
    by_image = results(tmp_path, {"images": images, "annotations": rows, "categories": []})
    assert by_image[0].scores.tolist() == [0.5]
    assert np.allclose(by_image[7].scores, 0.9)


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        ({}, "not a COCO result file"),
        ([3], "results"),
        ([ROW | {"image_id": 9}], "image 9"),
        ([{k: v for k, v in ROW.items() if k != "score"}], "score"),
        ([ROW | {"score": True}], "score"),
        (json.dumps([ROW | {"score": float("inf")}]), "score"),
        ([ROW | {"bbox": "1 2 3 4"}], "bbox"),
        ({"images": [{"id": 1, "file_name": "c.jpg"}], "annotations": []}, "names no image"),
        (
            {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [ROW | {"image_id": 7}]},
            "image 7, which the file's own images lack",
        ),
        (
            {"images": [{"id": i, "file_name": "a.jpg"} for i in (1, 2)], "annotations": []},
            "same image",
        ),
    ],
)
def test_bad_results_are_named_with_their_cause(tmp_path: Path, value: Any, cause: str) -> None:
    with pytest.raises(UserError, match=cause) as error:
        results(tmp_path, value)
    assert "found.json" in str(error.value)
