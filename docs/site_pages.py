"""MkDocs' hook: what the site has besides ``docs/``, and the order of its pages.

README.md is the first page. The rooms' READMEs, CONTRIBUTING.md and CHANGELOG.md are pages, too,
and each package has a reference made from its docstrings.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
ROOMS = "twostage faces networks detection classification baselines video eval demo".split()
ORDER = "index usage scale api service training evaluation results comparison architecture".split()
"""The first pages; what else lies in ``docs/`` follows by name."""
LAST = ("contributing", "changelog")

LINK = re.compile(r"""(?P<before>\]\(|\b(?:src|srcset|href)=")(?P<target>[^)"#\s:]+)(?=[)"#])""")
LINKED_TEXT = re.compile(r"\[(?P<text>[^\]\[]+)\]\((?P<target>[^)#\s:]+)(?:#[^)]*)?\)")


def pages() -> dict[str, str]:
    """Return the pages made from files outside ``docs/``: path in the site → path in the clone."""
    found = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md"}
    found["changelog.md"] = "CHANGELOG.md"
    readmes = [
        path for room in (*ROOMS, "samples") if (path := ROOT / room / "README.md").is_file()
    ]
    return found | {
        f"{path.parent.name}_readme.md": f"{path.parent.name}/README.md" for path in readmes
    }


def site_path(file: str) -> str | None:
    """Return where a file of the clone stands in the site; None if it does not."""
    for page, source in pages().items():
        if source == file:
            return page
    inside = file.startswith("docs/") and (ROOT / file).is_file()
    return file.removeprefix("docs/") if inside else None


def with_site_links(text: str, source: str, page: str) -> str:
    """Turn the links of a document into the site's.

    The text is Markdown; ``source`` is its file in the clone, to which its links are relative, and
    ``page`` its path in the site. A link to a file that the site does not hold becomes its name.
    """

    def place(target: str) -> str | None:
        return site_path(normpath(f"{PurePosixPath(source).parent}/{target}"))

    def unlinked(match: re.Match[str]) -> str:
        return match[0] if place(match["target"]) else match["text"]

    def moved(match: re.Match[str]) -> str:
        found = place(match["target"])
        start = str(PurePosixPath(page).parent)
        return match["before"] + (relpath(found, start) if found else match["target"])

    return LINK.sub(moved, LINKED_TEXT.sub(unlinked, text))


def reference(package: Path) -> str | None:
    """Return the page of a package's modules; None if it has none."""
    name = ".".join(package.relative_to(ROOT).parts)
    modules = [f"{name}.{path.stem}" for path in sorted(package.glob("[a-z]*.py"))]
    if name == "twostage":
        modules.insert(0, name)
    return "\n\n".join([f"# {name}", *(f"::: {module}" for module in modules)]) if modules else None


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are not in ``docs/``."""
    for page, source in pages().items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text("utf-8")))
    for room in ROOMS:
        for init in sorted((ROOT / room).rglob("__init__.py")):
            name = ".".join(init.parent.relative_to(ROOT).parts)
            if text := reference(init.parent):
                files.append(File.generated(config, f"reference/{name}.md", content=text))
    texts = [file.src_uri for file in files.documentation_pages()]
    config.nav = navigation([name.removesuffix(".md") for name in texts])
    return files


def navigation(names: list[str]) -> list[Any]:
    """Return the pages in the order in which people need them, the references last."""
    references = [name for name in names if name.startswith("reference/")]
    rooms = [name for name in names if name.endswith("_readme")]
    first = [name for name in ORDER if name in names]
    others = sorted(set(names) - {*references, *rooms, *first, *LAST})
    ends = [name for name in LAST if name in names]
    return [
        *(f"{name}.md" for name in (*first, *others)),
        {"Rooms": [f"{name}.md" for name in rooms]},
        {"Reference": [{name.removeprefix("reference/"): f"{name}.md"} for name in references]},
        *(f"{name}.md" for name in ends),
    ]


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Make the links of one page the site's."""
    source = pages().get(page.file.src_uri, f"docs/{page.file.src_uri}")
    return with_site_links(markdown, source, page.file.src_uri)
