"""Composed clips: truth that the pixels bear out, who is hidden stays the same, cut-outs."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

av = pytest.importorskip("av", reason="the extra video is not installed")

from eval import scenes  # noqa: E402
from eval.data.clips import (  # noqa: E402
    VISIBLE,
    WHOLE,
    ClipFace,
    ClipOptions,
    Cutout,
    Person,
    compose_clip,
    read_clips,
    read_cutouts,
)
from faces.command import UserError  # noqa: E402
from faces.emotions import EMOTIONS  # noqa: E402
from faces.pipeline import Image  # noqa: E402
from faces.types import Box  # noqa: E402

LIGHT = Cutout(np.full((60, 60, 3), 250, np.uint8), WHOLE, EMOTIONS.index("happy"))
GREEN = Cutout(np.full((60, 60, 3), (0, 250, 0), np.uint8), WHOLE, EMOTIONS.index("sad"))
SMALL = ClipOptions(size=(320, 240), seconds=4.0, rate=12, sides=(40, 60), noise=0.0)


def clip(
    people: int, seed: int, cutouts: tuple[Cutout, ...] = (LIGHT, GREEN), cut: float | None = None
) -> list[tuple[Image, list[ClipFace]]]:
    """A clip on a dark scene, which turns grey at the cut; the first person shows the first."""
    rng = np.random.default_rng(seed)
    dealt = (number % len(cutouts) for number in count())
    moving = [Person(SMALL, dealt, cut, rng) for _ in range(people)]
    backgrounds = [np.full((240, 320, 3), light, np.float64) for light in (20, 120)]
    return list(compose_clip(backgrounds, cutouts, moving, cut, SMALL, rng))


def test_a_face_lies_where_the_truth_says() -> None:
    for image, faces in clip(1, 3, (LIGHT,)):
        inside = [face for face in faces if face.visible == 1]
        bright = np.argwhere(image.max(axis=2) > 135)
        for face in inside:
            low, high = bright.min(axis=0), bright.max(axis=0) + 1
            shown = Box(*map(float, (low[1], low[0], high[1], high[0])))
            assert shown.as_tuple() == pytest.approx(face.box.as_tuple(), abs=3)


def test_the_box_of_a_cut_out_with_surroundings_is_the_faces() -> None:
    image = np.full((100, 100, 3), 90, np.uint8)
    image[30:80, 40:60] = 250
    cutout = Cutout(image, Box(0.4, 0.3, 0.6, 0.8), 0)
    for shown, faces in clip(1, 3, (cutout,)):
        for face in faces:
            if face.visible == 1:
                assert 38 <= face.box.height <= 62
                bright = np.argwhere(shown.max(axis=2) > 170)
                assert bright.min(axis=0) == pytest.approx((face.box.y1, face.box.x1), abs=3)


def test_visible_is_the_share_of_the_box_that_shows() -> None:
    seen = 0
    for image, faces in (one for seed in range(4) for one in clip(2, seed)):
        for face, colour in zip(faces, (250, 0), strict=False):
            x1, y1, x2, y2 = (round(v) for v in face.box.as_tuple())
            inside = image[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)].astype(int)
            mine = (inside[..., 1] > 135) & (abs(inside[..., 0] - colour) < 120)
            if face.emotion == EMOTIONS.index("happy" if colour else "sad"):
                # the corners of a cut-out are soft
                assert mine.sum() / face.box.area == pytest.approx(0.87 * face.visible, abs=0.1)
                seen += face.visible < 0.7
    assert seen > 3


def test_who_is_hidden_or_away_comes_back_the_same() -> None:
    hidden = 0
    for seed in range(5):
        before: dict[int, ClipFace] = {}
        for _, faces in clip(3, seed):
            for face in faces:
                last = before.get(face.person)
                if last is not None and last.visible < VISIBLE:
                    assert face.emotion == last.emotion
                    hidden += 1
                before[face.person] = face
    assert hidden > 20


def test_a_cut_changes_the_scene_and_nobodys_looks() -> None:
    frames = clip(2, 5, cut=2.0)
    assert frames[23][0][0, 0, 0] == 20 and frames[24][0][0, 0, 0] == 120
    before, after = ({f.person: f for f in frames[i][1]} for i in (23, 24))
    assert before.keys() == after.keys()
    for person, face in after.items():
        assert face.emotion == before[person].emotion
        assert abs(face.box.x1 - before[person].box.x1) > 8


def test_annotated_faces_are_cut_out_with_their_surroundings(tmp_path: Path) -> None:
    image = np.full((200, 300, 3), 40, np.uint8)
    image[50:130, 100:160] = 250
    (tmp_path / "images").mkdir()
    Pillow.fromarray(image).save(tmp_path / "images" / "a.png")
    boxes = [[100, 50, 60, 80], [10, 10, 60, 60], [200, 20, 20, 20]]
    annotations = [
        {"id": i, "image_id": 1, "category_id": 1, "bbox": box, "iscrowd": 0, "doubtful": i == 2}
        for i, box in enumerate(boxes, start=1)
    ]
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": 300, "height": 200}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "surprise"}],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(document))
    (cutout,), _ = read_cutouts(tmp_path)  # the doubtful and the small one are left out
    assert cutout.emotion == EMOTIONS.index("surprise")
    side = cutout.image.shape[0]
    bright = np.argwhere(cutout.image[..., 0] > 200)
    low, high = bright.min(axis=0) / side, (bright.max(axis=0) + 1) / side
    assert cutout.face.as_tuple() == pytest.approx((low[1], low[0], high[1], high[0]), abs=0.02)


def test_clips_are_made_read_and_the_same_again(tmp_path: Path) -> None:
    for emotion, light in (("happy", 250), ("sad", 120)):
        (tmp_path / "crops" / emotion).mkdir(parents=True)
        pixels = np.full((48, 48, 3), light, np.uint8)
        Pillow.fromarray(pixels).save(tmp_path / "crops" / emotion / "0.png")
    for name in ("a", "b"):
        arguments = ["--data", tmp_path / "crops", "--out", tmp_path / name, "--count", 2]
        arguments += ["--seconds", 1, "--size", 160, 160, "--faces", 1, 2, "--video"]
        assert scenes.main([str(word) for word in arguments]) == 0
    clips, info = read_clips(tmp_path / "a")
    assert [len(one.frames) for one in clips] == [24, 24] and info["match_iou"] == 0.3
    assert clips[1].frames == read_clips(tmp_path / "b")[0][1].frames
    with av.open(str(clips[0].path)) as container:
        assert len(list(container.decode(video=0))) == 24


def test_a_folder_without_clips_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="make some: python"):
        read_clips(tmp_path)
