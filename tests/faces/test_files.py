"""Files that are written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path

import pytest

from faces.command import UserError
from faces.files import (
    MOST_TEXT,
    file_sha256,
    read_json,
    read_text,
    read_toml,
    regular_file,
    replacing,
    write_json,
    write_text,
)


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as part:
        part.write_text("half")
        assert path.read_text() == "old"
        part.write_text("new")
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [OSError(28, "No space left"), KeyboardInterrupt, ValueError])
def test_an_error_keeps_the_former_file_and_leaves_nothing_beside_it(
    tmp_path: Path, error: BaseException | type[BaseException]
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(type(error) if isinstance(error, OSError) else error), replacing(path):
        raise error
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_errors_name_the_file_and_not_its_part(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "none" / "a.txt", tmp_path / "folder"):
        with pytest.raises(OSError) as caught, replacing(path) as part:
            part.write_text("new")
        assert caught.value.filename == str(path) and caught.value.filename2 is None
    assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.parametrize("name", ["n" * 255, "é" * 127])
def test_names_may_be_as_long_as_the_file_system_takes(tmp_path: Path, name: str) -> None:
    write_text(tmp_path / name, "x")
    assert os.listdir(tmp_path) == [name]


def test_writers_of_one_path_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    texts = [str(number) * 100_000 for number in range(8)]
    threads = [threading.Thread(target=write_text, args=(path, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts and os.listdir(tmp_path) == ["a.txt"]


def test_what_is_replaced_is_on_the_disk_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (calls.append("fsync"), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    write_text(tmp_path / "new" / "a.txt", "é")
    assert calls == ["fsync", "replace"]
    assert (tmp_path / "new" / "a.txt").read_bytes() == "é".encode()


def test_json_is_strict_and_hashes_are_those_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"é": [1, None]})
    assert path.read_text("utf-8").endswith("}\n") and json.loads(path.read_text("utf-8"))
    assert file_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, float("nan"))
    assert path.read_bytes() == before


def test_a_pipe_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "a.json").write_text("{}")
    os.symlink("loop", tmp_path / "loop")
    assert regular_file(tmp_path / "a.json") == tmp_path / "a.json"
    for name, words in (
        ("pipe.json", "no regular file"), (".", "is a folder"), ("absent", "no such file"),
        ("loop", "cannot be opened"), ("a\0b", "cannot be opened"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=words):
            regular_file(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "not valid JSON"),
        (b"[1", "not valid JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"9" * 5000, "not valid JSON"),
        (b"\xff\xfe[\x00", "not UTF-8 text (byte 0)"),
    ],
)
def test_broken_json_is_refused_with_its_cause(tmp_path: Path, content: bytes, cause: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_json(path)
    assert str(path) in str(caught.value) and cause in str(caught.value)


def test_text_is_read_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for head in (b"", b"\xef\xbb\xbf"):
        path.write_bytes(head + '{"é": 1}'.encode())
        assert read_json(path) == {"é": 1}


def test_text_without_end_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.json"
    with path.open("wb") as file:
        file.truncate(MOST_TEXT + 1)
    with pytest.raises(UserError, match="more than 1024 MiB"):
        read_text(path)


@pytest.mark.parametrize("content", [b"a = ", b"a = " + b"[" * 100_000, b"a = " + b"9" * 5000])
def test_broken_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.toml: not valid TOML"):
        read_toml(path)
