"""FER+ votes, against counts made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from classification.data.fer2013 import Fer2013, Fer2013Error
from classification.data.ferplus import FERPLUS_CLASSES, FerPlus, load_ferplus
from faces.emotions import EMOTIONS


def fer(
    names: list[str], labels: list[int], splits: list[str] | None = None, rows: int | None = None
) -> Fer2013:
    count = len(names)
    images = np.zeros((count, 48, 48), np.uint8)
    parts = np.array(splits or ["Training"] * count)
    return Fer2013(images, np.array(labels, np.int64), parts, tuple(names), rows)


def votes(**given: int) -> list[int]:
    return [given.get(name, 0) for name in FERPLUS_CLASSES]


def test_the_published_file_goes_by_rows(tmp_path: Path) -> None:
    path = tmp_path / "fer2013new.csv"
    path.write_text(
        "Usage,Image name," + ",".join(FERPLUS_CLASSES) + "\n"
        "Training,fer0000000.png,4,0,0,1,3,2,0,0,0,0\n"
        "Training,,0,0,0,0,0,0,0,0,0,10\n"
        "PublicTest,fer0000002.png,0,10,0,0,0,0,0,0,0,0\n"
    )
    found = load_ferplus(path, fer(["row 2", "row 0"], [0, 0], ["PublicTest", "Training"], 3))
    assert found.votes.tolist() == [
        votes(happiness=10),
        votes(neutral=4, sadness=1, anger=3, disgust=2),
    ]


def test_a_file_with_names_goes_by_class_and_name(tmp_path: Path) -> None:
    path = tmp_path / "ferplus.csv"
    path.write_text(
        "class,filename,row," + ",".join(FERPLUS_CLASSES) + "\n"
        "angry,Training_1.png,-1,0,0,0,0,10,0,0,0,0,0\n"
        "happy,Training_1.png,5,0,9,1,0,0,0,0,0,0,0\n"
    )
    happy = EMOTIONS.index("happy")
    found = load_ferplus(
        path, fer(["Training_1.png", "Training_1.png", "row 5"], [happy, 0, happy])
    )
    assert found.votes.tolist() == [
        votes(happiness=9, surprise=1),
        votes(anger=10),
        votes(happiness=9, surprise=1),
    ]


def test_shares_and_majority() -> None:
    found = FerPlus(
        np.array(
            [
                votes(happiness=6, neutral=2, unknown=2),
                votes(NF=10),
                votes(contempt=6, anger=4),
                votes(sadness=5, fear=5),
                # Without the single votes, five of eight are for surprise.
                votes(surprise=5, fear=3, neutral=1, anger=1),
                votes(),
            ]
        )
    )
    shares = found.shares()
    assert shares.dtype == np.float32
    np.testing.assert_allclose(shares.sum(1), [1, 0, 1, 1, 1, 0], atol=1e-6)
    assert shares[0, EMOTIONS.index("happy")] == pytest.approx(0.75)
    assert shares[2, EMOTIONS.index("angry")] == pytest.approx(1.0)
    happy, surprise = EMOTIONS.index("happy"), EMOTIONS.index("surprise")
    assert found.majority().tolist() == [happy, -1, -1, -1, surprise, -1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "lacks neutral"),
        ("row," + ",".join(FERPLUS_CLASSES) + "\n0,x,0,0,0,0,0,0,0,0,0\n", "row 1"),
        ("row," + ",".join(FERPLUS_CLASSES) + "\n0,-1,0,0,0,0,0,0,0,0,0\n", "below zero"),
        ("row," + ",".join(FERPLUS_CLASSES) + "\n9,1,0,0,0,0,0,0,0,0,0\n", "none of the 1"),
    ],
)
def test_bad_files_are_explained(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "votes.csv"
    path.write_text(text)
    with pytest.raises(Fer2013Error, match=message):
        load_ferplus(path, fer(["row 0"], [0]))


def test_a_missing_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(Fer2013Error, match="no such file"):
        load_ferplus(tmp_path / "none.csv", fer(["row 0"], [0]))


PUBLISHED = [
    "Usage,Image name," + ",".join(FERPLUS_CLASSES),
    "Training,fer0000000.png,4,0,0,1,3,2,0,0,0,0",
    "Training,,0,0,0,0,0,0,0,0,0,10",
    "Training,fer0000001.png,9,0,0,0,0,0,0,0,0,1",
    "PublicTest,fer0000002.png,0,10,0,0,0,0,0,0,0,0",
    "PrivateTest,fer0000003.png,0,0,10,0,0,0,0,0,0,0",
]
SPLITS_OF_ROWS = ["Training"] * 3 + ["PublicTest", "PrivateTest"]


def whole() -> Fer2013:
    return fer([f"row {i}" for i in range(5)], [0] * 5, SPLITS_OF_ROWS, 5)


def without(*rows: int) -> list[str]:
    return [line for number, line in enumerate(PUBLISHED) if number - 1 not in rows]


@pytest.mark.parametrize(
    ("lines", "cause"),
    [
        (without(1), "has 4 rows for the 5 images"),
        (without(4), "has 4 rows for the 5 images"),
        ([*PUBLISHED, PUBLISHED[-1]], "has 6 rows for the 5 images"),
        ([*without(1, 2), *PUBLISHED[4:]], "has 5 rows for|row 2: is about"),
        ([*without(0)[:1], PUBLISHED[3], *without(2)[1:]], "row 1: is about 'fer0000001.png'"),
        (
            [line.replace("PublicTest", "Training") for line in PUBLISHED],
            "row 4: is about an image of 'Training', and the image in its place is of PublicTest",
        ),
    ],
)
def test_rows_that_contradict_the_images_are_refused(
    tmp_path: Path, lines: list[str], cause: str
) -> None:
    path = tmp_path / "fer2013new.csv"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(Fer2013Error, match=cause):
        load_ferplus(path, whole())


def test_every_part_is_held_against_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "fer2013new.csv"
    path.write_text("\n".join(without(1)) + "\n")
    for split in ("Training", "PublicTest", "PrivateTest"):
        with pytest.raises(Fer2013Error, match="has 4 rows for the 5 images"):
            load_ferplus(path, whole().split(split))


def test_a_row_about_another_class_or_two_rows_about_one_image_are_refused(tmp_path: Path) -> None:
    path, head = tmp_path / "votes.csv", "class,filename,row," + ",".join(FERPLUS_CLASSES) + "\n"
    row = "happy,Training_1.png,0,0,9,1,0,0,0,0,0,0,0\n"
    path.write_text(head + row)
    with pytest.raises(Fer2013Error, match="row 1: is about an image of 'happy'"):
        load_ferplus(path, fer(["row 0"], [0]))
    with pytest.raises(Fer2013Error, match="row 1: is about an image of 'Training'"):
        load_ferplus(path, fer(["row 0"], [EMOTIONS.index("happy")], ["PublicTest"]))
    path.write_text(head + row + row)
    with pytest.raises(Fer2013Error, match="rows 1 and 2 are both about happy/Training_1"):
        load_ferplus(path, fer(["row 0"], [EMOTIONS.index("happy")]))


def test_numbers_as_pandas_writes_them_are_read(tmp_path: Path) -> None:
    path = tmp_path / "votes.csv"
    path.write_text("row," + ",".join(FERPLUS_CLASSES) + "\n0,8.0,,2.0,,,,,,,\n")
    assert load_ferplus(path, fer(["row 0"], [0])).votes.tolist() == [votes(neutral=8, surprise=2)]
    path.write_text("row," + ",".join(FERPLUS_CLASSES) + "\n0,7.5,0,0,0,0,0,0,0,0,0\n")
    with pytest.raises(Fer2013Error, match=r"row 1: '7\.5' is no whole number"):
        load_ferplus(path, fer(["row 0"], [0]))
