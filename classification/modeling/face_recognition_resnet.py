"""A network for emotions that has learnt to recognise faces, and what such networks have to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from classification.modeling.folded_norms import standardise
from classification.modeling.normalization import Normalization
from faces.emotions import EMOTIONS
from networks.pretrained.face_recognition import MEAN, face_recognition_file, read_face_recognition


@runtime_checkable
class PublishedStart(Protocol):
    """A network that can start from published weights."""

    def load_published(self, faces: Tensor, normalization: Normalization) -> None:
        """Load them; ``faces`` are training images, normalised by ``normalization``."""


class PaddedShortcutBlock(nn.Module):
    """dlib's residual block: two 3×3 convolutions beside a shortcut without weights.

    Where the size changes, the shortcut averages 2×2 pixels and fills new channels with zeros.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride, self.added = stride, outputs - inputs
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, ceil(H/stride), ceil(W/stride))."""
        y = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride, ceil_mode=True, count_include_pad=False)
        if self.added:
            x = F.pad(x, (0, 0, 0, 0, 0, self.added))
        out: Tensor = self.relu(x + y)
        return out


class FaceRecognitionResNet(nn.Module):
    """dlib's face recognition network (King, 2017) with seven outputs.

    27 of its 29 convolutions: the last block, which works on 1 to 4 pixels, is left out. 4.4 M
    parameters. Its scales and shifts become batch normalisations.

    Args:
        size: height and width in pixels to which faces are enlarged; dlib trained it on 150.
        dropout: probability of dropping a feature before the last layer.
    """

    def __init__(self, size: int = 96, dropout: float = 0.0) -> None:
        super().__init__()
        self.size = size
        self.stem = nn.Conv2d(1, 32, 7, 2, 3, bias=False)
        self.norm = nn.BatchNorm2d(32)
        blocks = []
        inputs = 32
        for width, depth in ((32, 3), (64, 4), (128, 3), (256, 3)):
            for index in range(depth):
                stride = 2 if width > 32 and index == 0 else 1
                blocks.append(PaddedShortcutBlock(inputs, width, stride))
                inputs = width
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(inputs, len(EMOTIONS))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, x: Tensor) -> Tensor:
        """Map normalised grey faces (N, 1, H, W) to features (N, 256)."""
        x = F.interpolate(x, size=(self.size, self.size), mode="bilinear", align_corners=False)
        x = F.max_pool2d(F.relu(self.norm(self.stem(x)), inplace=True), 3, 2, 1)
        features: Tensor = self.blocks(x).mean((2, 3))
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised grey faces (N, 1, H, W) to logits (N, 7)."""
        logits: Tensor = self.head(self.dropout(self.features(x)))
        return logits

    def _layers(self) -> Iterator[tuple[nn.Conv2d, nn.BatchNorm2d]]:
        yield self.stem, self.norm
        for block in self.blocks:
            assert isinstance(block, PaddedShortcutBlock)
            yield block.conv1, block.norm1
            yield block.conv2, block.norm2

    @torch.no_grad()
    def load_published(self, faces: Tensor, normalization: Normalization) -> None:
        """Load dlib's weights; a ``UserError`` if they are not installed, or damaged.

        The network then computes dlib's features (but for the borders, which dlib does not pad).
        Statistics of ``faces``, training images as ``forward`` takes them, become those of the
        normalisations, and kernels get a common length, so that training with batch normalisation
        goes on from there.
        """
        published = read_face_recognition(face_recognition_file())
        layers = list(self._layers())
        for index, ((conv, norm), source) in enumerate(zip(layers, published, strict=False)):
            kernel, shift = torch.from_numpy(source.kernel), torch.from_numpy(source.shift)
            scale = torch.from_numpy(source.scale)
            if index == 0:
                offset = (255 * normalization.mean - torch.tensor(MEAN)) / 256
                shift = shift + scale * (kernel.sum((2, 3)) * offset).sum(1)
                kernel = kernel.sum(1, keepdim=True) * (255 * normalization.std / 256)
            conv.weight.copy_(kernel)
            norm.weight.copy_(scale)
            norm.bias.copy_(shift)
            norm.running_mean.zero_()  # type: ignore[union-attr]
            norm.running_var.fill_(1 - norm.eps)  # type: ignore[union-attr]
        self.eval()
        standardise(layers, lambda: self.features(faces))
        self.train()
