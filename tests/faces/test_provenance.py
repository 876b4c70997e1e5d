"""Commands and commits that records name."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from faces import provenance


def test_command_lines_can_be_pasted_into_a_shell() -> None:
    argv = ["--data", "my photos/a'b.zip", "--out", "x"]
    line = provenance.command_line("eval.classification", [*argv, "--resume"])
    assert shlex.split(line) == ["python", "-m", "eval.classification", *argv]


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_commit_says_whether_tracked_files_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "faces" / "provenance.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.git_commit() is None
    git(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("1")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "r.json").write_text("1")
    git(tmp_path, "add", "a", "results")
    git(tmp_path, "commit", "-qm", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "untracked").write_text("")
    (tmp_path / "results" / "r.json").write_text("2")
    assert provenance.git_commit() == commit
    (tmp_path / "a").write_text("2")
    assert provenance.git_commit() == f"{commit}+changes"
