"""Overlaps and matching, against pycocotools and cases computed by hand."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from faces.boxes import Verdict, inside_matrix, intersections, iou_matrix, match


def draw_boxes(max_size: int = 8) -> st.SearchStrategy[NDArray[np.float64]]:
    corner = st.floats(-50, 200, width=32)
    side = st.floats(0.125, 150, width=32)
    row = st.tuples(corner, corner, side, side).map(
        lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
    )
    return st.lists(row, max_size=max_size).map(lambda rows: np.array(rows).reshape(-1, 4))


def xywh(rows: NDArray[np.float64]) -> Any:
    return np.concatenate([rows[:, :2], rows[:, 2:] - rows[:, :2]], axis=1)


@given(draw_boxes(), draw_boxes())
def test_overlaps_agree_with_pycocotools(a: NDArray[np.float64], b: NDArray[np.float64]) -> None:
    iou, inside = iou_matrix(a, b), inside_matrix(a, b)
    assert iou.shape == inside.shape == (len(a), len(b))
    if len(a) and len(b):
        assert np.allclose(iou, mask.iou(xywh(a), xywh(b), [0] * len(b)), atol=1e-9)
        assert np.allclose(inside, mask.iou(xywh(a), xywh(b), [1] * len(b)), atol=1e-9)


def test_overlaps_by_hand() -> None:
    a, b = [[0, 0, 10, 10]], [[5, 0, 15, 10], [0, 0, 10, 10], [10, 0, 20, 10], [2, 2, 4, 4]]
    assert intersections(a, b).tolist() == [[50, 100, 0, 4]]
    assert iou_matrix(a, b)[0] == pytest.approx([1 / 3, 1, 0, 0.04])
    assert inside_matrix(a, b)[0] == pytest.approx([0.5, 1, 0, 0.04])
    assert iou_matrix([[1, 1, 1, 1]], [[1, 1, 1, 1]]).tolist() == [[0]]


def test_overlaps_refuse_other_shapes() -> None:
    with pytest.raises(ValueError, match="shape"):
        iou_matrix([1, 2, 3, 4], [[1, 2, 3, 4]])


def verdicts(found: list[Any], scores: list[float], faces: list[Any], *ignored: int) -> list[str]:
    skip = [index in ignored for index in range(len(faces))]
    return [Verdict(v).name for v in match(found, scores, faces, skip).verdict]


FACE = [0, 0, 100, 100]


def test_matching_takes_the_highest_score_first() -> None:
    result = match([FACE, [0, 0, 100, 99]], [0.6, 0.9], [FACE], [False])
    assert result.face.tolist() == [-1, 0]
    assert result.verdict.tolist() == [Verdict.DUPLICATE, Verdict.MATCHED]
    assert [result.count(v) for v in Verdict] == [1, 1, 0, 0]


def test_matching_takes_the_best_free_face() -> None:
    faces = [[0, 0, 100, 100], [20, 0, 120, 100]]
    result = match([[15, 0, 115, 100], [16, 0, 116, 100]], [0.9, 0.8], faces, [False, False])
    assert result.face.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("box", "verdict"),
    [
        ([0, 0, 100, 50], "DUPLICATE"),  # IoU exactly 0.5
        (
            [0, 0, 100, 201],
            "FALSE_POSITIVE",
        ),  # the face inside it: IoU below 0.5, less than 70 % inside
        ([40, 40, 50, 50], "DUPLICATE"),  # small, wholly inside
        ([93, 0, 103, 10], "DUPLICATE"),  # exactly 70 % of it inside
        ([93.1, 0, 103.1, 10], "FALSE_POSITIVE"),
        ([200, 200, 300, 300], "FALSE_POSITIVE"),
    ],
)
def test_duplicates_of_a_found_face(box: list[float], verdict: str) -> None:
    assert verdicts([FACE, box], [0.9, 0.5], [FACE]) == ["MATCHED", verdict]


def test_a_part_of_a_face_that_is_not_found_is_false() -> None:
    assert verdicts([[40, 40, 50, 50]], [0.9], [FACE]) == ["FALSE_POSITIVE"]
    assert verdicts([[40, 40, 50, 50], FACE], [0.9, 0.8], [FACE]) == ["FALSE_POSITIVE", "MATCHED"]


def test_detections_on_ignored_faces_are_ignored() -> None:
    crowd = [200, 0, 300, 100]
    inside, half, less = [210, 10, 220, 20], [150, 0, 250, 100], [149, 0, 249, 100]
    found = [crowd, inside, half, less]
    expected = ["IGNORED", "IGNORED", "IGNORED", "FALSE_POSITIVE"]
    assert verdicts(found, [0.9, 0.8, 0.7, 0.6], [FACE, crowd], 1) == expected


def test_ignored_faces_are_never_found_and_counted_ones_come_first() -> None:
    result = match([FACE], [0.9], [FACE, FACE], [True, False])
    assert result.face.tolist() == [1]
    assert verdicts([FACE, FACE], [0.9, 0.8], [FACE, FACE], 0) == ["MATCHED", "IGNORED"]


def test_matching_of_nothing() -> None:
    assert verdicts([], [], []) == []
    assert verdicts([], [], [FACE]) == []
    assert verdicts([FACE], [0.5], []) == ["FALSE_POSITIVE"]
    with pytest.raises(ValueError, match="one score"):
        match([FACE], [], [], [])


@given(st.integers(0, 10**6), st.integers(0, 12), st.integers(0, 8))
@settings(max_examples=60, deadline=None)
def test_matching_agrees_with_pycocotools(seed: int, detections: int, faces: int) -> None:
    rng = np.random.default_rng(seed)

    def draw(count: int) -> NDArray[np.float64]:
        corner = rng.uniform(0, 60, (count, 2))
        return np.concatenate([corner, corner + rng.uniform(20, 60, (count, 2))], axis=1)

    found, truth, ignored = draw(detections), draw(faces), rng.random(faces) < 0.3
    scores = rng.permutation(detections) / 100
    result = match(found, scores, truth, ignored)

    evaluation: Any = COCOeval(_coco(truth, ignored), _coco(found, scores=scores), "bbox")
    evaluation.params.imgIds, evaluation.params.catIds = [1], [1]
    evaluation._prepare()
    evaluation.ious = {(1, 1): evaluation.computeIoU(1, 1)}
    expected = evaluation.evaluateImg(1, 1, [0, 1e10], 100)
    if expected is None:
        return
    for identity, face, skip in zip(
        expected["dtIds"], expected["dtMatches"][0], expected["dtIgnore"][0], strict=True
    ):
        verdict = result.verdict[int(identity) - 1]
        assert (verdict == Verdict.IGNORED) == bool(skip)
        assert result.face[int(identity) - 1] == (-1 if skip else int(face) - 1)


def _coco(
    rows: NDArray[np.float64],
    ignored: NDArray[np.bool_] | None = None,
    scores: NDArray[np.float64] | None = None,
) -> COCO:
    annotations = []
    for index, box in enumerate(xywh(rows).tolist()):
        crowd = int(ignored is not None and bool(ignored[index]))
        item = {"id": index + 1, "image_id": 1, "category_id": 1, "bbox": box, "iscrowd": crowd}
        score = 0.0 if scores is None else float(scores[index])
        annotations.append(item | {"area": box[2] * box[3], "score": score})
    dataset: Any = {"images": [{"id": 1}], "annotations": annotations, "categories": [{"id": 1}]}
    coco = COCO()
    coco.dataset = dataset
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco
