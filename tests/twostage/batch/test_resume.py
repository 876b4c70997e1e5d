"""Runs that are stopped, killed or refused, and what ``--resume`` makes of them."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset
import pytest
from PIL import Image

from tests.twostage.batch import scripted_run
from twostage import cli
from twostage.batch.resume import PARQUET_SECONDS, read_journal

ROOT = Path(__file__).parents[3]
FORMS = ["jsonl", "csv", "parquet"]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """60 images of 0 to 3 faces each, two of them damaged; stand-ins for the models."""
    monkeypatch.setattr(cli, "load_pipeline", scripted_run.scripted_pipeline)
    monkeypatch.setattr(cli, "fingerprint", scripted_run.scripted_fingerprint)
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(60):
        pixels = rng.integers(0, 256, (20 + number % 5, 16, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    for name in ("17.png", "41.png"):
        (folder / name).write_bytes(b"")
    return folder


def analyze(photos: Path, out: Path, *options: str) -> int:
    return cli.main(["analyze", str(photos), "--out", str(out), "--quiet", *options])


def rows(out: Path) -> list[dict[str, Any]]:
    """The rows of a result file in order, without the times."""
    if out.suffix == ".csv":
        with out.open(newline="") as file:
            return list(csv.DictReader(file))
    if out.suffix == ".parquet":
        table = pyarrow.dataset.dataset(sorted(out.glob("*.parquet"))).to_table()
        found = table.to_pylist()
    else:
        found = [json.loads(line) for line in out.read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in found]


def start(photos: Path, out: Path, *options: str, seconds: str = "0.01") -> subprocess.Popen[str]:
    words = [
        sys.executable,
        "-m",
        "tests.twostage.batch.scripted_run",
        seconds,
        "analyze",
        str(photos),
    ]
    return subprocess.Popen(
        [*words, "--out", str(out), "--quiet", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path: Path, size: int = 1) -> None:
    """Wait until a file has so many bytes."""
    end = time.monotonic() + 60
    while not path.exists() or path.stat().st_size < size:
        assert time.monotonic() < end, f"{path} has not come"
        time.sleep(0.005)


@pytest.mark.parametrize("form", FORMS)
def test_a_finished_output_has_every_image_once_and_a_journal(photos: Path, form: str) -> None:
    out = photos.parent / f"r.{form}"
    assert analyze(photos, out) == 1
    record = read_journal(out.with_name(f"r.{form}.run"))
    assert record.header is not None
    assert record.header["detector"] == {"default": "0123456789abcdef" * 4}
    assert (record.images, len(record.failed)) == (58, 2)
    assert sorted(p.name for p in photos.parent.iterdir()) == ["photos", out.name, f"r.{form}.run"]
    if form == "parquet":
        assert {row["source"] for row in rows(out)} == {str(p) for p in photos.iterdir()}


def killed_and_resumed(photos: Path, out: Path, delays: Iterator[float], kills: int) -> int:
    """Kill a run at random moments, each time resumed; returns how often it was still running."""
    hit = 0
    for _ in range(kills):
        process = start(photos, out, "--resume", seconds="0.002")
        wait_for(out.with_name(f"{out.name}.run"), 0)
        time.sleep(next(delays))
        hit += process.poll() is None
        process.kill()
        process.communicate()
        before = read_journal(out.with_name(f"{out.name}.run"))
        assert len(before.done) == before.images + len(before.failed)
    assert analyze(photos, out, "--resume") in (0, 1)
    return hit


@pytest.mark.parametrize("form", FORMS)
def test_killed_runs_that_are_resumed_equal_an_unbroken_one(photos: Path, form: str) -> None:
    whole = photos.parent / f"whole.{form}"
    analyze(photos, whole)
    delays = (random.Random(5).uniform(0, 0.25) for _ in range(99))
    out = photos.parent / f"r.{form}"
    assert killed_and_resumed(photos, out, delays, 2) > 0
    assert rows(out) == rows(whole)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_25_kills_lose_nothing_and_leave_nothing_twice(photos: Path) -> None:
    for number in range(60, 1000):
        shutil.copyfile(photos / f"{number % 17:02}.png", photos / f"{number}.png")
    for form, kills in (("jsonl", 9), ("csv", 8), ("parquet", 8)):
        whole, out = photos.parent / f"whole.{form}", photos.parent / f"r.{form}"
        analyze(photos, whole)
        delays = (random.Random(24).uniform(0, 0.6) for _ in range(99))
        assert killed_and_resumed(photos, out, delays, kills) > kills // 2
        assert rows(out) == rows(whole)
        assert not list(photos.parent.glob("*.part"))


@pytest.mark.parametrize("form", FORMS)
def test_what_is_done_is_not_read_again(
    photos: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = photos.parent / f"r.{form}"
    analyze(photos, out)
    before = rows(out)
    for path in photos.iterdir():
        path.write_bytes(b"no image any more")
    assert analyze(photos, out, "--resume") == 0
    assert rows(out) == before
    assert "60 images done by earlier runs\n0 images analysed" in capsys.readouterr().out


@pytest.mark.parametrize("form", FORMS)
def test_new_images_are_added(photos: Path, form: str) -> None:
    out = photos.parent / f"r.{form}"
    analyze(photos, out)
    before = rows(out)
    Image.new("RGB", (16, 21)).save(photos / "new.png")
    assert analyze(photos, out, "--resume") == 0
    assert rows(out)[: len(before)] == before
    assert [row["source"] for row in rows(out)[len(before) :]] == [str(photos / "new.png")]


@pytest.mark.parametrize("form", FORMS)
def test_failures_are_tried_again_only_on_request(photos: Path, form: str) -> None:
    out = photos.parent / f"r.{form}"
    analyze(photos, out)
    shutil.copyfile(photos / "16.png", photos / "17.png")  # one face
    before = rows(out)
    assert analyze(photos, out, "--resume") == 0
    assert rows(out) == before
    assert analyze(photos, out, "--resume", "--retry-failed") == 1
    mine = [row for row in rows(out) if row["source"] == str(photos / "17.png")]
    assert len(mine) == 1
    assert not mine[0].get("error")
    assert list(read_journal(out.with_name(f"r.{form}.run")).failed) == [str(photos / "41.png")]
    if form == "parquet":
        assert [row["source"] for row in rows(out) if row["error"]] == [str(photos / "41.png")]


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        (["--threshold", "0.5"], "threshold 0.3 there, 0.5 now"),
        (["--threshold", "happy=0.2"], "threshold 0.3 there, happy=0.2 now"),
        (["--detector", "haar"], "detector default=0123456789ab there, haar=0123456789ab now"),
        (["--classifier", "fast"], "classifier default=0123456789ab there, fast=0123456789ab now"),
        (["--shard", "1/2"], "shard None there, 1/2 now"),
        (["--no-detector"], "detector default=0123456789ab there, none now"),
        (["--detail", "fast"], "detail standard there, fast now"),
        (["--min-face", "20"], "min_face 12.0 there, 20.0 now"),
        (["--rotations"], "rotations False there, True now"),
    ],
)
def test_other_settings_are_refused_with_what_differs(
    photos: Path, capsys: pytest.CaptureFixture[str], options: list[str], cause: str
) -> None:
    out = photos.parent / "r.jsonl"
    analyze(photos, out)
    before = out.read_bytes()
    assert analyze(photos, out, "--resume", *options) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"twostage: {out}: was made with other settings: {cause};")
    assert out.read_bytes() == before


@pytest.mark.parametrize("name", ["r.json", "r.coco.json", "-"])
def test_forms_that_cannot_be_resumed_say_which_can(
    photos: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert cli.main(["analyze", str(photos), "--out", name, "--resume"]) == 2
    assert "cannot be resumed; these forms can: .jsonl, .csv, .parquet" in capsys.readouterr().err
    assert cli.main(["analyze", str(photos), "--out", "r.csv", "--retry-failed"]) == 2
    assert "goes with --resume" in capsys.readouterr().err


def test_an_output_without_its_journal_is_refused(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = photos.parent / "r.jsonl"
    out.write_text("{}\n")
    assert analyze(photos, out, "--resume") == 2
    assert "needs r.jsonl.run beside it" in capsys.readouterr().err
    assert out.read_text() == "{}\n" and not out.with_name("r.jsonl.run").exists()


def test_an_output_that_was_edited_is_refused(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = photos.parent / "r.csv"
    analyze(photos, out)
    out.write_bytes(out.read_bytes()[:-50])
    assert analyze(photos, out, "--resume") == 2
    assert "was changed after the run that made it" in capsys.readouterr().err


@pytest.mark.parametrize("form", FORMS)
def test_an_older_output_stands_until_the_new_one_is_whole(photos: Path, form: str) -> None:
    out = photos.parent / f"r.{form}"
    analyze(photos, out)
    before = rows(out)
    process = start(photos, out, "--threshold", "0.6", seconds="0.05")
    wait_for(out.with_name(f"{out.name}.part"))
    time.sleep(0.3)
    process.kill()
    process.communicate()
    assert rows(out) == before
    assert analyze(photos, out, "--threshold", "0.6", "--resume") in (0, 1)
    assert len(rows(out)) == len(before)
    assert not list(photos.parent.glob("*.part"))


def test_a_stopped_run_that_is_not_resumed_is_set_aside(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = photos.parent / "r.jsonl"
    process = start(photos, out, seconds="0.05")
    wait_for(out.with_name("r.jsonl.run"), 800)
    process.kill()
    process.communicate()
    partial = out.with_name("r.jsonl.part").read_bytes()
    assert analyze(photos, out) == 1
    assert "of a stopped run, with which --resume would have gone" in capsys.readouterr().err
    assert out.with_name("r.jsonl.stopped").read_bytes() == partial
    assert len(rows(out)) == 58


def test_two_runs_do_not_share_an_output(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = photos.parent / "r.jsonl"
    process = start(photos, out, seconds="0.05")
    wait_for(out.with_name("r.jsonl.part"))
    assert analyze(photos, out, "--resume") == 2
    assert "another run is writing it" in capsys.readouterr().err
    process.kill()
    process.communicate()


@pytest.mark.parametrize(
    ("form", "number", "workers"),
    [
        ("jsonl", signal.SIGINT, "1"),
        ("csv", signal.SIGTERM, "1"),
        ("parquet", signal.SIGTERM, "2"),
        ("jsonl", signal.SIGTERM, "2"),
    ],
)
def test_a_stopped_run_leaves_what_was_finished_and_resume_goes_on(
    photos: Path, form: str, number: int, workers: str
) -> None:
    whole, out = photos.parent / f"whole.{form}", photos.parent / f"r.{form}"
    analyze(photos, whole)
    process = start(photos, out, "--workers", workers, seconds="0.05")
    wait_for(out.with_name(f"{out.name}.run"), 900)  # the header and something done
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    last = error.strip().splitlines()[-1]
    assert last.startswith("twostage: stopped; ") and "--resume goes on" in last
    if out.exists():
        assert len(rows(out)) < len(rows(whole))
    analyze(photos, out, "--resume")
    assert rows(out) == rows(whole)


@pytest.mark.parametrize("form", FORMS)
def test_ctrl_c_while_a_batch_is_written_does_not_write_it_twice(
    photos: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    whole = photos.parent / f"whole.{form}"
    analyze(photos, whole)
    real = os.fsync
    monkeypatch.setattr("twostage.batch.resume.PARQUET_SECONDS", 0)
    for number in range(1, 8):
        calls = iter(range(1, 999))

        def interrupted(descriptor: int, calls: Any = calls, number: int = number) -> None:
            real(descriptor)
            if next(calls) == number:
                raise KeyboardInterrupt

        out = photos.parent / f"{number}.{form}"
        monkeypatch.setattr(os, "fsync", interrupted)
        assert analyze(photos, out) == 130
        monkeypatch.setattr(os, "fsync", real)
        assert analyze(photos, out, "--resume") in (0, 1)
        assert rows(out) == rows(whole), number


@pytest.mark.parametrize(("form", "limit"), [("jsonl", 9000), ("csv", 4000), ("parquet", 6000)])
def test_a_file_that_cannot_grow_is_one_line_and_can_be_resumed(
    photos: Path, form: str, limit: int
) -> None:
    out, whole = photos.parent / f"r.{form}", photos.parent / f"whole.{form}"
    words = [sys.executable, "-m", "tests.twostage.batch.scripted_run", "0", "analyze", str(photos)]
    done = subprocess.run(
        [*words, "--out", str(out), "--quiet"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        check=False,
    )
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"twostage: {out}: writing failed: File too large; "), done.stderr
    assert "go on with --resume" in last and "Traceback" not in done.stderr
    assert not out.exists() or form == "parquet"  # whose files stand on their own
    analyze(photos, whole)
    assert analyze(photos, out, "--resume") == 1
    assert rows(out) == rows(whole)


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_that_cannot_be_written_is_one_line(
    photos: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    folder = Path("/proc/self")  # not even root makes files there
    assert analyze(photos, folder / f"r.{form}") == 2
    error = capsys.readouterr().err
    assert error.startswith("twostage: /proc/") and error.count("\n") == 1
    assert re.search("cannot be written|no permission to write", error)


def test_a_full_disk_is_one_line_and_can_be_resumed(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = photos.parent / "r.jsonl"
    real, calls = os.fsync, 0

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr("twostage.batch.resume.os.fsync", full)
    assert analyze(photos, out) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"twostage: {out}: writing failed: No space left on device; ")
    assert "go on with --resume" in error
    monkeypatch.setattr("twostage.batch.resume.os.fsync", real)
    assert not out.exists()
    assert analyze(photos, out, "--resume") in (0, 1)
    whole = photos.parent / "whole.jsonl"
    analyze(photos, whole)
    assert rows(out) == rows(whole)


def test_images_that_vanish_fail_and_the_run_can_be_resumed(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = photos.parent / "list.txt"
    listed.write_text("".join(f"{path}\n" for path in sorted(photos.iterdir())))
    moved = photos.rename(photos.parent / "unmounted")
    out = photos.parent / "r.jsonl"
    arguments = ["analyze", "--list", str(listed), "--out", str(out), "--quiet"]
    assert cli.main(arguments) == 1
    assert capsys.readouterr().err.count("no such file") == 60
    moved.rename(photos)
    assert cli.main([*arguments, "--resume", "--retry-failed"]) == 1
    assert len(rows(out)) == 58


def test_a_power_cut_that_lost_written_data_costs_only_those(photos: Path) -> None:
    out, whole = photos.parent / "r.jsonl", photos.parent / "whole.jsonl"
    analyze(photos, whole)
    process = start(photos, out, seconds="0.05")
    wait_for(out.with_name("r.jsonl.part"), 3000)
    process.kill()
    process.communicate()
    part = out.with_name("r.jsonl.part")
    part.write_bytes(part.read_bytes()[:1500])
    analyze(photos, out, "--resume")
    assert rows(out) == rows(whole)


def test_parquet_files_are_written_often_enough_to_lose_little() -> None:
    assert PARQUET_SECONDS <= 60


@pytest.mark.parametrize(
    "line",
    [
        b'{"end": 9}\n',
        b'{"end": "x", "images": [["a", 1]], "failed": []}\n',
        b'{"end": 9, "images": [["a", "x"]], "failed": []}\n',
        b'{"end": 9, "images": [[1, 1]], "failed": []}\n',
        b'{"end": 9, "images": {"a": 1}, "failed": []}\n',
        b'{"end": 9, "images": 3, "failed": []}\n',
        b'{"end": -1, "images": [], "failed": []}\n',
        b'{"retry": ["a"]}\n',
        b'{"retry": 3, "end": 9}\n',
        b'{"images": [["a", 1]], "failed": []}\n',
        b"[" * 100_000 + b"\n",
        b"9" * 5000 + b"\n",
        b"[]\n",
        b'{"end": 9, "images": [["a", 1]], "failed": []}',
    ],
)
def test_a_journal_counts_up_to_its_first_line_of_another_form(tmp_path: Path, line: bytes) -> None:
    whole = b'{"run": 1}\n{"end": 5, "images": [["b", 2]], "failed": [["c", "why"]]}\n'
    journal = tmp_path / "a.run"
    journal.write_bytes(whole + line + b'{"end": 9, "images": [["d", 1]], "failed": []}\n')
    record = read_journal(journal)
    assert (record.images, record.faces, record.end) == (1, 2, 5)
    assert record.failed == {"c": "why"} and record.offset == len(whole)
    journal.write_bytes(line)
    assert read_journal(journal).header is None
