"""The boxes over a photo, without the page."""

from __future__ import annotations

import re

import pytest

from demo.render import overlay
from demo.session import Analysis
from faces.pipeline import Merged
from faces.types import Box, Detection, EmotionProbabilities, Face, ImageResult

SURE = EmotionProbabilities((0.0, 0.0, 0.0, 0.5, 0.2, 0.3, 0.0))
UNCLEAR = EmotionProbabilities((0.2, 0.1, 0.1, 0.2, 0.1, 0.1, 0.2))


def analysis_of(*boxes: tuple[float, float, float, float], width: int = 200) -> Analysis:
    faces = tuple(Face(Detection(Box(*box), 0.9), SURE) for box in boxes)
    return Analysis(ImageResult("a.jpg", width, 100, 0.5, faces), (), (), {})


def test_boxes_lie_where_the_faces_are_whatever_the_width_of_the_photo() -> None:
    html = overlay.overlay_html(analysis_of((20, 30, 60, 80), (-10, 90, 300, 120)), 0.3)
    places = re.findall(r"left:([\d.]+)%;top:([\d.]+)%;width:([\d.]+)%;height:([\d.]+)%", html)
    assert sorted(tuple(map(float, place)) for place in places) == [
        (0, 90, 100, 10),
        (10, 30, 20, 50),
    ]


def test_a_box_has_its_number_and_its_labels_the_third_on_demand() -> None:
    html = overlay.overlay_html(analysis_of((20, 30, 60, 80)), 0.2, notes={1: "<differs>"})
    assert re.findall(r"<b>(\d)</b>", html) == ["1"]
    assert re.findall(r'class="(line[^"]*)">([^<]+)', html) == [
        ("line", "happy"),
        ("line", "surprise"),
        ("line more", "sad"),
        ("line", "&lt;differs&gt;"),
    ]


def test_an_unsure_face_is_marked() -> None:
    face = Face(Detection(Box(20, 30, 60, 80), 0.9), UNCLEAR)
    html = overlay.overlay_html(Analysis(ImageResult("a", 200, 100, 0.1, (face,)), (), (), {}), 0.3)
    assert 'class="box unsure"' in html and "angry?" in html


@pytest.mark.parametrize(("faces", "kind"), [(6, "boxes"), (12, "boxes some"), (13, "boxes many")])
def test_many_faces_are_told_apart_in_the_style(faces: int, kind: str) -> None:
    html = overlay.overlay_html(analysis_of(*[(20, 30, 60, 80)] * faces), 0.3)
    assert f'class="{kind}"' in html


def test_small_faces_lie_above_large_ones() -> None:
    html = overlay.overlay_html(analysis_of((20, 30, 30, 40), (0, 0, 100, 90)), 0.3)
    assert re.findall(r'data-face="(\d)"', html) == ["2", "1"]


def test_suppressed_boxes_carry_their_reason_once_per_face_on_demand() -> None:
    boxes = [Detection(Box(x, 0, x + 8, 8), 0.9 - x / 100) for x in range(4)]
    merged = tuple(Merged(box, into) for box, into in zip(boxes, (1, 0, 1, 1), strict=True))
    weak = (Detection(Box(60, 20, 70, 40), 0.4),)
    result = analysis_of(*[(20, 30, 60, 80)] * 2).result
    found = Analysis(result, weak, merged, {})
    reasons = [reason for _, reason in overlay.suppressed_boxes(found)]
    assert reasons == ["same face as 2 (3 boxes)", "same face as 1", "", "", "0.40 low score"]
    assert overlay.overlay_html(found, 0.3).count("weak") == 0
    assert overlay.overlay_html(found, 0.3, suppressed=True).count('class="box weak"') == 5
    crowd = Analysis(analysis_of(*[(20, 30, 60, 80)] * 7).result, weak, merged, {})
    short = [reason for _, reason in overlay.suppressed_boxes(crowd)]
    assert short == ["= 2", "= 1", "", "", "0.40"]
