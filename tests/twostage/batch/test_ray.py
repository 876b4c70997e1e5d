"""``twostage analyze --engine ray`` on a Ray that runs here: two nodes, kills, resume."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from tests.twostage.batch import scripted_run
from twostage import cli

pytest.importorskip("ray", reason="Ray is not installed; make setup EXTRAS=cluster")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[3]
STORE = 100 << 20


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Ray with a head of one core, whose processes find the tests' stand-ins."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    before = {key: os.environ.get(key) for key in ("PYTHONPATH", "SCRIPTED_SECONDS")}
    os.environ.update(PYTHONPATH=str(ROOT), SCRIPTED_SECONDS="0.05")
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 2, "object_store_memory": STORE, "include_dashboard": False}
    found = Cluster(initialize_head=True, head_node_args=head)
    yield found
    found.shutdown()
    for key, value in before.items():
        os.environ.pop(key) if value is None else os.environ.update({key: value})


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """60 images of 0 to 3 faces each, two of them damaged, one in a place that is no file."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(60):
        pixels = rng.integers(0, 256, (20 + number % 5, 16, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    for name in ("17.png", "41.png"):
        (folder / name).write_bytes(b"")
    (folder / "50.png").unlink()
    (folder / "50.png").symlink_to("nowhere")
    return folder


@pytest.fixture
def analyze(
    cluster: Any, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, list[dict[str, Any]]]]:
    """Runs the command on the cluster, or without it; returns the status and the rows."""
    from twostage.batch import ray_engine

    monkeypatch.setattr(cli, "load_pipeline", scripted_run.scripted_pipeline)
    monkeypatch.setattr(cli, "fingerprint", scripted_run.scripted_fingerprint)
    monkeypatch.setattr(ray_engine, "BLOCK_IMAGES", 4)
    monkeypatch.setattr(ray_engine, "ROWS_PER_FILE", 10)

    def run(out: Path, *options: str, engine: str = "ray") -> tuple[int, list[dict[str, Any]]]:
        words = ["analyze", str(photos), "--out", str(out), "--quiet", "--engine", engine]
        address = ["--ray-address", cluster.address] if engine == "ray" else []
        status = cli.main([*words, *address, *options])
        return status, rows(out) if out.is_dir() else []

    return run


def rows(out: Path) -> list[dict[str, Any]]:
    table = pyarrow.parquet.read_table(out)
    return table.drop_columns(["seconds"]).to_pylist()


def by_image(found: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """The rows in an order that does not depend on the engine's."""
    return sorted((row["source"], row["face"] or 0, repr(row)) for row in found)


def start(photos: Path, out: Path, cluster: Any, *options: str) -> subprocess.Popen[bytes]:
    words = ["tests.twostage.batch.scripted_run", "0.05", "analyze", str(photos), "--engine", "ray"]
    address = ["--ray-address", cluster.address, "--out", str(out), "--quiet"]
    return subprocess.Popen([sys.executable, "-m", *words, *address, *options], cwd=ROOT)


def wait_for_files(folder: Path, count: int) -> None:
    end = time.monotonic() + 200
    while len(list(folder.glob("*.parquet"))) < count:
        assert time.monotonic() < end, f"{folder} has not grown"
        time.sleep(0.02)


def test_rows_are_those_of_the_local_engine_in_order(
    analyze: Any, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = analyze(photos.parent / "ray.parquet")
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-1] == "57 images analysed, 69 faces found, 3 failed"
    assert "50.png" in shown.err and "17.png: is empty" in shown.err
    local_status, local = analyze(photos.parent / "local.parquet", engine="local")
    assert (status, found) == (local_status, local)
    assert len({row["source"] for row in found}) == 60
    assert cli.main(["summary", str(photos.parent / "ray.parquet")]) == 0
    left = sorted(path.name for path in photos.parent.iterdir())
    assert left == [
        "local.parquet",
        "local.parquet.run",
        "photos",
        "ray.parquet",
        "ray.parquet.run",
    ]


def test_a_node_killed_in_the_middle_loses_nothing(
    analyze: Any, photos: Path, cluster: Any
) -> None:
    node = cluster.add_node(num_cpus=2, object_store_memory=STORE)
    cluster.wait_for_nodes()
    out = photos.parent / "ray.parquet"
    part = out.with_name("ray.parquet.part")

    def kill() -> None:
        wait_for_files(part, 1)
        cluster.remove_node(node, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    status, found = analyze(out)
    killer.join()
    assert status == 1
    assert by_image(found) == by_image(analyze(photos.parent / "l.parquet", engine="local")[1])


def test_a_killed_run_goes_on_where_it_ended(analyze: Any, photos: Path, cluster: Any) -> None:
    out = photos.parent / "ray.parquet"
    part = out.with_name("ray.parquet.part")
    process = start(photos, out, cluster)
    wait_for_files(part, 3)
    process.kill()
    process.wait()
    assert not out.exists()
    notes = out.with_name("ray.parquet.checkpoint").glob("*.parquet")
    kept = {
        row["source"]
        for note in notes
        if not note.name.endswith(".pending.parquet")
        for row in pyarrow.parquet.read_table(note).to_pylist()
    }
    assert kept
    for name in kept:  # what is done is not read again
        Path(name).unlink(missing_ok=True)
        Path(name).touch()
    status, found = analyze(out, "--resume")
    whole = {path.name for path in photos.iterdir()}
    assert status == 1
    assert {Path(row["source"]).name for row in found} == whole
    faces = [(row["source"], row["face"]) for row in found]
    assert len(faces) == len(set(faces))
    assert {Path(row["source"]).name for row in found if row["error"]} == {
        *("17.png", "41.png", "50.png")
    }


def test_failures_are_tried_again_on_request_only(
    analyze: Any, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = photos.parent / "ray.parquet"
    analyze(out)
    Image.new("RGB", (16, 22)).save(photos / "17.png")
    status, found = analyze(out, "--resume")
    assert sum(row["error"] is not None for row in found) == 3
    status, found = analyze(out, "--resume", "--retry-failed")
    assert status == 1
    mine = [row for row in found if row["source"] == str(photos / "17.png")]
    assert [row["error"] for row in mine] == [None, None]
    assert sum(row["error"] is not None for row in found) == 2
    capsys.readouterr()
    assert analyze(out, "--resume", "--threshold", "0.5")[0] == 2
    assert "threshold 0.3 there, 0.5 now" in capsys.readouterr().err


def test_an_image_that_kills_its_process_fails_alone(analyze: Any, photos: Path) -> None:
    Image.new("RGB", (16, 13)).save(photos / "30.png")
    _, found = analyze(photos.parent / "ray.parquet")
    assert len({row["source"] for row in found}) == 60
    failed = {Path(row["source"]).name: row["error"] for row in found if row["error"]}
    assert sorted(failed) == ["17.png", "30.png", "41.png", "50.png"]
    assert "the processes that analysed it ended" in failed["30.png"]


def test_the_models_find_on_300_images_what_they_find_without_ray(
    cluster: Any, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(3)
    with Image.open(ROOT / "samples" / "group.jpg") as opened:
        group = opened.convert("RGB")
    for number in range(300):
        side = int(rng.integers(60, 260))
        left, top = (int(rng.integers(limit - side)) for limit in group.size)
        part = group.crop((left, top, left + side, top + side))
        part.save(photos / f"{number:03}.jpg", quality=92)
    (photos / "150.jpg").write_bytes(b"no image")
    words = ["analyze", str(photos), "--quiet", "--detail", "fast", "--out"]
    ray = ["--engine", "ray", "--ray-address", cluster.address, "--workers", "1"]
    assert cli.main([*words, str(tmp_path / "ray.parquet"), *ray]) == 1
    assert cli.main([*words, str(tmp_path / "local.parquet")]) == 1
    found, expected = rows(tmp_path / "ray.parquet"), rows(tmp_path / "local.parquet")
    assert sum(row["face"] is not None for row in expected) > 50
    assert len({row["source"] for row in expected}) == 300
    for mine, local in zip(found, expected, strict=True):
        numbers = {key: value for key, value in local.items() if isinstance(value, float)}
        assert {key: mine[key] for key in numbers} == pytest.approx(numbers, abs=2e-3)
        assert mine | numbers == local | numbers
