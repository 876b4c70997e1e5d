from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision import ops

from detection.modeling.roi_align import roi_align

STRIDES = (4, 8)
SIZES = ((6, 10), (3, 5))


def pyramid(channels: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, channels, *size, generator=generator) for size in SIZES]


def pooled(maps: list[Tensor], boxes: Tensor, levels: Tensor, cells: int, samples: int) -> Tensor:
    rows = torch.cat([each[0].flatten(1).T for each in maps])
    return roi_align(rows, SIZES, STRIDES, boxes, levels, cells, samples)


def torchvisions(maps: list[Tensor], box: Tensor, level: int, cells: int, samples: int) -> Tensor:
    found = ops.roi_align(
        maps[level], [box.view(1, 4)], cells, 1 / STRIDES[level], samples, aligned=True
    )
    return found[0].flatten(1).T


@given(
    st.lists(
        st.tuples(*[st.floats(0, 40)] * 2, *[st.floats(0, 24)] * 2, st.integers(0, 1)),
        min_size=1,
        max_size=4,
    ),
    st.integers(1, 4),
    st.integers(1, 3),
)
def test_boxes_are_pooled_as_by_torchvision(
    rows: list[tuple[float, float, float, float, int]], cells: int, samples: int
) -> None:
    maps = pyramid(3)
    boxes = torch.tensor([[min(a, b), min(c, d), max(a, b), max(c, d)] for a, b, c, d, _ in rows])
    levels = torch.tensor([level for *_, level in rows])
    found = pooled(maps, boxes, levels, cells, samples)
    for box, level, answer in zip(boxes, levels.tolist(), found, strict=True):
        expected = torchvisions(maps, box, level, cells, samples)
        torch.testing.assert_close(answer, expected, atol=1e-4, rtol=1e-4)


def test_a_constant_map_gives_the_constant() -> None:
    maps = [torch.full((1, 2, *size), 3.0) for size in SIZES]
    found = pooled(maps, torch.tensor([[0.0, 0, 40, 24]]), torch.tensor([1]), 7, 2)
    assert found.shape == (1, 49, 2)
    assert found.flatten().tolist() == pytest.approx([3.0] * 98)
