"""docs/quickstart.ipynb runs from its first cell to its last, and is kept without outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"


@pytest.fixture
def notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def outputs(cell: Any) -> dict[str, Any]:
    """What a cell put out, by MIME type; printed text is text/plain, too."""
    found: dict[str, Any] = {}
    for output in cell.outputs:
        found |= {"text/plain": output.text} if "text" in output else output.get("data", {})
    return found


def test_the_notebook_is_kept_without_outputs(notebook: Any) -> None:
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None


@pytest.mark.slow
def test_the_notebook_runs_and_shows_pictures_and_a_table(
    notebook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    place = {"metadata": {"path": str(NOTEBOOK.parent)}}
    NotebookClient(notebook, timeout=100, resources=place).execute()
    shown = [outputs(cell) for cell in notebook.cells if cell.cell_type == "code"]
    assert [("image/png" in one, "text/html" in one) for one in shown] == [
        *[(False, False), (True, False), (False, False), (False, True)],
        *[(False, False), (False, False), (True, False)],
    ]
    assert len(shown[2]["text/plain"].splitlines()) == 3
    assert "missing.jpg" in shown[5]["text/plain"].splitlines()[-1]
