"""Files, folders and patterns as users name them."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from faces.images import ImageError
from faces.paths import IMAGE_SUFFIXES, iter_image_paths

TREE = [
    "b.jpg",
    "a.PNG",
    "notes.txt",
    "scan.dat",
    ".hidden.jpg",
    "photo[1].jpg",
    "sub/d.webp",
    "sub/c.jpeg",
    "sub/deep/e.tiff",
    "sub/deep/readme.md",
    ".cache/f.jpg",
    "other/g.jpg",
]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in TREE:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*paths: str) -> list[str]:
    return [
        f"! {item.source}" if isinstance(item, ImageError) else str(item)
        for item in iter_image_paths(paths)
    ]


EVERYTHING = [
    "a.PNG",
    "b.jpg",
    "photo[1].jpg",
    "other/g.jpg",
    "sub/c.jpeg",
    "sub/d.webp",
    "sub/deep/e.tiff",
]


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["."], EVERYTHING),
        (["sub"], ["sub/c.jpeg", "sub/d.webp", "sub/deep/e.tiff"]),
        (["sub/"], ["sub/c.jpeg", "sub/d.webp", "sub/deep/e.tiff"]),
        (["scan.dat", "b.jpg"], ["scan.dat", "b.jpg"]),
        ([".hidden.jpg"], [".hidden.jpg"]),
        (["photo[1].jpg"], ["photo[1].jpg"]),
        (["*.jpg"], ["b.jpg", "photo[1].jpg"]),
        (["./*.jpg"], ["b.jpg", "photo[1].jpg"]),
        (["?.*"], ["a.PNG", "b.jpg"]),
        (["[ab].*"], ["a.PNG", "b.jpg"]),
        (["*.dat"], ["scan.dat"]),
        ([".*.jpg"], [".hidden.jpg"]),
        (["sub/*"], ["sub/c.jpeg", "sub/d.webp", "sub/deep/e.tiff"]),
        (["o*"], ["other/g.jpg"]),
        (["*/*.jp*g"], ["other/g.jpg", "sub/c.jpeg"]),
        (["**/*.jpg"], ["b.jpg", "photo[1].jpg", "other/g.jpg"]),
        (["**"], EVERYTHING),
        (["sub/**"], ["sub/c.jpeg", "sub/d.webp", "sub/deep/e.tiff"]),
        (["**/deep/**/*"], ["sub/deep/e.tiff"]),
        (["**/**/*.jpg"], ["b.jpg", "photo[1].jpg", "other/g.jpg"]),
        (["b.jpg", "./b.jpg", "*.jpg", "."], ["b.jpg", "photo[1].jpg", *"a".split()]),
    ],
)
def test_expansion(paths: list[str], expected: list[str]) -> None:
    if paths[-1] == "." and len(paths) > 1:
        expected = ["b.jpg", "photo[1].jpg", *[n for n in EVERYTHING if n not in expected[:2]]]
    assert names(*paths) == expected


def test_absolute_pattern(tree: Path) -> None:
    assert names(f"{tree}/s*/*.jpeg") == [f"{tree}/sub/c.jpeg"]


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("none.jpg", "no such file"),
        ("none", "no such file or folder"),
        ("empty", "holds no images"),
        ("*.gif", "no image matches"),
        ("none/*.jpg", "no image matches"),
        ("b.jpg/*.jpg", "no image matches"),
        ("a\0b", "no such file"),
        ("", "no such file"),
    ],
)
def test_what_matches_nothing_is_reported_and_the_rest_goes_on(path: str, words: str) -> None:
    first, second = iter_image_paths([path, "b.jpg"])
    assert isinstance(first, ImageError) and words in first.cause
    assert first.source == path
    assert second == Path("b.jpg")


def test_excluded_folder(tree: Path) -> None:
    def found(*paths: str, exclude: str) -> list[str]:
        return [str(item) for item in iter_image_paths(paths, exclude)]

    kept = [name for name in EVERYTHING if not name.startswith("sub/")]
    for exclude in ("sub", "./sub/", str(tree / "sub")):
        assert found(".", exclude=exclude) == found("**", exclude=exclude) == kept
        assert found("sub/c.jpeg", exclude=exclude) == ["sub/c.jpeg"]
    assert found(".", exclude="su") == found(".", exclude="/none") == EVERYTHING
    assert found(".", exclude="sub/deep") == EVERYTHING[:-1]
    assert found(".", exclude="/") == []


def test_link_loops_end(tree: Path) -> None:
    (tree / "sub" / "up").symlink_to(tree)
    (tree / "sub" / "up2").symlink_to(tree)
    (tree / "self").symlink_to(".")
    (tree / "linked.jpg").symlink_to("b.jpg")
    expected = sorted([*EVERYTHING[:3], "linked.jpg"]) + EVERYTHING[3:]
    assert names(".") == expected
    assert names("**") == expected
    # a link that is named is followed, once
    assert names("self") == [f"self/{name}" for name in expected]


@pytest.mark.parametrize("path", ["{}", "{}/*.jpg", "{}/**"])
def test_a_link_to_itself_is_one_entry_of_its_folder(tmp_path: Path, path: str) -> None:
    (tmp_path / "good.jpg").touch()
    os.symlink("loop.jpg", tmp_path / "loop.jpg")
    os.symlink("loop", tmp_path / "loop")
    found = [item for item in iter_image_paths([path.format(tmp_path)])]
    assert found == [tmp_path / "good.jpg", tmp_path / "loop.jpg"]


def test_order_does_not_depend_on_the_file_system(tmp_path: Path) -> None:
    for index in range(200):
        (tmp_path / f"{index * 7919 % 200:03}.jpg").touch()
    assert names(str(tmp_path)) == [f"{tmp_path}/{index:03}.jpg" for index in range(200)]


def test_lazy(tree: Path) -> None:
    endless = (f"none{index}" for index in itertools.count())
    found = iter_image_paths(itertools.islice(endless, 1000))
    assert isinstance(next(found), ImageError)
    walk = iter_image_paths([str(tree)])
    next(walk)
    (tree / "sub" / "new.jpg").touch()  # a folder not reached yet
    assert tree / "sub" / "new.jpg" in list(walk)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_locked_folder(tree: Path) -> None:
    (tree / "other").chmod(0)
    assert "! ./other" in names(".")


def test_folder_that_vanishes(tree: Path) -> None:
    walk = iter_image_paths([str(tree)])
    next(walk)
    (tree / "other" / "g.jpg").unlink()
    (tree / "other").rmdir()
    assert [item.source for item in walk if isinstance(item, ImageError)] == [str(tree / "other")]


def test_very_deep_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path
    for _ in range(600):
        path = path / "d"
    path.mkdir(parents=True)
    (path / "x.jpg").touch()
    assert names(str(tmp_path)) == [str(path / "x.jpg")]
    assert names(f"{tmp_path}/**/*.jpg") == [str(path / "x.jpg")]


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \xff.jpg")
    (tmp_path / name).touch()
    for path in (str(tmp_path), str(tmp_path / name), f"{tmp_path}/c*", f"{tmp_path}/**"):
        assert names(path, path) == [str(tmp_path / name)]


def test_phones_pictures_are_found() -> None:
    assert ".heic" in IMAGE_SUFFIXES
