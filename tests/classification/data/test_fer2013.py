"""FER2013 is read alike from every form; broken data is refused with file, cause and way out."""

from __future__ import annotations

import csv
import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from classification.data import fer2013
from classification.data.fer2013 import OFFICIAL_COUNTS, Fer2013, load_fer2013
from faces.command import UserError
from faces.emotions import EMOTIONS

RNG = np.random.default_rng(0)
ROWS = [
    (label, split, RNG.integers(0, 256, (48, 48), dtype=np.uint8))
    for split in ("Training", "PublicTest", "PrivateTest")
    for label in range(7)
]


def write_csv(path: Path, header: tuple[str, str, str]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for label, split, image in ROWS:
            values = {"emotion": label, "usage": split, "pixels": " ".join(map(str, image.ravel()))}
            writer.writerow([values[name.strip().lower()] for name in header])
    return path


def write_folder(root: Path, suffix: str = "png", upper: bool = False) -> Path:
    for number, (label, split, image) in enumerate(ROWS):
        part = "train" if split == "Training" else "test"
        name = EMOTIONS[label].upper() if upper else EMOTIONS[label]
        folder = root / part / name
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{split}_{number}.{suffix}", quality=100)
    return root


def zip_folder(root: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*")):
            archive.write(file, file.relative_to(root.parent))
    return path


def zip_file(file: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(file, file.name)
        archive.writestr("__MACOSX/._fer2013.csv", b"\0\1")
    return path


def test_all_forms_hold_the_same_data(tmp_path: Path) -> None:
    original = write_csv(tmp_path / "fer2013.csv", ("emotion", "pixels", "Usage"))
    icml = write_csv(tmp_path / "icml_face_data.csv", ("emotion", " Usage", " pixels"))
    folder = write_folder(tmp_path / "archive")
    forms = [
        original,
        icml,
        folder,
        write_folder(tmp_path / "upper", upper=True),
        zip_folder(folder, tmp_path / "folder.zip"),
        zip_file(original, tmp_path / "csv.zip"),
    ]
    loaded = [load_fer2013(path, progress=False) for path in forms]
    assert len({data.fingerprint for data in loaded}) == 1
    for data in loaded:
        for label, split, image in ROWS:
            part = data.split(split)
            assert part.images.dtype == np.uint8 and part.images.shape == (7, 48, 48)
            assert np.array_equal(part.images[part.labels == label][0], image)


def test_jpg_folder_keeps_labels_and_splits(tmp_path: Path) -> None:
    data = load_fer2013(write_folder(tmp_path / "jpg", "jpg"), progress=False)
    assert sorted(zip(data.labels, data.splits, strict=True)) == sorted(
        (label, split) for label, split, _ in ROWS
    )


def test_fingerprint_depends_on_every_pixel_label_and_split(tmp_path: Path) -> None:
    data = load_fer2013(write_folder(tmp_path / "a"), progress=False)
    images = data.images.copy()
    images[3, 5, 7] ^= 1
    labels = data.labels.copy()
    labels[0] = (labels[0] + 1) % 7
    splits = data.splits.copy()
    splits[0] = "Training" if splits[0] != "Training" else "PublicTest"
    variants = [
        Fer2013(images, data.labels, data.splits, data.names),
        Fer2013(data.images, labels, data.splits, data.names),
        Fer2013(data.images, data.labels, splits, data.names),
    ]
    assert data.fingerprint not in {v.fingerprint for v in variants}
    order = np.arange(len(data.labels))[::-1]
    turned = Fer2013(data.images[order], data.labels[order], data.splits[order], data.names[::-1])
    assert turned.fingerprint == data.fingerprint


def test_official_counts_are_those_of_the_release() -> None:
    assert [sum(counts) for counts in OFFICIAL_COUNTS.values()] == [28709, 3589, 3589]


def test_differences_name_what_is_missing_and_extra() -> None:
    labels, splits = [], []
    for split, counts in OFFICIAL_COUNTS.items():
        for label, count in enumerate(counts):
            change = {("Training", 1): -2, ("PrivateTest", 6): 3}.get((split, label), 0)
            labels += [label] * (count + change)
            splits += [split] * (count + change)
    blank = np.zeros((len(labels), 1, 1), np.uint8)
    data = Fer2013(blank, np.array(labels), np.array(splits), ("",) * len(labels))
    assert data.differences_from_official() == [
        "Training/disgust: 434 of 436, 2 missing",
        "PrivateTest/neutral: 629 of 626, 3 extra",
    ]


PIXELS = " ".join(["7"] * 2304)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "lacks the column"),
        ("emotion,pixels\n", "usage"),
        ("emotion,pixels,Usage\n", "holds no image"),
        (f"emotion,pixels,Usage\n7,{PIXELS},Training\n", "line 2: emotion '7'"),
        (f"emotion,pixels,Usage\n3,{PIXELS},Test\n", "line 2: Usage 'Test'"),
        (f"emotion,pixels,Usage\n3,{PIXELS},Training\n3,1 2 3,Training\n", "line 3: expected 2304"),
        (f"emotion,pixels,Usage\n3,{PIXELS[:-1]}256,Training\n", "line 2: pixels of 7..256"),
        (f"emotion,pixels,Usage\n3,{PIXELS[:-1]}x,Training\n", "line 2: the pixels"),
        (f"emotion,pixels,Usage\n3,{PIXELS}\n", "line 2: 2 columns"),
    ],
)
def test_broken_csv_names_file_line_and_cause(tmp_path: Path, text: str, cause: str) -> None:
    path = tmp_path / "fer2013.csv"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_fer2013(path, progress=False)
    assert str(path) in str(caught.value) and cause in str(caught.value)


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_crash_the_csv_reader(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "fer2013.csv"
    path.write_bytes(raw)
    with pytest.raises(UserError):
        load_fer2013(path, progress=False)


@pytest.mark.parametrize(
    ("name", "size", "cause"),
    [
        ("train/happy/0001.png", (48, 48), "does not begin with"),
        ("train/smiling/Training_1.png", (48, 48), "unknown emotion 'smiling'"),
        ("train/happy/Training_1.png", (50, 48), "50×48"),
    ],
)
def test_broken_folder_names_the_picture(
    tmp_path: Path, name: str, size: tuple[int, int], cause: str
) -> None:
    (tmp_path / name).parent.mkdir(parents=True)
    Image.new("L", size).save(tmp_path / name)
    with pytest.raises(UserError) as caught:
        load_fer2013(tmp_path, progress=False)
    assert name in str(caught.value) and cause in str(caught.value)


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    path = tmp_path / "train/happy/Training_1.png"
    path.parent.mkdir(parents=True)
    path.write_text("no picture")
    with pytest.raises(UserError, match=r"train/happy/Training_1\.png: .*replace or remove"):
        load_fer2013(tmp_path, progress=False)


def test_same_picture_as_png_and_jpg_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "train/happy"
    folder.mkdir(parents=True)
    for suffix in ("png", "jpg"):
        Image.new("L", (48, 48)).save(folder / f"Training_1.{suffix}")
    with pytest.raises(UserError, match="same image"):
        load_fer2013(tmp_path, progress=False)


def test_a_damaged_zip_is_named(tmp_path: Path) -> None:
    table = write_csv(tmp_path / "fer2013.csv", ("emotion", "pixels", "Usage"))
    whole = tmp_path / "whole.zip"
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(table, table.name)
    content = bytearray(whole.read_bytes())
    content[1000:1100] = bytes(100)
    (tmp_path / "damaged.zip").write_bytes(content)
    with pytest.raises(UserError, match=r"damaged.zip: a damaged or encrypted zip"):
        load_fer2013(tmp_path / "damaged.zip", progress=False)
    content = bytearray(whole.read_bytes())
    place = content.index(b"PK\x01\x02") + 42  # where the entry begins
    content[place : place + 4] = b"\xff\xff\xff\x7f"
    (tmp_path / "damaged.zip").write_bytes(content)
    with pytest.raises(UserError, match=r"damaged.zip: a damaged or encrypted zip"):
        load_fer2013(tmp_path / "damaged.zip", progress=False)
    table.write_bytes(table.read_text().encode("utf-16"))
    odd = zip_file(table, tmp_path / "odd.zip")
    assert len(load_fer2013(odd, progress=False).labels) == len(ROWS)


def test_missing_and_unknown_files(tmp_path: Path) -> None:
    other = tmp_path / "fer2013.txt"
    other.write_bytes(b"x")
    for path, cause in ((tmp_path / "none.csv", "no such file"), (other, "header 'x' lacks")):
        with pytest.raises(UserError, match=cause):
            load_fer2013(path, progress=False)
    with pytest.raises(UserError, match="holds neither fer2013"):
        load_fer2013(tmp_path, progress=False)


def test_a_folder_is_read_as_its_zip(tmp_path: Path) -> None:
    nested = tmp_path / "download" / "challenges"
    nested.mkdir(parents=True)
    write_csv(nested / "icml_face_data.csv", ("emotion", " Usage", " pixels"))
    (nested / "example_submission.csv").write_text("emotion\n0\n")
    (nested / "._icml_face_data.csv").write_bytes(b"\0\5\x16\7")
    (nested / ".DS_Store").write_bytes(b"\0")
    assert len(load_fer2013(tmp_path / "download", progress=False).labels) == len(ROWS)
    (nested / "icml_face_data.csv").rename(nested / "faces.csv")
    with pytest.raises(UserError, match=r"holds 2 csv files, such as .*; give one of them"):
        load_fer2013(tmp_path, progress=False)


def test_hidden_files_beside_images_do_not_count(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "fer")
    (folder / "train" / "happy" / "._Training_3.png").write_bytes(b"\0\5\x16\7")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "Training_1.png").write_bytes(b"\0")
    assert len(load_fer2013(folder, progress=False).labels) == len(ROWS)


