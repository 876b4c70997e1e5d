"""Where bfloat16 pays is read off the processor's flags, and can be set from outside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from faces.command import UserError
from networks import precision
from networks.precision import cpu_has_bf16


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    ask = precision._flags_have_bf16
    ask.cache_clear()
    yield
    ask.cache_clear()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model name\t: X\nflags\t\t: fpu avx512f avx512_bf16 sse\n", True),
        ("flags\t\t: fpu avx512f avx512_bf16x\n", False),
        ("processor : 0\nFeatures\t: fp asimd bf16\n", True),
        ("", False),
    ],
)
def test_flags_decide(monkeypatch: pytest.MonkeyPatch, text: str, expected: bool) -> None:
    monkeypatch.setattr(Path, "read_text", lambda self, **options: text)
    assert cpu_has_bf16() is expected


def test_systems_without_cpuinfo_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, **options: str) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", refuse)
    assert cpu_has_bf16() is False


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("AVX2", False), ("avx512_core", False), ("AVX512_CORE_BF16", True), ("DEFAULT", True)],
)
def test_onednns_limit_makes_a_lesser_processor(
    monkeypatch: pytest.MonkeyPatch, limit: str, expected: bool
) -> None:
    monkeypatch.setattr(precision, "_flags_have_bf16", lambda: True)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert cpu_has_bf16() is expected


@pytest.mark.parametrize("capable", [False, True])
def test_the_configuration_decides_or_the_processor(
    monkeypatch: pytest.MonkeyPatch, capable: bool
) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: capable)
    assert precision.use_bf16("on", cpu) and not precision.use_bf16("off", cpu)
    assert precision.use_bf16("auto", cpu) is capable
    assert (precision.best_dtype(cpu) == torch.bfloat16) is capable
    assert precision.best_dtype(torch.device("meta")) == torch.float32
    with pytest.raises(UserError, match=r"MODEL\.BF16"):
        precision.use_bf16("maybe", cpu)
