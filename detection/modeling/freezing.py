"""Which parts of a detector are trained: what ``MODEL.BACKBONE.FREEZE_AT`` comes to."""

from __future__ import annotations

from typing import Any

from torch import nn


def parts(model: Any) -> dict[str, nn.Module]:
    """Return the parts of a Detectron2 GeneralizedRCNN with an FPN, from the pixels on.

    The body is a ResNet (stem, res2 to res5) or this project's MobileNetV2 (c1 to c5). Its stages,
    ``fpn``, ``rpn`` and ``box head`` hold every parameter once.
    """
    fpn = model.backbone
    body = fpn.bottom_up
    stages: dict[str, nn.Module]
    if hasattr(body, "stem"):
        stages = {"stem": body.stem} | {name: getattr(body, name) for name in body.stage_names}
    else:
        stages = dict(body.stages())
    pyramid = nn.ModuleList([*fpn.lateral_convs, *fpn.output_convs])
    return stages | {"fpn": pyramid, "rpn": model.proposal_generator, "box head": model.roi_heads}


def parameters_by_part(model: Any) -> dict[str, dict[str, int]]:
    """Return part → how many parameters it has (``all``), and of them ``trained``."""
    return {
        name: {
            "all": sum(p.numel() for p in part.parameters()),
            "trained": sum(p.numel() for p in part.parameters() if p.requires_grad),
        }
        for name, part in parts(model).items()
    }
