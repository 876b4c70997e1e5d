"""``twostage summary`` and ``twostage merge``, and the columns of ``.parquet``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from PIL import Image

from faces.emotions import EMOTIONS
from tests.twostage.batch import scripted_run
from twostage import cli
from twostage.batch.summary import summarize

FORMS = ["jsonl", "json", "csv", "parquet"]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """24 images: six without a face, six each with one, two and three; and one damaged."""
    monkeypatch.setattr(cli, "load_pipeline", scripted_run.scripted_pipeline)
    monkeypatch.setattr(cli, "fingerprint", scripted_run.scripted_fingerprint)
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(24):
        pixels = np.full((20 + number % 4, 16, 3), 10 * number, np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    (folder / "bad.png").write_bytes(b"")
    return folder


def analyze(photos: Path, out: Path, *options: str) -> int:
    return cli.main(["analyze", str(photos), "--out", str(out), "--quiet", *options])


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_the_same_summary(
    photos: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out, picture = photos.parent / f"r.{form}", photos.parent / "new/summary.png"
    analyze(photos, out)
    found = summarize(out)
    assert (found.images, found.faces) == (24, 36)
    assert {k: v for k, v in found.per_image.items() if v} == {0: 6, 1: 6, 2: 6, 3: 6}
    assert set(found.top) == {"happy", "sad"} and sum(found.top.values()) == 36
    if form == "json":
        assert found.failures is None
    else:
        assert found.failures is not None and sum(found.failures.values()) == 1
    capsys.readouterr()
    assert cli.main(["summary", str(out), "--picture", str(picture)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("24 images, 36 faces, failed: ")
    assert Image.open(picture).size[0] > 500


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("none.jsonl", None, "no such result file"),
        ("r.txt", "x", "no kind of result file"),
        ("r.jsonl", "[1]\n", "is no result file"),
        ("r.jsonl", "{\n", "is no result file"),
        ("r.jsonl", "[" * 100_000, "is no result file"),
        ("r.jsonl", '{"faces": [{"emotions": 1}]}\n', "is no result file"),
        ("r.csv", "a,b\n1,2\n", "is no result file"),
        ("r.parquet", "PAR", "cannot be read as Parquet"),
    ],
)
def test_other_files_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str | None, cause: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    assert cli.main(["summary", str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and cause in error


def test_kinds_of_pictures_that_cannot_be_drawn_are_refused(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = photos.parent / "r.jsonl"
    analyze(photos, out)
    assert cli.main(["summary", str(out), "--picture", str(photos / "a.xyz")]) == 2
    assert "no kind of picture" in capsys.readouterr().err


def with_pandas(folder: Path) -> list[dict[str, Any]]:
    return json.loads(pandas.read_parquet(folder).to_json(orient="records"))


def with_polars(folder: Path) -> list[dict[str, Any]]:
    polars = pytest.importorskip("polars", reason="Polars is not installed")
    return polars.read_parquet(folder).to_dicts()


def with_duckdb(folder: Path) -> list[dict[str, Any]]:
    duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed")
    cursor = duckdb.execute(f"SELECT * FROM '{folder}/*.parquet'")
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


@pytest.mark.parametrize("reader", [with_pandas, with_polars, with_duckdb])
def test_readers_of_columns_find_what_the_lines_hold(
    photos: Path, reader: Callable[[Path], list[dict[str, Any]]]
) -> None:
    analyze(photos, table := photos.parent / "r.parquet")
    analyze(photos, lines := photos.parent / "r.jsonl")
    found = reader(table)
    expected = {one["source"]: one for one in map(json.loads, lines.read_text().splitlines())}
    assert {row["source"] for row in found} == {*expected, str(photos / "bad.png")}
    assert len(found) == 36 + 6 + 1
    for row in found:
        if row["error"]:
            assert row["source"] == str(photos / "bad.png") and row["width"] is None
            continue
        image = expected[row["source"]]
        assert (row["width"], row["height"]) == (image["width"], image["height"])
        if row["face"] is None:
            assert image["faces"] == [] and row["score"] is None and row["labels"] is None
            continue
        face = image["faces"][int(row["face"]) - 1]
        assert [row[key] for key in ("x1", "y1", "x2", "y2")] == face["box"]
        assert {emotion: row[emotion] for emotion in EMOTIONS} == face["emotions"]
        assert (row["score"], row["unsure"]) == (face["score"], face["unsure"])
        assert list(row["labels"]) == face["labels"]


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_merged_shards_hold_what_one_run_holds(photos: Path, form: str) -> None:
    whole, out = photos.parent / f"whole.{form}", photos.parent / f"merged.{form}"
    shards = photos.parent / "shards"
    analyze(photos, whole)
    for index in "123":
        analyze(photos, shards / f"{index}.{form}", "--shard", f"{index}/3")
    assert cli.main(["merge", str(shards), "--out", str(out)]) == 0
    assert summarize(out) == summarize(whole)
    if form == "jsonl":
        loaded = [
            sorted(
                (json.loads(line) | {"seconds": 0} for line in path.read_text().splitlines()),
                key=lambda row: row["source"],
            )
            for path in (out, whole)
        ]
        assert loaded[0] == loaded[1]
    # it is a result file like any other
    Image.new("RGB", (16, 21)).save(photos / "new.png")
    assert analyze(photos, out, "--resume") == 0
    assert summarize(out).images == 25


def test_shards_that_do_not_fit_are_refused(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = photos.parent / "shards"
    one, two = shards / "1.jsonl", shards / "2.jsonl"

    def refused(*inputs: Path) -> str:
        capsys.readouterr()
        out = photos.parent / "merged.jsonl"
        assert cli.main(["merge", *map(str, inputs), "--out", str(out)]) == 2
        assert not out.exists()
        return capsys.readouterr().err

    analyze(photos, one, "--shard", "1/2")
    assert "shards are missing: 2/2" in refused(shards)
    analyze(photos, two, "--shard", "2/2", "--threshold", "0.5")
    assert "threshold 0.3 there, 0.5 now" in refused(shards)
    shutil.copy(one, two)
    shutil.copy(f"{one}.run", f"{two}.run")
    analyze(photos, third := photos.parent / "3.jsonl", "--shard", "2/2")
    assert "is also in a file before it" in refused(one, two, third)
    Path(f"{two}.run").unlink()
    assert "2.jsonl.run beside it is missing" in refused(shards)
    assert "no such result file" in refused(shards / "3.jsonl")
    assert "no result files .jsonl" in refused(photos)


def test_the_log_tells_start_failures_and_end(photos: Path, tmp_path: Path) -> None:
    log = tmp_path / "new/log.jsonl"
    assert analyze(photos, tmp_path / "r.jsonl", "--log", str(log)) == 1
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["start", "failure", "end"]
    assert lines[0]["threshold"] == 0.3
    assert lines[1]["source"] == str(photos / "bad.png")
    end = lines[-1]
    assert (end["analysed"], end["faces"], end["failed"]) == (24, 36, 1)
    assert end["status"] == "done" and end["images_per_second"] > 0
