"""The documentation's site: built strictly, without anything from the network."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("mkdocs", reason="needs the extra docs: make setup EXTRAS=docs")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site_pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / "docs" / "site_pages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a](docs/results.md#x)", "[a](results.md#x)"),
        ("[a](docs/results.md)", "[a](results.md)"),
        ("![a](docs/demo_light.png)", "![a](demo_light.png)"),
        ('<img src="docs/demo_light.png">', '<img src="demo_light.png">'),
        ("[the licence](LICENSE), and so on", "the licence, and so on"),
        ("[a](samples/README.md)", "[a](samples_readme.md)"),
        ("[a](https://example.org/b)", "[a](https://example.org/b)"),
        ("[a](#train)", "[a](#train)"),
    ],
)
def test_links_of_the_readme_become_the_sites(
    site_pages: ModuleType, text: str, expected: str
) -> None:
    assert site_pages.with_site_links(text, "README.md", "index.md") == expected


def test_links_of_a_rooms_readme_become_the_sites(site_pages: ModuleType) -> None:
    text = "[a](../docs/results.md) [b](../README.md) [c](hopper.jpg)"
    moved = site_pages.with_site_links(text, "samples/README.md", "samples_readme.md")
    assert moved == "[a](results.md) [b](index.md) c"


def test_pages_come_in_the_order_in_which_people_need_them(site_pages: ModuleType) -> None:
    names = ["zoo", "architecture", "usage", "index", "eval_readme", "reference/eval", "changelog"]
    assert site_pages.navigation(names) == [
        "index.md",
        "usage.md",
        "architecture.md",
        "zoo.md",
        {"Rooms": ["eval_readme.md"]},
        {"Reference": [{"eval": "reference/eval.md"}]},
        "changelog.md",
    ]


@pytest.mark.slow
def test_the_site_builds_strictly_and_fetches_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    variables = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    pages = {
        path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.html")
    }
    assert {"index.html", "contributing.html", "reference/twostage.html"} <= set(pages)
    assert "faces.boxes" in pages["reference/faces.html"]
    for name, page in pages.items():
        fetched = re.findall(
            r"<(?:script|img|link|source|iframe)\b[^>]*=\"?(?:https?:)?//[^>]*>", page
        )
        assert fetched == [], name
