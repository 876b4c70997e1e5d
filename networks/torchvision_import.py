"""PyTorch's compiler, which torchvision imports without need, left out until somebody needs it."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo.utils"
"""What ``torchvision.ops.roi_align`` takes one function from, and that it calls on GPUs only."""


def import_torchvision() -> None:
    """Import torchvision without PyTorch's compiler, whose import takes more than a second.

    To be called before anything else imports torchvision; harmless later.
    """
    import torch  # noqa: F401  (torchvision alone is to meet what stands in)

    if COMPILER in sys.modules or "torchvision" in sys.modules:
        return
    standing_in = _Deferred(COMPILER)
    sys.modules[COMPILER] = standing_in
    try:
        import torchvision  # noqa: F401
    finally:
        if sys.modules.get(COMPILER) is standing_in:
            del sys.modules[COMPILER]


class _Deferred(ModuleType):
    """Stands in for the module of the compiler, and imports that when something of it is used."""

    @staticmethod
    def is_compile_supported(device: str) -> bool:
        """Answer as the real function."""
        answer: bool = importlib.import_module(COMPILER).is_compile_supported(device)
        return answer

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # those who look through all modules ask for their files
            raise AttributeError(name)
        if sys.modules.get(COMPILER) is self:
            del sys.modules[COMPILER]
        return getattr(importlib.import_module(COMPILER), name)
