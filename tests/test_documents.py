"""The documents name what is there: links, anchors, files, modules, targets of make."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
FOLDERS = [*PROJECT["tool"]["importlinter"]["root_packages"], *"docs samples setup tests".split()]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", *(f"{folder}/**/README.md" for folder in FOLDERS))
    for path in ROOT.glob(pattern)
)
MENTIONING = [name for name in DOCUMENTS if name not in ("CHANGELOG.md", "samples/README.md")]
"""The changelog may name what is gone, and the photos come from other packages' files."""

FENCED = re.compile(r"^(```+|~~~+).*?^\1", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]+`")
LINK = re.compile(
    r"\]\(\s*<?([^)\s>]+)|\b(?:src|srcset|href)=\"([^\"]+)\"|^\[[^\]]+\]:\s+(\S+)", re.M
)


def text(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def links(markdown: str) -> list[str]:
    prose = CODE.sub("", FENCED.sub("", markdown))
    return [next(filter(None, groups)) for groups in LINK.findall(prose)]


def anchors(markdown: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them, and those set by hand."""
    prose = FENCED.sub("", markdown)
    seen: Counter[str] = Counter()
    found = set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", prose))
    for heading in re.findall(r"^#{1,6} +(.+?)(?: +#+)?$", prose, re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        found.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return found


def broken_links(name: str) -> list[str]:
    broken = []
    for link in links(text(name)):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        path = (ROOT / name).parent / file if file else ROOT / name
        if not path.exists():
            broken.append(f"{link}: no such file")
        elif anchor and path.suffix == ".md" and anchor not in anchors(path.read_text("utf-8")):
            broken.append(f"{link}: no such heading")
    return broken


def module_exists(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def test_the_documents_are_found() -> None:
    assert {"README.md", "CONTRIBUTING.md", "docs/architecture.md", "samples/README.md"} <= set(
        DOCUMENTS
    )


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_to_files_and_headings(name: str) -> None:
    assert broken_links(name) == []


def test_a_broken_link_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "a.md").write_text(
        "# One `two`, three!\n\n[gone](no.md) [good](b.md#one-two-three-1) [bad](b.md#two)\n"
        '<img src="no.png"> `[code](no)` [here](#one-two-three) [web](https://example.org/no)\n'
        "```\n[fenced](no)\n```\n[by name][x]\n\n[x]: none.md\n"
    )
    (tmp_path / "b.md").write_text("# One two three\n## One two, three\n")
    assert broken_links("a.md") == [
        "no.md: no such file",
        "b.md#two: no such heading",
        "no.png: no such file",
        "none.md: no such file",
    ]


@pytest.mark.parametrize("name", MENTIONING)
def test_files_that_are_named_exist(name: str) -> None:
    rooms = "|".join([*FOLDERS, "weights", "results"])
    named = re.findall(rf"(?<![\w/.\-])(?:{rooms})/[\w./\-]*\.[a-z]+\b", text(name))
    assert [file for file in sorted(set(named)) if not (ROOT / file).exists()] == []


@pytest.mark.parametrize("name", MENTIONING)
def test_modules_that_are_named_exist(name: str) -> None:
    rooms = "|".join(PROJECT["tool"]["importlinter"]["root_packages"])
    named = re.findall(rf"-m ((?:{rooms})(?:\.\w+)+)", text(name))
    assert [module for module in sorted(set(named)) if not module_exists(module)] == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_targets_of_make_that_are_named_exist(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))
    code = [*FENCED.finditer(text(name)), *CODE.finditer(FENCED.sub("", text(name)))]
    named = {
        target
        for match in code
        for target in re.findall(
            r"(?:^|`|&& )make ((?!-)[a-z-]+)\b(?![=/.])", match[0], re.MULTILINE
        )
    }
    assert named - targets == set()
