"""Where bfloat16 pays is read off the processor's flags."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from faces.processor import cpu_has_bf16


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    cpu_has_bf16.cache_clear()
    yield
    cpu_has_bf16.cache_clear()


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
