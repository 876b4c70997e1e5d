"""The folder of annotated images: names of its own, nothing foreign overwritten."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faces import annotated_folder
from faces.annotated_folder import AnnotatedFolder
from faces.command import UserError
from faces.draw import annotated_origin
from faces.paths import ImageError

IMAGE = np.zeros((2, 2, 3), np.uint8)


def test_annotated_names_never_clash(tmp_path: Path) -> None:
    folder = AnnotatedFolder(tmp_path / "marked", [])
    for source in ("a.jpg", "x/a.png", "A.jpg", "a-2.jpg", "y/a.jpg", "a-2.png"):
        folder.write(source, IMAGE)
    assert len(list((tmp_path / "marked").iterdir())) == folder.count == 6
    assert all(annotated_origin(path) for path in (tmp_path / "marked").iterdir())
    assert folder.first == tmp_path / "marked" / "a.png"


def test_a_folder_is_written_to_again_but_not_over_foreign_images(tmp_path: Path) -> None:
    AnnotatedFolder(tmp_path, []).write("a.jpg", IMAGE)
    AnnotatedFolder(tmp_path, []).write("a.jpg", IMAGE)
    Image.new("RGB", (8, 8)).save(tmp_path / "mine.png")
    with pytest.raises(UserError, match=r"not made here, such as mine\.png"):
        AnnotatedFolder(tmp_path, [])


@pytest.mark.parametrize("inputs", [["{}"], ["{}/photo.jpg"], ["other.jpg", "{}/sub/.."]])
def test_the_photos_own_folder_is_refused(tmp_path: Path, inputs: list[str]) -> None:
    (tmp_path / "sub").mkdir()
    with pytest.raises(UserError, match="the photos' own folder"):
        AnnotatedFolder(tmp_path, [text.format(tmp_path) for text in inputs])


def test_an_image_from_elsewhere_keeps_its_annotated_image(tmp_path: Path) -> None:
    sources = [tmp_path / "monday/a.jpg", tmp_path / "tuesday/a.jpg"]
    for level, source in enumerate(sources):
        source.parent.mkdir()
        Image.new("RGB", (2, 2)).save(source)
        AnnotatedFolder(tmp_path / "marked", []).write(str(source), IMAGE + np.uint8(50 * level))
    AnnotatedFolder(tmp_path / "marked", []).write(str(sources[1]), IMAGE + np.uint8(200))
    shown = {p.name: np.asarray(Image.open(p)).max() for p in (tmp_path / "marked").iterdir()}
    assert shown == {"a.png": 0, "a-2.png": 200}


def test_an_image_put_there_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    folder = AnnotatedFolder(tmp_path, [])
    (tmp_path / "a.png").write_text("mine")
    os.symlink("nowhere", tmp_path / "a-2.png")
    folder.write("a.jpg", IMAGE)
    assert (tmp_path / "a.png").read_text() == "mine" and annotated_origin(tmp_path / "a-3.png")


@pytest.mark.parametrize("letter", ["n", "é", "\udcff"])
def test_names_that_are_too_long_are_shortened(tmp_path: Path, letter: str) -> None:
    stem = letter * (251 // len(os.fsencode(letter)))
    folder = AnnotatedFolder(tmp_path, [])
    for source in (f"{stem}.jpg", f"{stem}.png", f"{stem}n.gif"):
        folder.write(source, IMAGE)
    written = os.listdir(tmp_path)
    assert len(written) == 3 and all(len(os.fsencode(name)) < 255 for name in written)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_full_disk_is_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    folder = AnnotatedFolder(tmp_path, [])

    def full(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(annotated_folder, "write_annotated", full)
    with pytest.raises(ImageError, match=f"{os.strerror(number)}; no more annotated images"):
        folder.write("a.jpg", IMAGE)
    folder.write("b.jpg", IMAGE)
    assert (folder.count, os.listdir(tmp_path)) == (0, [])
