from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detection.modeling.suppression import contained, vote
from faces.types import Box

FACE = (0, 0, 100, 100)


def boxes(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, float).reshape(-1, 4)


def test_a_part_of_a_better_box_goes() -> None:
    rows = boxes(FACE, (20, 20, 60, 60), (90, 0, 130, 40), (300, 0, 320, 20))
    assert contained(rows, 0.7).tolist() == [False, True, False, False]
    assert contained(rows, 0.25).tolist() == [False, True, True, False]
    assert not contained(rows, 1.1).any()


def test_a_box_around_a_better_one_stays() -> None:
    assert not contained(boxes((20, 20, 60, 60), FACE), 0.7).any()


def test_what_was_dropped_drops_nothing() -> None:
    # the third lies inside the second, which lies inside the first; the third only half in that
    rows = boxes((0, 0, 100, 100), (40, 0, 130, 100), (80, 0, 120, 100))
    assert contained(rows, 0.6).tolist() == [False, True, False]


@pytest.mark.parametrize("count", [0, 1])
def test_few_boxes(count: int) -> None:
    assert not contained(boxes(*[FACE] * count), 0.5).any()


corner = st.integers(0, 40)
box = st.tuples(corner, corner, st.integers(1, 40), st.integers(1, 40)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


@given(st.lists(box, max_size=12), st.sampled_from([0.3, 0.5, 0.8, 1.0, 1.1]))
def test_agrees_with_the_definition(rows: list[tuple[int, int, int, int]], share: float) -> None:
    kept: list[Box] = []
    expected = []
    for row in rows:
        this = Box(*row)
        drop = any(this.intersection(other) / this.area >= share for other in kept)
        expected.append(drop)
        if not drop:
            kept.append(this)
    assert contained(boxes(*rows), share).tolist() == expected


def test_boxes_on_one_face_vote_by_their_scores() -> None:
    every = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 14], [5, 0, 15, 10], [40, 40, 60, 60]])
    scores = torch.tensor([0.75, 0.25, 0.9, 0.5])
    kept = every[[0, 3]]  # the second's IoU with the first is 10 / 14, the third's a third
    moved = vote(kept, every, scores, 0.7)
    torch.testing.assert_close(moved, torch.tensor([[0.0, 0, 10, 11], [40, 40, 60, 60]]))
    assert torch.equal(vote(kept, every, scores, 0.72), kept)
    assert torch.equal(vote(kept, every, scores, 1.1), kept)


def test_a_box_of_no_area_stays() -> None:
    line = torch.tensor([[3.0, 3, 3, 9]])
    assert torch.equal(vote(line, line, torch.ones(1), 0.5), line)
    none = torch.zeros(0, 4)
    assert vote(none, none, torch.zeros(0), 0.5).shape == (0, 4)


@given(
    st.lists(st.tuples(box, st.integers(1, 100)), min_size=1, max_size=8), st.sampled_from([3, 5])
)
def test_a_vote_is_the_definition(rows: list[tuple[tuple[int, ...], int]], tenths: int) -> None:
    every = torch.tensor([row for row, _ in rows], dtype=torch.float64)
    scores = torch.tensor([score / 100 for _, score in rows])
    for row, moved in zip(rows, vote(every, every, scores, tenths / 10 + 0.001), strict=True):
        one = Box(*row[0])
        votes = [(r, s) for r, s in rows if one.iou(Box(*r)) >= tenths / 10 + 0.001]
        expected = [sum(r[i] * s for r, s in votes) / sum(s for _, s in votes) for i in range(4)]
        assert moved.tolist() == pytest.approx(expected, abs=1e-5)


def test_rounding_leaves_no_vote_outside_the_picture() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        count = 7
        every = torch.rand(count, 4, generator=generator) * torch.tensor([20.0, 20, 0, 20])
        every += torch.tensor([0.0, 0, 197, 100])  # all end at the right edge
        moved = vote(every, every, torch.rand(count, generator=generator) + 0.01, 0.3)
        assert moved[:, 2].max() <= 197
