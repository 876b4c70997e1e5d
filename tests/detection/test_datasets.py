from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from detection.datasets import main, split_wider, wider_part
from faces.command import UserError


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("0--Parade/x.jpg", "held_out"),
        ("5--Car_Accident/x.jpg", "held_out"),
        ("1--Handshaking/x.jpg", "val"),
        ("61--Street_Battle/x.jpg", "val"),
        ("2--Demonstration/x.jpg", "train"),
        ("11--Meeting/x.jpg", "train"),
        ("59--people--driving--car/x.jpg", "train"),
    ],
)
def test_wider_events(path: str, part: str) -> None:
    assert wider_part(path) == part


@pytest.mark.parametrize("path", ["Parade/x.jpg", "0-Parade/x.jpg", "", "a--b"])
def test_wider_paths_without_a_number_are_refused(path: str) -> None:
    with pytest.raises(UserError):
        wider_part(path)


def test_wider_split_command(tmp_path: Path, capsys: Any) -> None:
    paths = ["0--A/1.jpg", "1--B/2.jpg", "2--C/3.jpg", "2--C/4.jpg"]
    data = {
        "images": [{"id": i, "wider_path": path} for i, path in enumerate(paths)],
        "annotations": [{"id": 10 + i, "image_id": i, "iscrowd": i % 2} for i in range(4)],
        "categories": [{"id": 1, "name": "face"}],
    }
    (tmp_path / "all.json").write_text(json.dumps(data))
    out = tmp_path / "parts"
    assert main(["wider-split", "--coco", str(tmp_path / "all.json"), "--out", str(out)]) == 0
    train = json.loads((out / "train.json").read_text())
    assert [i["id"] for i in train["images"]] == [2, 3]
    assert [a["image_id"] for a in train["annotations"]] == [2, 3]
    assert train["categories"] == data["categories"]
    assert "train.json: 2 images, 1 faces" in capsys.readouterr().out
    ids = [i["id"] for part in split_wider(data).values() for i in part["images"]]
    assert sorted(ids) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("hello", "not valid JSON"),
        ('{"images": [{"id": 1}]}', "not a COCO json of WIDER FACE"),
    ],
)
def test_wider_split_refuses_other_files_with_status_2(
    tmp_path: Path, capsys: Any, text: str | None, message: str
) -> None:
    file, out = tmp_path / "other.json", tmp_path / "parts"
    if text is not None:
        file.write_text(text)
    assert main(["wider-split", "--coco", str(file), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("detection.datasets: ") and message in error
    assert error.count("\n") == 1 and not out.exists()
