"""The networks of stage 2, by name: a grey face in, seven logits out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from classification.modeling.face_recognition_resnet import FaceRecognitionResNet
from classification.modeling.published_cnns import PlainCnn, TorchvisionNet
from faces.emotions import EMOTIONS


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut (He et al., "Deep Residual Learning", 2016).

    Where the size changes, the shortcut averages before its 1×1 convolution (He T. et al., "Bag of
    Tricks", 2019, ResNet-D). The last normalisation starts at zero: the block starts as identity.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            if stride != 1:
                self.shortcut.append(nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False))
            self.shortcut.append(nn.Conv2d(inputs, outputs, 1, bias=False))
            self.shortcut.append(nn.BatchNorm2d(outputs))
        nn.init.zeros_(self.norm2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H/stride, W/stride)."""
        y = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        out: Tensor = self.relu(y + self.shortcut(x))
        return out


class FaceResNet(nn.Module):
    """A residual network for small grey faces.

    Its stem keeps the full resolution (3×3, stride 1), as 48 pixels leave none to waste;
    ``stem_pool`` halves it before the first stage, which saves three quarters of the work.

    Args:
        widths: channels of each stage; each stage after the first halves the resolution.
        depths: residual blocks of each stage.
        stem_pool: max-pool after the stem.
        dropout: probability of dropping a feature before the last layer.
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 256, 512),
        depths: Sequence[int] = (2, 2, 2, 2),
        stem_pool: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, widths[0], 3, 1, 1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        )
        if stem_pool:
            self.stem.append(nn.MaxPool2d(3, 2, 1))
        stages = []
        inputs = widths[0]
        for index, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            blocks = []
            for block in range(depth):
                stride = 2 if index > 0 and block == 0 else 1
                blocks.append(ResidualBlock(inputs, width, stride))
                inputs = width
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(inputs, len(EMOTIONS))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, x: Tensor) -> Tensor:
        """Map normalised grey faces (N, 1, H, W) to features (N, last width)."""
        features: Tensor = self.pool(self.stages(self.stem(x))).flatten(1)
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised grey faces (N, 1, H, W) to logits (N, 7)."""
        logits: Tensor = self.head(self.dropout(self.features(x)))
        return logits


MODELS: dict[str, Callable[..., nn.Module]] = {
    "face_resnet": FaceResNet,
    "face_recognition_resnet": FaceRecognitionResNet,
    "plain_cnn": PlainCnn,
    "torchvision": TorchvisionNet,
}
"""Architecture name in a recipe → constructor, whose arguments are the recipe's ``[model]``."""


def build_network(architecture: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Build a network of ``MODELS``, or raise a ``ValueError`` if none can be built from these."""
    if architecture not in MODELS:
        raise ValueError(f"unknown architecture {architecture!r}; known are {', '.join(MODELS)}")
    try:
        return MODELS[architecture](**arguments)
    except (TypeError, ValueError, RuntimeError, IndexError, ZeroDivisionError) as error:
        given = ", ".join(f"{key} = {value}" for key, value in arguments.items())
        raise ValueError(f"{architecture} cannot be built from {given}: {error}") from error


def parameter_count(model: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