def test_folders_state_the_split_where_names_do_not(tmp_path: Path) -> None:
    parts = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
    for number, (label, split, image) in enumerate(ROWS):
        folder = tmp_path / "images" / parts[split] / EMOTIONS[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")
    data = load_fer2013(tmp_path, progress=False)
    assert sorted(data.splits) == sorted(split for _, split, _ in ROWS)
    stated = "test is PrivateTest, train is Training, validation is PublicTest"
    assert stated in data.split("Training").differences_from_official()[0]


@pytest.mark.parametrize("names", [("train", "test"), ("train", "elsewhere")])
def test_a_merged_test_folder_is_no_split(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        (tmp_path / name / "happy").mkdir(parents=True)
        Image.fromarray(ROWS[0][2]).save(tmp_path / name / "happy" / f"im_{name}.png")
    with pytest.raises(UserError, match="tells no split"):
        load_fer2013(tmp_path, progress=False)


def test_a_name_that_contradicts_its_folder_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "fer")
    (folder / "test/happy/PublicTest_10.png").rename(folder / "train/happy/PublicTest_10.png")
    with pytest.raises(UserError, match=r"PublicTest_10\.png is PublicTest by its name, but"):
        load_fer2013(folder, progress=False)


def other_formats(content: bytes) -> dict[str, tuple[bytes, str]]:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("fer2013/fer2013.csv"))
    return {
        "gzip": (gzip.compress(content), "a gzip archive and no csv; unpack it first"),
        "tar": (archive.getvalue(), "a tar archive and no csv; unpack it first"),
        "page": (b"<!DOCTYPE html><html>", "a web page and no csv"),
        "binary": (b"PAR1\0\0\1", "binary and no csv"),
        "no header": (content.split(b"\n", 1)[1], "put the line emotion,pixels,Usage before it"),
        "latin-1": (b"emotion,pixels,Usage,\xe9\n", "save it as UTF-8"),
        "one endless line": (b"7" * (3 << 20), "lacks the column(s)"),
    }


@pytest.mark.parametrize("name", other_formats(b"a\nb"))
def test_another_format_is_named_in_one_short_line(tmp_path: Path, name: str) -> None:
    table = write_csv(tmp_path / "fer2013.csv", ("emotion", "pixels", "Usage"))
    content, cause = other_formats(table.read_bytes())[name]
    table.write_bytes(content)
    for path in (table, zip_file(table, tmp_path / "fer.zip")):
        with pytest.raises(UserError) as caught:
            load_fer2013(path, progress=False)
        message = str(caught.value)
        assert cause in message and len(message) < 250 + len(str(path)) and message.isprintable()


def test_more_images_than_there_can_be_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fer2013, "MAX_IMAGES", len(ROWS) - 1)
    table = write_csv(tmp_path / "fer2013.csv", ("emotion", "pixels", "Usage"))
    for path in (table, write_folder(tmp_path / "fer")):
        with pytest.raises(UserError, match="holds more than 20 images"):
            load_fer2013(path, progress=False)
