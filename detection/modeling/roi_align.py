"""RoIAlign (He et al., 2017) on the CPU, as one weighted sum of rows.

torchvision's kernel reads maps in (C, H, W), one number at a time. Here all levels of the pyramid
lie below each other as rows of C channels, and every cell of every box is a weighted sum of a few
of them: an embedding bag, which PyTorch vectorises.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def roi_align(
    rows: Tensor,
    sizes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    boxes: Tensor,
    levels: Tensor,
    cells: int,
    samples: int,
) -> Tensor:
    """Pool the features of boxes, as ``torchvision.ops.roi_align`` with ``aligned=True``.

    Args:
        rows: (R, C) float32, all places of all levels, level after level, each row by row.
        sizes: height and width of each level.
        strides: of each level, pixels.
        boxes: (N, 4) as (x1, y1, x2, y2), pixels, inside the image.
        levels: (N,) int64, the level of each box.
        cells: along each side of the output, (N, cells × cells, C) float32.
        samples: along each side of a cell.
    """
    begins = torch.tensor([0, *(h * w for h, w in sizes)]).cumsum(0)[levels]
    widths = torch.tensor([w for _, w in sizes])[levels]
    last = torch.tensor([(w - 1.0, h - 1.0) for h, w in sizes])[levels].unsqueeze(2)
    places = boxes / torch.tensor(strides)[levels].unsqueeze(1) - 0.5
    low, high = places[:, :2].unsqueeze(2), places[:, 2:].unsqueeze(2)
    steps = (torch.arange(cells * samples) + 0.5) / (cells * samples)
    points = torch.minimum((low + (high - low) * steps).clamp(min=0), last)
    before = points.floor()
    after = torch.minimum(before + 1, last)
    share = points - before
    # (N, 2, cells, 2 × samples): the places along x and y that a cell sums, and their weights
    shape = (len(boxes), 2, cells, 2 * samples)
    index = torch.stack((before, after), -1).long().view(shape)
    weight = torch.stack((1 - share, share), -1).view(shape) / samples
    x, y = index.unbind(1)
    wx, wy = weight.unbind(1)
    across = x + begins.view(-1, 1, 1)
    down = y * widths.view(-1, 1, 1)
    places_2d = down[:, :, None, :, None] + across[:, None, :, None, :]
    weights_2d = wy[:, :, None, :, None] * wx[:, None, :, None, :]
    bag = (2 * samples) ** 2
    pooled = functional.embedding_bag(
        places_2d.reshape(-1, bag), rows, mode="sum", per_sample_weights=weights_2d.reshape(-1, bag)
    )
    return pooled.view(len(boxes), cells * cells, -1)
