"""Images from lists, archives, shards and addresses."""

from __future__ import annotations

import functools
import http.server
import io
import itertools
import os
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from faces.command import UserError
from faces.images import read_image
from faces.paths import ImageError
from twostage.batch import sources
from twostage.batch.sources import Source, in_shard, iter_sources, parse_shard, read_list


def png(grey: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (4, 3), (grey, grey, grey)).save(data, "PNG")
    return data.getvalue()


MEMBERS = {
    "0001.png": png(1),
    "0001.json": b"{}",
    "sub/0002.JPG": png(2),
    ".hidden.png": png(3),
    "0003.cls": b"7",
    "0003.img.png": png(4),
}
IMAGES = {"0001.png": 1, "sub/0002.JPG": 2, "0003.img.png": 4}


SHARD_OF_FIRST = [1, 0, 0]


def write_archive(path: Path) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in MEMBERS.items():
                archive.writestr(name, data)
        return path
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as tar:
        for name, data in MEMBERS.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def greys(*paths: str | Path, wanted: Callable[[str], bool] = lambda name: True) -> dict[str, int]:
    """Name → grey level of every image."""
    found = {}
    for source in iter_sources([str(path) for path in paths], wanted=wanted):
        assert isinstance(source, Source), source
        found[source.name] = int(read_image(source.open(), source.name)[0, 0, 0])
    return found


def errors(*paths: str | Path) -> list[str]:
    return [str(e) for e in iter_sources([str(p) for p in paths]) if isinstance(e, ImageError)]


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz", "a.zip", "A.TAR"])
def test_archives_are_read_without_unpacking(tmp_path: Path, name: str) -> None:
    path = write_archive(tmp_path / name)
    assert greys(path) == {f"{path}/{member}": grey for member, grey in IMAGES.items()}
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["a.tar", "a.tgz", "a.zip"])
def test_what_is_not_wanted_of_an_archive_is_passed_over(tmp_path: Path, name: str) -> None:
    path = write_archive(tmp_path / name)
    assert greys(path, wanted=lambda one: one.endswith("0001.png")) == {f"{path}/0001.png": 1}


def test_shards_come_from_a_pattern_in_order(tmp_path: Path) -> None:
    for number in range(3):
        write_archive(tmp_path / f"shard-{number:06}.tar")
    found = list(greys(tmp_path / "shard-*.tar"))
    assert found == [
        f"{tmp_path}/shard-{number:06}.tar/{member}" for number in range(3) for member in IMAGES
    ]


def test_an_archive_in_a_folder_counts_only_if_it_is_named(tmp_path: Path) -> None:
    write_archive(tmp_path / "a.tar")
    (tmp_path / "b.png").write_bytes(png(9))
    assert greys(tmp_path) == {str(tmp_path / "b.png"): 9}


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.zip"])
def test_damaged_and_empty_archives_are_errors_of_their_own(tmp_path: Path, name: str) -> None:
    path = write_archive(tmp_path / name)
    whole = path.read_bytes()
    path.write_bytes(b"no archive" * 100)
    assert len(errors(path)) == 1 and "is damaged, or no archive" in errors(path)[0]
    assert errors(tmp_path / f"none.{name}") == [f"{tmp_path}/none.{name}: no such file or folder"]
    path.write_bytes(whole[: len(whole) // 2])
    good = [s for s in iter_sources([str(path)]) if isinstance(s, Source)]
    assert len(good) < 3 or name.endswith("gz")
    for source in good:
        try:
            read_image(source.open(), source.name)
        except ImageError as error:
            assert error.source == source.name
    path.write_bytes(whole)
    empty = tmp_path / "empty.zip"
    zipfile.ZipFile(empty, "w").close()
    assert errors(empty) == [f"{empty}: the archive holds no images"]


def test_a_member_that_is_too_large_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MAX_BYTES", 10)
    for name in ("a.tar", "a.tgz", "a.zip"):
        found = list(iter_sources([str(write_archive(tmp_path / name))]))
        assert len(found) == 3
        for source in found:
            assert isinstance(source, Source) and not source.data
            with pytest.raises(ImageError, match="the most read from an archive"):
                source.open()


def test_a_list_names_paths(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfa b.png\r\n\n# no path\nsub/\xff.png\n")
    assert read_list(path) == ["a b.png", os.fsdecode(b"sub/\xff.png")]
    path.write_text("\n# nothing\n")
    with pytest.raises(UserError, match="names no images"):
        read_list(path)
    with pytest.raises(UserError, match="no such file"):
        read_list(tmp_path / "none")
    path.write_bytes(b"\x89PNG\0\0")
    with pytest.raises(UserError, match="no text file"):
        read_list(path)


def test_every_image_is_in_one_shard_and_stays_there() -> None:
    names = [f"photos/{number}.jpg" for number in range(3000)]
    shards = [[name for name in names if in_shard(name, index, 3)] for index in (1, 2, 3)]
    assert sorted(itertools.chain(*shards)) == sorted(names)
    assert all(900 < len(shard) < 1100 for shard in shards)
    first = [int(in_shard("photos/0.jpg", index, 3)) for index in (1, 2, 3)]
    assert first == SHARD_OF_FIRST  # in every version and on every machine


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "a/b", "-1/3", "1/3/5"])
def test_shards_that_cannot_be_are_refused(text: str) -> None:
    assert parse_shard("2/3") == (2, 3)
    with pytest.raises(UserError, match="I from 1 to N"):
        parse_shard(text)


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    system = fsspec.filesystem("memory")
    system.pipe({"/pictures/a.png": png(1), "/pictures/deep/b.png": png(2), "/pictures/c.txt": b""})
    yield system
    system.rm("/pictures", recursive=True)


def test_addresses_stand_for_files_folders_patterns_and_archives(
    memory: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    base = "memory:///pictures"
    both = {f"memory://{path}": grey for path, grey in (("/pictures/a.png", 1),)}
    assert greys(f"{base}/*.png") == both
    assert list(greys(base).values()) == [1, 2]
    assert list(greys(f"{base}/a.png").values()) == [1]
    assert errors("memory:///nowhere")
    for name in ("a.tar", "a.zip"):
        memory.pipe(f"/pictures/{name}", write_archive(tmp_path / name).read_bytes())
        assert list(greys(f"{base}/{name}").values()) == [1, 2, 4]


def test_addresses_without_their_package_are_refused() -> None:
    with pytest.raises(UserError, match=r"cannot be opened|needs a package"):
        list(iter_sources(["nonsense://bucket/a.png"]))


def test_images_come_over_http(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="addresses http:// need aiohttp")
    (tmp_path / "a.png").write_bytes(png(1))
    write_archive(tmp_path / "b.tar")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_address[1]}"
        assert greys(f"{base}/a.png") == {f"{base}/a.png": 1}
        assert list(greys(f"{base}/b.tar").values()) == [1, 2, 4]
        (missing,) = iter_sources([f"{base}/none.png"])
        assert isinstance(missing, Source)
        with pytest.raises(ImageError):
            missing.open()
        server.shutdown()


def test_images_of_archives_are_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (50, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tmp_path / "a.png", "a.png")
    (source,) = iter_sources([str(tmp_path / "a.tar")])
    assert isinstance(source, Source)
    assert np.array_equal(read_image(source.open()), pixels)
