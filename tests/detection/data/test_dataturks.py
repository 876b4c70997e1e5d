from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detection.data.dataturks import file_name, find_images, parse_dataturks, read_dataturks
from faces.command import UserError


def item(name: str = "a.jpg", *points: Any, label: Any = ("Face",)) -> dict[str, Any]:
    annotation = [
        {
            "label": list(label) if isinstance(label, tuple) else label,
            "points": [{"x": p[0], "y": p[1]} for p in corners],
            "imageWidth": 7,
            "imageHeight": 3,
        }
        for corners in points
    ]
    return {"content": f"http://host/folder/{name}", "annotation": annotation}


TWO = [item("a.jpg", [(0.1, 0.2), (0.3, 0.4)]), item("b.jpg", [(0, 0), (1, 1)])]


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(json.dumps(i) for i in TWO),
        "\r\n".join(json.dumps(i) for i in TWO) + "\r\n\r\n",
        "\n\n" + "\n\n".join(json.dumps(i) for i in TWO) + "\n",
        json.dumps(TWO),
        "\n \n\n" + json.dumps(TWO, indent=1),
        "\ufeff" + json.dumps(TWO),
        "\ufeff\n" + "\n".join(json.dumps(i) for i in TWO),
    ],
    ids=["lines", "crlf", "blank lines", "array", "blank lines, array", "bom array", "bom lines"],
)
def test_every_form_reads_the_same(text: str) -> None:
    records, report = parse_dataturks(text)
    assert [(r.name, r.boxes) for r in records] == [
        ("a.jpg", ((0.1, 0.2, 0.3, 0.4),)),
        ("b.jpg", ((0.0, 0.0, 1.0, 1.0),)),
    ]
    assert (report.images, report.faces, report.without_faces) == (2, 2, 0)
    assert len(report.lines()) == 1


def test_a_byte_order_mark_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "faces.json"
    path.write_text(json.dumps(TWO), encoding="utf-8-sig")
    assert len(read_dataturks(path)[0]) == 2


def test_every_known_fault_is_mended_or_dropped_and_counted() -> None:
    items = [
        {"content": "http://h/null.jpg", "annotation": None, "extras": None},
        {"content": "http://h/empty.jpg", "annotation": []},
        item("swapped.jpg", [(0.5, 0.6), (0.1, 0.2)], [(0.5, 0.2), (0.1, 0.6)]),
        item("outside.jpg", [(-0.25, 0.5), (0.5, 1.5)]),
        item("flat.jpg", [(0.5, 0.5), (0.5, 0.9)], [(1.2, 0.1), (1.4, 0.2)]),
        item("dog.jpg", [(0.1, 0.1), (0.2, 0.2)], label=("Dog",)),
        item("nolabel.jpg", [(0.1, 0.1), (0.2, 0.2)], label=None),
        item("both.jpg", [(0.1, 0.1), (0.2, 0.2)], label=("Dog", " face ")),
        item("one.jpg", [(0.1, 0.1)]),
        item("none.jpg", [(None, 0.1), (0.2, 0.3)]),
        item("text.jpg", [("0.1", 0.1), (0.2, 0.3)]),
        item("null.jpg", [(0.1, 0.1), (0.2, 0.2)]),
    ]
    records, report = parse_dataturks("\n".join(json.dumps(i) for i in items))
    boxes = {r.name: r.boxes for r in records}
    assert boxes["null.jpg"] == boxes["empty.jpg"] == ()
    assert boxes["swapped.jpg"] == ((0.1, 0.2, 0.5, 0.6), (0.1, 0.2, 0.5, 0.6))
    assert boxes["outside.jpg"] == ((0.0, 0.5, 0.5, 1.0),)
    assert boxes["both.jpg"] == ((0.1, 0.1, 0.2, 0.2),)
    assert not any(boxes[n] for n in ("flat.jpg", "dog.jpg", "nolabel.jpg", "one.jpg", "none.jpg"))
    assert report.swapped == 2
    assert report.clipped == 2  # outside.jpg, and the box that lies beyond the edge
    assert report.zero_area == 2
    assert report.malformed == 3
    assert dict(report.other_labels) == {"Dog": 1, "None": 1}
    assert report.duplicates == 1
    assert (report.images, report.faces) == (11, 4)
    assert len(report.lines()) == 8


def test_boxes_in_pixels_are_dropped_and_counted_where_most_are_fractions() -> None:
    items = [*TWO, item("c.jpg", [(40, 30), (158, 90)])]
    records, report = parse_dataturks(json.dumps(items))
    assert [len(r.boxes) for r in records] == [1, 1, 0]
    assert report.pixels == 1 and "1 boxes in pixels" in report.faults()[0]


