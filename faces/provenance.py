"""Where a figure or a set of weights came from: the command, the commit, the card."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from faces.command import UserError
from faces.files import read_text


class CardError(UserError):
    """A model card cannot be read; the message names the file, the cause and the way out."""


def read_card(path: Path) -> dict[str, Any]:
    """Read a model card, or another JSON object beside a model.

    A ``CardError`` says that it cannot be read, or holds something else.
    """
    try:
        card = json.loads(read_text(path), parse_constant=_no_constant)
    except OSError as error:
        raise CardError(f"{path}: cannot be read: {error.strerror}; restore it") from error
    except (ValueError, RecursionError) as error:
        raise CardError(f"{path}: not valid JSON ({error}); restore it") from error
    if not isinstance(card, dict):
        raise CardError(f"{path}: no JSON object; restore it")
    return card


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def command_line(module: str, argv: Sequence[str] | None = None) -> str:
    """Return the shell command that does the whole of what this process does.

    ``argv`` are the module's arguments, None for this process's own. ``--resume`` is left out: who
    repeats a run starts at its beginning.
    """
    words = [word for word in (sys.argv[1:] if argv is None else argv) if word != "--resume"]
    return shlex.join(["python", "-m", module, *words])


def git_commit() -> str | None:
    """Return this clone's commit, with ``+changes`` if tracked files differ; None outside git.

    Records, documents and cards do not count: they decide no figure, and several are written in a
    row.
    """
    root = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        others = [":/", ":(top,exclude)results", ":(top,exclude)docs", ":(top,exclude)*.md"]
        others.append(":(top,exclude)weights/*.json")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", *others)
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
