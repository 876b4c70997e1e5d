"""Faces beside FER2013's: read as the classifier would see them, trained on, never selected on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from classification.data.ferplus import FerPlus
from classification.training.batches import soft_targets
from classification.training.extra_faces import joined, load_extra_faces, without_votes
from faces.command import UserError
from faces.emotions import EMOTIONS
from tests.stand_ins import write_fer2013


def write_faces(root: Path) -> Path:
    grey = np.random.default_rng(0).integers(0, 255, (48, 48), dtype=np.uint8)
    for name, image in (
        ("happy/a.png", grey),
        ("Sadness/b.png", np.full((90, 60, 3), 70, np.uint8)),
        ("happy/notes.txt", None),
        ("manifest.csv", None),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if image is None:
            (root / name).write_text("x")
        else:
            Image.fromarray(image).save(root / name)
    return root


def test_faces_are_grey_of_fer2013_size_and_train(tmp_path: Path) -> None:
    extra = load_extra_faces(write_faces(tmp_path))
    assert [EMOTIONS[label] for label in extra.labels] == ["sad", "happy"]
    assert set(extra.splits) == {"Training"}
    with Image.open(tmp_path / "happy/a.png") as image:
        assert np.array_equal(extra.images[1], np.array(image))
    assert (extra.images[0] == 70).all() and extra.images.shape == (2, 48, 48)


def test_they_come_last_and_their_labels_stand_for_votes(tmp_path: Path) -> None:
    from classification.data.fer2013 import load_fer2013

    data = load_fer2013(write_fer2013(tmp_path / "fer2013.csv"), progress=False)
    extra = load_extra_faces(write_faces(tmp_path / "more"))
    whole = joined(data, extra)
    count = len(data.labels)
    assert len(whole.split("Training").labels) == len(data.split("Training").labels) + 2
    assert np.array_equal(whole.images[:count], data.images)
    assert whole.fingerprint != data.fingerprint
    cast = np.zeros((count, 10), np.int64)
    cast[:, 0] = 10
    targets = soft_targets(whole, without_votes(FerPlus(cast), 2), 1.0)
    assert targets[count:].argmax(1).tolist() == extra.labels.tolist()
    assert (targets[count:].max(1) == 1).all()


@pytest.mark.parametrize(
    ("folder", "words"), [("nowhere", "no such folder"), ("empty", "no image"), ("odd", "unknown")]
)
def test_a_wrong_folder_is_named(tmp_path: Path, folder: str, words: str) -> None:
    (tmp_path / "empty/happy").mkdir(parents=True)
    (tmp_path / "odd/contempt").mkdir(parents=True)
    with pytest.raises(UserError, match=words):
        load_extra_faces(tmp_path / folder)
