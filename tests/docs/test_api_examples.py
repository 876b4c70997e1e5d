"""The examples of docs/api.md and of the README run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(document: str) -> list[str]:
    return BLOCK.findall((ROOT / document).read_text("utf-8"))


@pytest.fixture(autouse=True)
def copy_of_the_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in a folder where samples/ is found and nothing of the clone is overwritten."""
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    monkeypatch.chdir(tmp_path)


def run(document: str) -> dict[str, object]:
    names: dict[str, object] = {}
    for number, block in enumerate(blocks(document), start=1):
        exec(compile(block, f"{document}, example {number}", "exec"), names)
    return names


def test_every_part_of_the_api_page_has_an_example() -> None:
    assert len(blocks("docs/api.md")) == 7


def test_the_examples_of_the_api_page_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = run("docs/api.md")
    lines = capsys.readouterr().out.splitlines()
    assert sum("['happy'] False" in line for line in lines) == 2
    assert sum(line.startswith("samples/") and line[-1].isdigit() for line in lines) == 3
    assert (tmp_path / "marked.png").is_file()
    assert len((tmp_path / "faces.csv").read_text().splitlines()) == 1 + len(names["table"])  # type: ignore[arg-type]


def test_the_example_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    run("README.md")
    assert len(capsys.readouterr().out.splitlines()) == 3
