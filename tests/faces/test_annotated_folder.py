"""The folder of annotated images: names of its own, nothing foreign overwritten."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faces.annotated_folder import AnnotatedFolder
from faces.command import UserError
from faces.draw import is_annotated
from faces.paths import ImageError

IMAGE = np.zeros((2, 2, 3), np.uint8)


def test_annotated_names_never_clash(tmp_path: Path) -> None:
    folder = AnnotatedFolder(tmp_path / "marked", [])
    for source in ("a.jpg", "x/a.png", "A.jpg", "a-2.jpg", "y/a.jpg", "a-2.png"):
        folder.write(source, IMAGE)
    assert len(list((tmp_path / "marked").iterdir())) == folder.count == 6
    assert all(is_annotated(path) for path in (tmp_path / "marked").iterdir())
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


def test_a_name_that_is_too_long_fails_alone_and_leaves_nothing(tmp_path: Path) -> None:
    folder = AnnotatedFolder(tmp_path, [])
    folder.write("n" * 251 + ".jpg", IMAGE)
    with pytest.raises(ImageError, match="cannot be written: File name too long"):
        folder.write("n" * 251 + ".png", IMAGE)  # the second of that name gets a number
    folder.write("a.jpg", IMAGE)
    assert sorted(os.listdir(tmp_path)) == ["a.png", "n" * 251 + ".png"]
