"""The tiny data that all tests share are what the product's own readers take."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from classification.data.fer2013 import load_fer2013
from classification.data.ferplus import load_ferplus
from faces.coco import load_coco
from faces.emotions import EMOTIONS
from faces.images import read_image
from tests.stand_ins import brightness, probabilities, write_coco, write_fer2013


def test_the_tiny_fer2013_has_all_emotions_in_each_part_and_votes_that_agree(
    tmp_path: Path,
) -> None:
    votes = tmp_path / "votes.csv"
    path = write_fer2013(tmp_path / "f.csv", {"Training": 14, "PublicTest": 7}, votes)
    data = load_fer2013(path)
    assert [list(data.split(part).labels[:7]) for part in ("Training", "PublicTest")] == [
        list(range(7))
    ] * 2
    assert len({image.tobytes() for image in data.images}) == 21
    assert np.array_equal(load_ferplus(votes, data).majority(), data.labels)


def test_the_tiny_coco_set_has_its_faces_and_bright_pixels_in_them(tmp_path: Path) -> None:
    files = write_coco(tmp_path / "set")
    truth = load_coco(files.json)
    assert [image.boxes.tolist() for image in truth.images] == [[[40, 20, 76, 60]], []]
    image = read_image(files.images / truth.images[0].file_name)
    assert image.shape == (100, 140, 3) and image[20:60, 40:76].min() > image[:20].max()


def test_scripted_probabilities_sum_to_one() -> None:
    crop = np.full((4, 4, 3), 255, np.uint8)
    for row in (probabilities(), probabilities(happy=0.6, sad=0.1), brightness(crop)):
        assert len(row) == len(EMOTIONS) and abs(sum(row) - 1) < 1e-9
    assert brightness(crop)[EMOTIONS.index("happy")] == 1
