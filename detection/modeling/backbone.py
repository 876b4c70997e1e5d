"""A light body for Detectron2's Faster R-CNN: torchvision's MobileNetV2 and an FPN.

The names registered here are for ``MODEL.BACKBONE.NAME`` and ``MODEL.RPN.HEAD_NAME``; importing
this module makes them known to Detectron2.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torchvision
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, RPN_HEAD_REGISTRY, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.proposal_generator import StandardRPNHead
from fvcore.nn.weight_init import c2_xavier_fill
from torch import Tensor, nn
from torch.nn import functional

from faces.command import UserError
from networks.precision import use_bf16
from networks.pretrained.centerface import centerface_file, read_centerface
from networks.pretrained.imagenet import imagenet_state

IMAGENET = "imagenet://mobilenet_v2"
"""The value of ``MODEL.WEIGHTS`` that starts the light detector from ImageNet weights."""

CENTERFACE = "centerface://mobilenet_v2"
"""The one that starts it from the body of CenterFace, which has learnt to find faces."""

_STAGES = {"c1": (0, 2), "c2": (2, 4), "c3": (4, 7), "c4": (7, 14), "c5": (14, 18)}
_CHANNELS = {"c2": 24, "c3": 32, "c4": 96, "c5": 320}
_STRIDES = {"c2": 4, "c3": 8, "c4": 16, "c5": 32}


class ScaledConv2d(nn.Module):
    """A convolution followed by a frozen batch norm, as one operation.

    The statistics and the scale of the norm are constants (buffer ``scale``), its shift is the
    trainable bias. Multiplying the small kernel instead of the large activations makes training and
    inference a third faster than convolution and norm in turn.
    """

    scale: Tensor

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight.detach() * (norm.running_var + norm.eps).rsqrt()
        self.weight = nn.Parameter(conv.weight.detach().clone())
        self.bias = nn.Parameter(norm.bias.detach() - norm.running_mean * scale)
        self.register_buffer("scale", scale)
        self.stride, self.padding, self.groups = conv.stride, conv.padding, conv.groups

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H', W')."""
        weight = self.weight * self.scale.view(-1, 1, 1, 1)
        if x.device.type == "cpu" and self.groups > 1 and self.stride != (1, 1):
            # oneDNN's backward pass of these few is 5 to 20 times slower in bfloat16 than in fp32
            with torch.autocast("cpu", enabled=False):
                return self._convolve(x.float(), weight)
        return self._convolve(x, weight)

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        return functional.conv2d(
            x, weight, self.bias, self.stride, self.padding, groups=self.groups
        )


def fold_norms(module: nn.Module) -> None:
    """Replace, in place, every convolution with a batch norm behind it by one ``ScaledConv2d``."""
    for child in module.children():
        fold_norms(child)
    if isinstance(module, nn.Sequential):
        children = list(module.named_children())
        for (name, conv), (next_name, norm) in pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module._modules[name] = ScaledConv2d(conv, norm)
                module._modules[next_name] = nn.Identity()


class MobileNetV2(Backbone):
    """torchvision's MobileNetV2 without its classifier (Sandler et al., 2018).

    Outputs are the maps c2–c5 at strides 4, 8, 16, 32 with 24, 32, 96, 320 channels.

    Args:
        freeze_at: how many stages stay as they are loaded: 0 none, 1 the stem (c1), 2 also c2, …
        state: weights of ``torchvision.models.mobilenet_v2``; None leaves random ones.
    """

    def __init__(self, freeze_at: int = 0, state: dict[str, Tensor] | None = None) -> None:
        super().__init__()
        net = torchvision.models.mobilenet_v2(weights=None)
        if state is not None:
            net.load_state_dict(state)
        features = net.features[:18]
        fold_norms(features)
        self.features = features
        for layers in list(self.stages().values())[:freeze_at]:
            layers.requires_grad_(False)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map images (N, 3, H, W), H and W divisible by 32, to the maps c2–c5."""
        out: dict[str, Tensor] = {}
        for stage, layers in self.stages().items():
            x = layers(x)
            out[stage] = x
        del out["c1"]
        return out

    def stages(self) -> dict[str, nn.Sequential]:
        """Return the layers of c1 to c5, in this order."""
        return {stage: self.features[start:end] for stage, (start, end) in _STAGES.items()}

    def output_shape(self) -> dict[str, Any]:
        """Return name → channels and stride, as Detectron2 asks of a backbone."""
        return {
            name: ShapeSpec(channels=channels, stride=_STRIDES[name])
            for name, channels in _CHANNELS.items()
        }


class SeparableConv2d(nn.Sequential):
    """A 3×3 convolution of every channel by itself, then a 1×1 convolution across them.

    An eighth of the multiplications of a full one with 96 channels, as in the prediction layers of
    SSDLite (Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018).
    The output has the shape of the input, (N, C, H, W).
    """

    def __init__(self, channels: int) -> None:
        depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        pointwise = nn.Conv2d(channels, channels, 1)
        super().__init__(depthwise, pointwise)
        for conv in (depthwise, pointwise):
            c2_xavier_fill(conv)


class MixedPrecisionFPN(FPN):
    """Detectron2's FPN with convolutions in bfloat16 where that pays, and maps in fp32.

    See ``MODEL.BF16`` and ``MODEL.SEPARABLE``.
    """

    def __init__(self, *args: Any, bf16: str, separable: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.bf16 = bf16
        if separable:
            names = {id(conv): name for name, conv in self.named_children()}
            for index, conv in enumerate(self.output_convs):  # not registered through this list
                self.output_convs[index] = SeparableConv2d(conv.out_channels)
                setattr(self, names[id(conv)], self.output_convs[index])

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map images (N, 3, H, W) to the maps p2–p6, each (N, C, H / stride, W / stride) fp32."""
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=use_bf16(self.bf16, x.device)):
            features: dict[str, Tensor] = super().forward(x)
        # RoIAlign on the CPU takes twice as long with channels last
        return {name: feature.float().contiguous() for name, feature in features.items()}


