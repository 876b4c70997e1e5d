from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detection.dataturks import contact_sheet, draw_boxes, main


def test_drawing_puts_lines_where_the_box_is() -> None:
    drawn = np.asarray(draw_boxes(np.zeros((50, 60, 3), np.uint8), [(10.0, 20.0, 30.0, 40.0)]))
    ys, xs = np.nonzero(drawn[:, :, 1])
    assert (xs.min(), ys.min(), xs.max(), ys.max()) == (10, 20, 30, 40)
    assert not drawn[30, 20].any()


def test_a_contact_sheet_holds_them_all() -> None:
    pictures = [Image.new("RGB", (300, 100), (255, 255, 255)) for _ in range(7)]
    sheet = contact_sheet(pictures, columns=3, side=50)
    assert sheet.size == (150, 150)
    assert np.asarray(sheet)[110, 20].min() > 200  # the seventh
    assert np.asarray(sheet)[110, 70].max() < 60  # no eighth
    assert contact_sheet([]).size[1] == 240


def test_the_command_draws_and_reports(faces: Any, tmp_path: Path, capsys: Any) -> None:
    broken = tmp_path / "images"
    broken.mkdir()
    for file in faces.images.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    (broken / "picture_1.jpg").write_bytes(b"no picture")
    (broken / "picture_2.jpg").unlink()
    out = tmp_path / "out"
    command = ["show", "--json", str(faces.dataturks), "--images", str(broken), "--out", str(out)]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "12 images, 9 faces, 3 images without faces" in text
    assert "picture_1.jpg" in text and "1 images are not in" in text
    assert len(list(out.glob("00*.jpg"))) == 10 and (out / "contact_sheet.jpg").is_file()
    assert main([*command, "--limit", "1"]) == 0
    assert main(["show", "--json", "absent", "--images", ".", "--out", str(out)]) == 2
    assert "detection.dataturks: absent: no such file" in capsys.readouterr().err
