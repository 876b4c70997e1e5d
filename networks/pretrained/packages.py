"""Files that installed packages carry."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def packaged_file(package: str, file: str) -> Path | None:
    """Find a file of a package without importing it; None if either is not here."""
    found = importlib.util.find_spec(package)
    folders = found.submodule_search_locations or [] if found else []
    return next((path for folder in folders if (path := Path(folder) / file).is_file()), None)
