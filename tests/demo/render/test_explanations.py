"""Maps, cards and times, without the page."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image

from demo.render import explanations


def opened(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as picture:
        return np.array(picture).astype(int)


@pytest.mark.parametrize("side", [1, 48, 700])
def test_saliency_is_orange_where_it_speaks_for_and_blue_where_against(side: int) -> None:
    crop = np.full((side, side, 3), 128, np.uint8)
    saliency = np.zeros((48, 48), np.float32)
    saliency[:, :12], saliency[:, 36:] = 0.3, -0.3
    picture = opened(explanations.saliency_jpeg(crop, saliency))
    left, middle, right = (picture[144, x] for x in (20, 144, 268))
    assert left[0] > 180 > left[2] + 60
    assert right[2] > 120 > right[0] + 60
    assert np.abs(middle - 128).max() < 12


def test_weak_saliency_stays_pale() -> None:
    crop = np.full((48, 48, 3), 128, np.uint8)
    picture = opened(explanations.saliency_jpeg(crop, np.full((48, 48), 0.01, np.float32)))
    assert np.abs(picture - 128).max() < 30


@pytest.mark.parametrize(("channels", "shape"), [(1, (64, 64)), (7, (64, 466)), (99, (265, 533))])
def test_feature_maps_stand_beside_each_other(channels: int, shape: tuple[int, int]) -> None:
    maps = np.random.default_rng(0).normal(size=(channels, 6, 5)).astype(np.float32)
    assert opened(explanations.feature_sheet(maps)).shape[:2] == shape


def test_the_maps_that_vary_most_are_shown_in_order_and_flat_ones_are_dark() -> None:
    maps = np.zeros((40, 4, 4), np.float32)
    maps[39, 0, 0] = 5
    sheet = opened(explanations.feature_sheet(maps))
    last = sheet[3 * 67 : 3 * 67 + 64, 7 * 67 : 7 * 67 + 64]  # the 32nd place
    assert last[5, 5, 1] > 200 and last[40, 40, 1] < 60
    assert sheet[5, 5, 1] < 60


def test_times_add_up() -> None:
    html = explanations.times_html({"read": 0.1, "detect": 0.3, "classify": 0.1})
    assert re.findall(r"width:([\d.]+)%", html) == ["20.0", "60.0", "20.0"]
    assert "300 ms" in html
    assert "width:0.0%" in explanations.times_html({"read": 0.0})


def test_cards_are_shown_whatever_their_form() -> None:
    card = {
        "trained_on": [{"set": "a <b>.json", "sha256": "1f"}, {"data": "FER2013", "n": 3}],
        "limits": "few",
        "intended_use": "",
        "calibration": {},
    }
    html = explanations.card_html(card)
    assert "a &lt;b&gt;.json; FER2013" in html and "few" in html
    assert html.count("<dt>") == 2
    assert "x: 1; y: 2, 3".replace(", ", "; ") in explanations.card_html(
        {"limits": {"x": 1, "y": [2, 3]}}
    )


def test_recall_is_the_share_of_each_row() -> None:
    confusion = np.zeros((7, 7), int)
    confusion[0, 0], confusion[0, 1], confusion[3, 3] = 1, 3, 5
    shares = re.findall(r"(\d+)%</dd>", explanations.recall_html(confusion.tolist()))
    assert shares == ["25", "0", "0", "100", "0", "0", "0"]


def test_calibration_in_words_and_as_a_diagram() -> None:
    calibration = {
        "before": {"ece": 0.1},
        "after": {"ece": 0.0123},
        "pictures": 3589,
        "fitted_on": "FER2013, PublicTest",
    }
    text = explanations.calibration_text(calibration)
    assert "1.2 points (10.0 before" in text and "3589 pictures of FER2013, PublicTest" in text
    svg = explanations.reliability_svg([(0.5, 0.25, 10), (1.0, 1.0, 5)])
    assert re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', svg) == [("110.0", "165.0"), ("220.0", "0.0")]
    told = explanations.reliability_text([(0.5, 0.25, 10), (1.0, 1.0, 5)])
    assert told == "Reliability: says 50%, right 25%; says 100%, right 100%"
