"""Where bfloat16 pays is read off the processor's flags, and can be set from outside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from faces.command import UserError
from networks import precision
from networks.precision import cpu_has_bf16, processor_class


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


@pytest.mark.parametrize(
    ("widest", "limit", "expected"),
    [
        ("AVX512", "", "AVX-512, bfloat16"),
        ("AVX512", "AVX512_CORE", "AVX-512, float32"),
        ("AVX512", "avx2", "AVX2, float32"),
        ("AVX512", "AVX2_VNNI", "AVX2, float32"),
        ("AVX2", "AVX512_CORE_BF16", "AVX2, bfloat16"),
        ("AVX2", "SSE41", "SSE41, float32"),
        ("SVE256", "DEFAULT", "SVE256, bfloat16"),
    ],
)
def test_the_class_of_a_limited_processor_is_that_of_the_lesser_one(
    monkeypatch: pytest.MonkeyPatch, widest: str, limit: str, expected: str
) -> None:
    monkeypatch.setattr(precision, "_flags_have_bf16", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: widest)
    if limit:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert processor_class() == expected


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