def test_an_export_in_pixels_is_refused() -> None:
    items = [item(f"{i}.jpg", [(40, 30), (158, 90)]) for i in range(3)]
    with pytest.raises(UserError, match=r"3 boxes .* are in pixels"):
        parse_dataturks(json.dumps(items))


def test_sizes_that_disagree_with_the_file_do_not_matter() -> None:
    records, _ = parse_dataturks(json.dumps(item("a.jpg", [(0.25, 0.5), (0.5, 1.0)])))
    assert records[0].pixel_boxes(400, 200) == [(100.0, 100.0, 200.0, 200.0)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps(TWO[0]) + "\n{broken", "line 2: not a JSON object"),
        (json.dumps(TWO[0]) + "\n\n17", "line 3: expected a JSON object"),
        (json.dumps(TWO)[:-5], "broken JSON array"),
        ('[\n1,\n"x"\n]', "line 1: expected a JSON object"),
        ('{"annotation": []}', 'no "content"'),
        ('{"content": "http://h/"}', 'no "content"'),
        ('{"content": "http://h/a.jpg", "annotation": "x"}', "must be a list or null"),
        ("", "no images"),
        ("\n \n", "no images"),
        ("[]", "no images"),
        ("[" * 100_000, "JSON array"),
    ],
)
def test_errors_name_the_line_and_the_cause(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_dataturks(text, "some.json")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_dataturks(tmp_path / "absent.json")
    binary = tmp_path / "binary.json"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UserError, match="not UTF-8"):
        read_dataturks(binary)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://h.com/a/b___c.jpg.jpeg", "b___c.jpg.jpeg"),
        ("https://h/a%20b.png?x=1#y", "a b.png"),
        ("C:\\pictures\\a.jpg", "a.jpg"),
        ("a.jpg", "a.jpg"),
        ("http://h/", ""),
    ],
)
def test_file_names(url: str, name: str) -> None:
    assert file_name(url) == name


numbers = st.one_of(
    st.floats(-2, 3), st.integers(-2, 3), st.just(float("nan")), st.none(), st.booleans(), st.text()
)
corner = st.one_of(st.fixed_dictionaries({"x": numbers, "y": numbers}), numbers, st.lists(numbers))
annotations = st.one_of(
    st.none(),
    st.lists(
        st.one_of(
            st.none(),
            st.fixed_dictionaries(
                {
                    "label": st.one_of(st.just(["Face"]), st.just("Face"), st.none(), st.text()),
                    "points": st.one_of(st.none(), st.lists(corner, max_size=4), st.text()),
                }
            ),
        ),
        max_size=4,
    ),
)


@given(st.lists(annotations, min_size=1, max_size=5), st.booleans(), st.text("\n \r\t", max_size=4))
def test_whatever_the_annotations_boxes_are_boxes(
    given_annotations: list[Any], array: bool, blank: str
) -> None:
    items = [
        {"content": f"http://h/{i}.jpg", "annotation": a} for i, a in enumerate(given_annotations)
    ]
    text = json.dumps(items) if array else "\n".join(json.dumps(i) for i in items)
    records, report = parse_dataturks(blank.replace("\r", "") + text)
    assert len(records) == len(items)
    for record in records:
        for x1, y1, x2, y2 in record.boxes:
            assert 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1
    dropped = report.zero_area + report.malformed + sum(report.other_labels.values())
    assert report.faces + dropped == sum(len(a or []) for a in given_annotations)
    assert report.faces == sum(len(r.boxes) for r in records)


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        records, _ = parse_dataturks(text)
    except UserError:
        return
    assert records


coordinate = st.floats(0, 1, allow_subnormal=False)


@given(coordinate, coordinate, coordinate, coordinate)
def test_the_order_of_the_corners_does_not_matter(a: float, b: float, c: float, d: float) -> None:
    texts = [
        json.dumps(item("a.jpg", corners))
        for corners in ([(a, b), (c, d)], [(c, d), (a, b)], [(a, d), (c, b)], [(c, b), (a, d)])
    ]
    assert len({parse_dataturks(text)[0][0].boxes for text in texts}) == 1


def test_finding_pictures(tmp_path: Path) -> None:
    records, _ = parse_dataturks(json.dumps(TWO))
    (tmp_path / "b.jpg").write_bytes(b"x")
    found, missing = find_images(records, tmp_path)
    assert [(r.name, p.name) for r, p in found] == [("b.jpg", "b.jpg")]
    assert [r.name for r in missing] == ["a.jpg"]
    with pytest.raises(UserError, match="no such folder"):
        find_images(records, tmp_path / "absent")
    with pytest.raises(UserError, match="holds none of the 1"):
        find_images(records[:1], tmp_path)
