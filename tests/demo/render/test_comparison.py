"""Two analyses of one photo, without the page."""

from __future__ import annotations

import re

from demo.render.comparison import Pair, differs, notes, pair_faces, pairs_html, summary
from faces.types import Box, Detection, EmotionProbabilities, Face, ImageResult

HAPPY = (0.0, 0.0, 0.05, 0.9, 0.0, 0.05, 0.0)
HAPPY_OR_SURPRISED = (0.0, 0.0, 0.05, 0.55, 0.0, 0.4, 0.0)
UNCLEAR = (0.2, 0.1, 0.1, 0.2, 0.1, 0.1, 0.2)


def face(x: float, row: tuple[float, ...], score: float = 0.9) -> Face:
    return Face(Detection(Box(x, 0, x + 10, 10), score), EmotionProbabilities(row))


def result_of(*faces: Face) -> ImageResult:
    return ImageResult("a.jpg", 200, 20, 0.1, faces)


LEFT = result_of(face(0, HAPPY), face(50, HAPPY), face(100, UNCLEAR))
RIGHT = result_of(face(101, UNCLEAR), face(3, HAPPY), face(1, HAPPY_OR_SURPRISED), face(150, HAPPY))


def test_faces_pair_by_their_largest_overlap() -> None:
    pairs = pair_faces(LEFT, RIGHT)
    assert pairs == [Pair(0, 2), Pair(2, 0), Pair(1, None), Pair(None, 1), Pair(None, 3)]
    mirrored = {(pair.right, pair.left) for pair in pairs}
    assert {(pair.left, pair.right) for pair in pair_faces(RIGHT, LEFT)} == mirrored


def test_the_same_result_pairs_with_itself() -> None:
    double = result_of(face(0, HAPPY), face(0, UNCLEAR), face(5, HAPPY))
    assert pair_faces(double, double) == [Pair(0, 0), Pair(1, 1), Pair(2, 2)]
    assert pair_faces(result_of(), double) == [Pair(None, i) for i in range(3)]


def test_differences_are_of_labels_not_of_shares() -> None:
    pairs = pair_faces(LEFT, RIGHT)
    assert [differs(p, LEFT, RIGHT, 0.3) for p in pairs] == [True, False, True, True, True]
    assert not differs(pairs[0], LEFT, RIGHT, 0.5)
    left, right = notes(pairs, LEFT, RIGHT, 0.3)
    assert left == {1: "differs", 2: "only here"}
    assert right == {3: "differs", 2: "only here", 4: "only here"}
    assert summary(pairs, LEFT, RIGHT, 0.3) == (
        "Both find 2 of 5 faces and agree on the emotions of 1; only A finds 1; only B finds 2."
    )


def test_cards_show_both_opinions() -> None:
    pairs = pair_faces(LEFT, RIGHT)
    crops = [b"x"] * 3, [b"y"] * 4
    cards = pairs_html(pairs, (LEFT, RIGHT), crops, 0.3).split("<li")[1:]
    labels = [re.findall(r'class="label[^>]*>(?:<i[^>]*></i>)?([\w ]+)', c) for c in cards]
    assert labels == [
        ["happy", "happy", "surprise"],
        ["unsure", "unsure"],
        ["happy", "not found"],
        ["not found", "happy"],
        ["not found", "happy"],
    ]
    marks = [re.findall(r'class="mark">([\w ]+)', card) for card in cards]
    assert marks == [["differs"], [], ["only here"], ["only here"], ["only here"]]
    titles = [re.search(r"Face [\w ,]+", card).group() for card in cards]  # type: ignore[union-attr]
    assert titles[:3] == ["Face 1 in A, 3 in B", "Face 3 in A, 1 in B", "Face 2 in A"]
    assert re.findall(r"width:([\d.]+)%", cards[0])[6:8] == ["90.0", "55.0"]
    assert "90% · 55%" in cards[0] and "90% · –" in cards[2]
