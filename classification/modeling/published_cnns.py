"""The networks that the published systems used, so that recipes can rebuild them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
import torchvision
from torch import Tensor, nn

from classification.modeling.normalization import Normalization
from faces.emotions import EMOTIONS
from networks.pretrained.imagenet import imagenet_state


class PlainCnn(nn.Module):
    """Blocks of 3×3 convolutions with max-pooling after each, then dense layers.

    The early networks for FER2013 all have this form. Kernels keep the size (padding 1), pooling
    halves it, rectifiers follow every layer but the last, and weights start as He et al. (2015)
    propose.

    Args:
        widths: channels of each block's convolutions.
        depth: convolutions per block.
        dense: units of each dense layer before the output.
        block_dropout: probability of dropping a value after each pooling.
        dense_dropout: probability of dropping a value after each dense layer but the output.
        batch_norm: normalise after every convolution and dense layer but the output (Ioffe &
            Szegedy, 2015).
        size: height and width of the input in pixels.
    """

    def __init__(
        self,
        widths: Sequence[int],
        depth: int,
        dense: Sequence[int],
        block_dropout: float = 0.0,
        dense_dropout: float = 0.0,
        batch_norm: bool = False,
        size: int = 48,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 1
        for width in widths:
            for _ in range(depth):
                layers.append(nn.Conv2d(inputs, width, 3, padding=1, bias=not batch_norm))
                layers += [nn.BatchNorm2d(width)] if batch_norm else []
                layers.append(nn.ReLU(inplace=True))
                inputs = width
            layers += [nn.MaxPool2d(2), nn.Dropout(block_dropout)]
            size //= 2
        self.convolutions = nn.Sequential(*layers)
        inputs *= size * size
        head: list[nn.Module] = []
        for units in dense:
            head.append(nn.Linear(inputs, units, bias=not batch_norm))
            head += [nn.BatchNorm1d(units)] if batch_norm else []
            head += [nn.ReLU(inplace=True), nn.Dropout(dense_dropout)]
            inputs = units
        self.dense = nn.Sequential(*head, nn.Linear(inputs, len(EMOTIONS)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised grey faces (N, 1, size, size) to logits (N, 7)."""
        logits: Tensor = self.dense(self.convolutions(x).flatten(1))
        return logits


class StridedDepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution with a stride, always in float32 on CPUs.

    oneDNN's backward pass of these few is slower in bfloat16 than in float32.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H', W')."""
        if x.device.type != "cpu":
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float())


class TorchvisionNet(nn.Module):
    """One of torchvision's networks on grey faces, with seven outputs.

    Args:
        name: ``resnet18`` or ``resnet50`` (He et al., 2016), ``squeezenet1_1`` (Iandola et al.,
            2016), ``mobilenet_v2`` (Sandler et al., 2018), ``densenet121`` (Huang et al., 2017).
        size: height and width in pixels to which faces are enlarged; 48 leaves them as they are.
    """

    def __init__(self, name: str, size: int = 48) -> None:
        super().__init__()
        if name not in FIRST_CONVOLUTION:
            raise ValueError(f"name must be one of {', '.join(FIRST_CONVOLUTION)}")
        self.name, self.size = name, size
        self.network = torchvision.models.get_model(name, weights=None, num_classes=len(EMOTIONS))
        first = self.network.get_submodule(FIRST_CONVOLUTION[name])
        assert isinstance(first, nn.Conv2d)
        first.in_channels = 1
        first.weight = nn.Parameter(first.weight.detach().sum(1, keepdim=True))
        for module in self.network.modules():
            if isinstance(module, nn.Conv2d) and module.groups > 1 and module.stride != (1, 1):
                module.__class__ = StridedDepthwiseConv2d  # the same parameters, under their names

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised grey faces (N, 1, H, W) to logits (N, 7)."""
        if x.shape[-1] != self.size:
            x = F.interpolate(x, size=(self.size, self.size), mode="bilinear", align_corners=False)
        logits: Tensor = self.network(x)
        return logits

    @torch.no_grad()
    def load_published(self, faces: Tensor, normalization: Normalization) -> None:
        """Load torchvision's ImageNet weights; the kernels of red, green and blue are summed.

        A ``UserError`` says that they are neither here nor can be fetched. ``faces`` are not
        needed.
        """
        state = imagenet_state(self.name)
        own = self.network.state_dict()
        first = f"{FIRST_CONVOLUTION[self.name]}.weight"
        deviation = torch.tensor([0.229, 0.224, 0.225])[None, :, None, None]
        state[first] = (state[first] * normalization.std / deviation).sum(1, keepdim=True)
        fitting = {k: v for k, v in state.items() if own[k].shape == v.shape}
        self.network.load_state_dict(fitting, strict=False)


FIRST_CONVOLUTION = {
    "resnet18": "conv1",
    "resnet50": "conv1",
    "squeezenet1_1": "features.0",
    "mobilenet_v2": "features.0.0",
    "densenet121": "features.conv0",
}
"""Network of torchvision → its first convolution. It sees grey here: once what it saw thrice."""