@BACKBONE_REGISTRY.register()
def build_mobilenet_v2_fpn_backbone(cfg: Any, input_shape: Any) -> MixedPrecisionFPN:
    """Build the backbone that ``MODEL.BACKBONE.NAME: build_mobilenet_v2_fpn_backbone`` asks for.

    Separable convolutions with norms, which they do not have, are a ``UserError``.
    """
    if cfg.MODEL.SEPARABLE and cfg.MODEL.FPN.NORM:
        raise UserError(f"MODEL.FPN.NORM {cfg.MODEL.FPN.NORM}: none with MODEL.SEPARABLE True")
    return MixedPrecisionFPN(
        bottom_up=MobileNetV2(cfg.MODEL.BACKBONE.FREEZE_AT),
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
        bf16=cfg.MODEL.BF16,
        separable=cfg.MODEL.SEPARABLE,
    )


@RPN_HEAD_REGISTRY.register()
class MixedPrecisionRPNHead(StandardRPNHead):
    """Detectron2's RPN head with its shared 3×3 convolution in bfloat16 where that pays."""

    def __init__(self, cfg: Any, input_shape: list[ShapeSpec]) -> None:
        super().__init__(cfg, input_shape)
        self.bf16: str = cfg.MODEL.BF16
        if cfg.MODEL.SEPARABLE:
            if list(cfg.MODEL.RPN.CONV_DIMS) != [-1]:
                raise UserError(
                    f"MODEL.RPN.CONV_DIMS {cfg.MODEL.RPN.CONV_DIMS}: only [-1], one convolution "
                    "with as many channels as its input, with MODEL.SEPARABLE True"
                )
            self.conv = nn.Sequential(SeparableConv2d(input_shape[0].channels), nn.ReLU())

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Map feature maps to objectness logits and anchor deltas, one of each per level, fp32."""
        logits, deltas = [], []
        for x in features:
            bf16 = use_bf16(self.bf16, x.device)
            with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
                hidden = self.conv(x)
            hidden = hidden.float()
            logits.append(self.objectness_logits(hidden))
            deltas.append(self.anchor_deltas(hidden))
        return logits, deltas


def published_state(start: str, mean: Tensor, std: Tensor) -> dict[str, Tensor]:
    """Return the body's weights of a published network, by their names inside the light detector.

    The start is ``IMAGENET`` or ``CENTERFACE``; the detector takes ``mean`` (3,) off RGB pixels
    (0..255) and divides them by ``std`` (3,). A ``UserError`` says that the weights are neither
    here nor can be fetched.
    """
    try:
        body = imagenet_body() if start == IMAGENET else centerface_body(mean, std)
    except UserError as error:
        raise UserError(f"{error}; or start from other weights (MODEL.WEIGHTS FILE)") from error
    return {f"backbone.bottom_up.{name}": value for name, value in body.state_dict().items()}


def imagenet_body() -> MobileNetV2:
    """Return the body as torchvision trained it on ImageNet."""
    return MobileNetV2(state=imagenet_state("mobilenet_v2"))


@torch.no_grad()
def centerface_body(mean: Tensor, std: Tensor) -> MobileNetV2:
    """Return the body as CenterFace has it, for pixels that are normalised.

    It computes the same but for two things: where images end, CenterFace sees black and this one
    ``mean``; and CenterFace's activations have no upper bound, where this one's end at 6, which few
    reach.
    """
    body = MobileNetV2()
    layers = [part for part in body.modules() if isinstance(part, ScaledConv2d)]
    for index, (layer, source) in enumerate(
        zip(layers, read_centerface(centerface_file()), strict=True)
    ):
        kernel, bias = torch.from_numpy(source.kernel), torch.from_numpy(source.bias)
        if index == 0:
            bias = bias + (kernel * mean.view(1, 3, 1, 1)).sum((1, 2, 3))
            kernel = kernel * std.view(1, 3, 1, 1)
        layer.weight.copy_(kernel)
        layer.bias.copy_(bias)
        layer.scale.fill_(1.0)
    return body
