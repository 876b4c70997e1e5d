from __future__ import annotations

import zipfile
from collections import Counter
from pathlib import Path

import pytest

from eval.data.crop_folders import CropFolder, scan_crops
from eval.data.images import open_images
from faces.command import UserError
from faces.emotions import EMOTIONS
from faces.images import ImageError


def scan(root: Path, names: list[str], as_zip: bool, ignore: tuple[str, ...] = ()) -> CropFolder:
    root.mkdir()
    if as_zip:
        with zipfile.ZipFile(root / "crops.zip", "w") as archive:
            for name in names:
                archive.writestr(name, name)
        return scan_crops(open_images(root / "crops.zip"), ignore)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return scan_crops(open_images(root), ignore)


@pytest.fixture(params=[False, True], ids=["folder", "zip"])
def as_zip(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def count(folder: CropFolder) -> dict[str, int]:
    return dict(Counter(EMOTIONS[label] for _, label in folder.images))


def test_class_names_in_any_case_and_by_alias_merge(tmp_path: Path, as_zip: bool) -> None:
    names = ["Happy/1.png", "HAPPINESS/2.JPG", "joy/3.webp", "anger/1.jpeg", "Surprised/x.bmp"]
    folder = scan(tmp_path / "d", names, as_zip)
    assert count(folder) == {"happy": 3, "angry": 1, "surprise": 1}
    assert not folder.skipped and not folder.ignored


def test_junk_is_passed_over_and_other_files_are_told(tmp_path: Path, as_zip: bool) -> None:
    names = [
        "sad/1.png",
        "sad/.DS_Store",
        "__MACOSX/sad/1.png",
        "sad/notes.txt",
        "LICENSE",
        "a.png",
    ]
    folder = scan(tmp_path / "d", [*names, ".hidden/1.png"], as_zip)
    assert count(folder) == {"sad": 1}
    assert folder.skipped == ("LICENSE", "a.png", "sad/notes.txt")


def test_other_folders_are_an_error_unless_ignored(tmp_path: Path, as_zip: bool) -> None:
    names = ["sad/1.png", "contempt/1.png", "Contempt/2.png", "other/1.png"]
    with pytest.raises(UserError, match=r"contempt.*other.*--ignore-class"):
        scan(tmp_path / "a", names, as_zip)
    with pytest.raises(UserError, match=r"called 'other' \(images: 1\)"):
        scan(tmp_path / "b", names, as_zip, ("contempt",))
    folder = scan(tmp_path / "c", names, as_zip, ("CONTEMPT", "other"))
    assert count(folder) == {"sad": 1}
    assert sum(folder.ignored.values()) == 3


def test_an_emotion_can_be_ignored_by_any_of_its_names(tmp_path: Path, as_zip: bool) -> None:
    folder = scan(tmp_path / "d", ["sad/1.png", "Happiness/1.png"], as_zip, ("happy",))
    assert count(folder) == {"sad": 1}
    assert folder.ignored == {"Happiness": 1}


def test_folders_inside_class_folders_are_an_error(tmp_path: Path, as_zip: bool) -> None:
    names = ["sad/1.png", "sad/more/2.png"]
    with pytest.raises(UserError, match=r"sad/more/2\.png.*directly"):
        scan(tmp_path / "a", names, as_zip)
    assert count(scan(tmp_path / "b", names, as_zip, ("more",))) == {"sad": 1}


def test_a_split_above_the_classes_is_an_error(tmp_path: Path, as_zip: bool) -> None:
    with pytest.raises(UserError, match=r"'test' \(images: 1\), 'train' \(images: 2\)"):
        scan(tmp_path / "d", ["train/sad/1.png", "train/sad/2.png", "test/sad/1.png"], as_zip)


def test_one_folder_around_a_zip_is_passed_through(tmp_path: Path) -> None:
    names = ["faces/sad/1.png", "faces/happy/1.png"]
    assert count(scan(tmp_path / "a", names, True)) == {"sad": 1, "happy": 1}
    with pytest.raises(UserError, match="point --data at the folder"):
        scan(tmp_path / "b", names, False)
    assert count(scan(tmp_path / "c", ["sad/1.png"], True)) == {"sad": 1}


@pytest.mark.parametrize("names", [[], ["a.png"], ["sad/notes.txt"]])
def test_no_picture_is_an_error(tmp_path: Path, as_zip: bool, names: list[str]) -> None:
    with pytest.raises(UserError, match="holds no image"):
        scan(tmp_path / "d", names, as_zip)


def test_linked_folders_are_followed_and_loops_end(tmp_path: Path) -> None:
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "1.png").write_text("x")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "happy").symlink_to(tmp_path / "else")
    (tmp_path / "else" / "loop").symlink_to(tmp_path / "d")
    assert count(scan_crops(open_images(tmp_path / "d"))) == {"happy": 1}


def test_stores_read_bytes_and_say_what_fails(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"abc")
    store = open_images(tmp_path)
    assert store.read("a.png") == b"abc"
    with pytest.raises(ImageError, match="No such file"):
        store.read("b.png")

    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", b"0123456789")
    path.write_bytes(path.read_bytes().replace(b"0123456789", b"012345678X"))
    with pytest.raises(ImageError, match="damaged"):
        open_images(path).read("a.png")


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"no zip")
    with pytest.raises(UserError, match="neither a folder nor a readable zip"):
        open_images(tmp_path / "x.tar")
    with pytest.raises(UserError, match="no such file or folder"):
        open_images(tmp_path / "none")
