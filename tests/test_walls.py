"""The walls between the rooms, and the limits of size that keep them readable.

``lint-imports`` holds the contracts of pyproject.toml against the code in ``make test``. Here each
contract is shown to hold: a wrong import between empty modules of the same names breaks it.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
ROOMS = PROJECT["tool"]["importlinter"]["root_packages"]
NO_ROOMS = ("tests", "setup", "samples", "docs")
"""Folders with Python files that no room may import."""

LONGEST_FUNCTION = 80
"""Lines, from ``def`` to the end."""
MOST_MODULES = 20
"""Modules in one folder."""


def product_files() -> Iterator[Path]:
    """Yield every Python file of the project but the tests."""
    for room in (*ROOMS, "setup", "samples", "docs"):
        yield from sorted((ROOT / room).rglob("*.py"))


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(scope="session")
def empty_rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the project's modules, all of them empty, and its contracts."""
    folder = tmp_path_factory.mktemp("rooms")
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            copy = folder / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.touch()
    (folder / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text("utf-8"), "utf-8")
    return folder


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_modules_without_imports_keep_all_contracts(empty_rooms: Path) -> None:
    done = lint(empty_rooms)
    assert done.returncode == 0, done.stdout
    assert f"{len(PROJECT['tool']['importlinter']['contracts'])} kept, 0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "statement", "contract"),
    [
        ("faces.boxes", "import networks.device", "Arrows point down"),
        ("networks.device", "import detection", "Arrows point down"),
        ("detection.train", "import classification.train", "Arrows point down"),
        ("classification.train", "from detection.data import mapper", "Arrows point down"),
        ("twostage.cli", "import eval.joint", "Arrows point down"),
        ("eval.joint", "import benchmarks.joint", "Arrows point down"),
        ("benchmarks.joint", "import demo.app", "Arrows point down"),
        ("twostage.cli", "def late():\n    import demo.app", "Arrows point down"),
        ("baselines.knn", "import detection.train", "The baselines stand beside stage 2"),
        ("demo.app", "from classification.inference import classifier", "The page sees twostage"),
        ("eval.detection", "from detectron2.config import get_cfg", "Only detection knows"),
        ("faces.boxes", "import torch", "faces needs neither PyTorch"),
        ("detection.modeling.config", "import detection.inference.detectron", "Stage 1"),
        ("detection.training.trainer", "import detection.train", "Stage 1"),
        ("classification.data.fer2013", "import classification.training.card", "Stage 2"),
        ("classification.inference.classifier", "import classification.train", "Stage 2"),
        ("eval.data.pairs", "import eval.metrics.joint", "Evaluation"),
        ("eval.metrics.joint", "import eval.joint", "Evaluation"),
    ],
)
def test_a_wrong_import_breaks_its_contract(
    empty_rooms: Path, module: str, statement: str, contract: str
) -> None:
    path = empty_rooms.joinpath(*module.split(".")).with_suffix(".py")
    assert path.exists(), f"{module} has moved: name another module of its folder"
    path.write_text(statement + "\n")
    try:
        done = lint(empty_rooms)
    finally:
        path.write_text("")
    broken = re.findall(r"^(.+) BROKEN$", done.stdout, re.MULTILINE)
    assert done.returncode == 1
    assert any(name.startswith(contract) for name in broken), done.stdout


def test_a_command_that_no_layer_lists_breaks_its_contract(empty_rooms: Path) -> None:
    for room, contract in [("detection", "Stage 1"), ("classification", "Stage 2")]:
        path = empty_rooms / room / "another.py"
        path.touch()
        try:
            done = lint(empty_rooms)
        finally:
            path.unlink()
        assert done.returncode == 1
        assert re.search(rf"^{contract}.* BROKEN$", done.stdout, re.MULTILINE)


def test_every_folder_of_modules_is_a_room_packaged_typed_and_sorted() -> None:
    folders = {path.parent.name for path in ROOT.glob("[a-z]*/*.py")} - set(NO_ROOMS)
    assert folders == set(ROOMS)
    tools = PROJECT["tool"]
    assert set(tools["mypy"]["files"]) == {*ROOMS, "setup"}
    assert set(tools["ruff"]["lint"]["isort"]["known-first-party"]) == set(ROOMS)


def test_the_set_up_imports_the_standard_library_only() -> None:
    own = {path.stem for path in (ROOT / "setup").glob("*.py")}
    for path in (ROOT / "setup").glob("*.py"):
        imported = {
            name.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        assert imported <= sys.stdlib_module_names | own, path


def test_no_function_is_longer_than_a_screen() -> None:
    long = [
        f"{place(path)}:{node.lineno} {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for path in product_files()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= LONGEST_FUNCTION
    ]
    assert not long, "\n".join(long)


def test_no_folder_holds_more_modules_than_a_glance_takes() -> None:
    counts: dict[str, int] = {}
    for path in product_files():
        if path.name != "__init__.py":
            counts[place(path.parent)] = counts.get(place(path.parent), 0) + 1
    assert {folder: count for folder, count in counts.items() if count > MOST_MODULES} == {}


@pytest.mark.parametrize(
    ("pattern", "where"),
    [
        # Files are replaced whole or not at all, in one place.
        (r"\bos\.(replace|rename)\b", {"faces/files.py"}),
        # A user's error keeps its class on its way to the command.
        (r"str\(error\)\) from error", set()),
        # What the processor can do is asked in one place, which tests set.
        (r"cpuinfo|cpu_capability|mkldnn_bf16|environ.*ISA", {"networks/precision.py"}),
        (r"\bsys\.path\b", set()),
        (r"except Exception:\s+pass", set()),
    ],
)
def test_what_stands_in_one_place_stands_in_no_other(pattern: str, where: set[str]) -> None:
    found = {place(path) for path in product_files() if re.search(pattern, path.read_text("utf-8"))}
    assert found == where
