"""What ``twostage analyze`` imports, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

ANALYSE = """
import sys
from twostage.cli import main
assert main(["analyze", "samples/collins.jpg"]) == 0
needless = {"torch._dynamo", "sympy", "sklearn", "matplotlib", "tensorboard",
            "albumentations", "onnx", "openvino.frontend.pytorch.ts_decoder"}
print("imported:", sorted(needless & set(sys.modules)))
"""

USE = """
import sys
from networks.torchvision_import import COMPILER, import_torchvision
import_torchvision()
import_torchvision()
from torchvision.ops import roi_align  # the function
assert COMPILER not in sys.modules
deferred = sys.modules["torchvision.ops.roi_align"].is_compile_supported
answer = deferred("cpu")
import torch._dynamo.utils as real
assert real.__file__ and deferred is not real.is_compile_supported
assert answer is real.is_compile_supported("cpu")
print("answered")
"""


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_analyze_imports_neither_the_compiler_nor_what_training_needs() -> None:
    assert run(ANALYSE).splitlines()[-1] == "imported: []"


def test_the_compiler_comes_when_it_is_called() -> None:
    assert run(USE) == "answered\n"
