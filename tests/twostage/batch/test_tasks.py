"""Both stages in several processes: order, equal results, processes that die, shares of cores."""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from faces.command import UserError
from faces.paths import ImageError
from faces.pipeline import Pipeline
from faces.types import ImageResult
from tests.stand_ins import ScriptedClassifier, ScriptedDetector, brightness
from tests.twostage.batch.scripted_run import faces_by_size, scripted_pipeline
from twostage import cli
from twostage.batch import measure, tasks
from twostage.batch.sources import Source, iter_sources
from twostage.batch.tasks import Outcome, analyze_here, analyze_in_workers, make_tasks


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(44):
        pixels = rng.integers(0, 256, (20 + number % 5, 16, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    (folder / "17.png").write_bytes(b"no image")
    return folder


def entries(outcomes: Any) -> list[tuple[str, Any]]:
    """Name and faces, or cause, of every image, in order."""
    return [
        (e.source, e.faces if isinstance(e, ImageResult) else e.cause)
        for outcome in outcomes
        for e in outcome.entries
    ]


def tasks_of(*paths: Path) -> Any:
    return make_tasks(iter_sources([str(path) for path in paths]))


def failing_loader() -> Pipeline:
    raise UserError("weights.safetensors: is damaged")


def dying_loader() -> Pipeline:
    raise SystemExit(3)


def late_loader() -> Pipeline:
    """Load at once in all processes but the first that comes."""
    with suppress(FileExistsError):
        Path(os.environ["FIRST_TO_LOAD"]).touch(exist_ok=False)
        time.sleep(2)
    return scripted_pipeline()


def test_one_process_gives_what_the_pipeline_gives_one_by_one(photos: Path) -> None:
    pipeline = scripted_pipeline()
    found = entries(analyze_here(pipeline, tasks_of(photos, photos / "none")))
    assert [name for name, _ in found[:-1]] == [str(p) for p in sorted(photos.iterdir())]
    assert found[-1] == (str(photos / "none"), "no such file or folder")
    for name, faces in found[:-1]:
        if name.endswith("17.png"):
            assert "text file" in faces
        else:
            assert faces == pipeline.analyze(name).faces


def test_the_crops_of_a_task_go_to_the_classifier_in_one_call(photos: Path) -> None:
    pipeline = Pipeline(ScriptedDetector(faces_by_size), classifier := ScriptedClassifier())
    list(analyze_here(pipeline, tasks_of(photos)))
    assert len(classifier.calls) == 6  # 44 images, 8 in a task


def test_images_over_the_limit_are_analysed_in_groups_of_their_own(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = entries(analyze_here(scripted_pipeline(), tasks_of(photos)))
    monkeypatch.setattr(tasks, "GROUP_PIXELS", 1000)
    detector = ScriptedDetector(faces_by_size)
    pipeline = Pipeline(detector, ScriptedClassifier(brightness))
    assert entries(analyze_here(pipeline, tasks_of(photos))) == whole
    assert max(detector.calls) == 2  # 16 x 20 … 24 pixels each


@pytest.mark.parametrize("ordered", [True, False])
def test_two_processes_give_the_same_and_in_order_if_asked(photos: Path, ordered: bool) -> None:
    whole = entries(analyze_here(scripted_pipeline(), tasks_of(photos)))
    found = entries(analyze_in_workers(scripted_pipeline, tasks_of(photos), 2, ordered=ordered))
    assert sorted(found) == sorted(whole)
    if ordered:
        assert found == whole


def test_an_image_that_kills_its_process_fails_alone(photos: Path) -> None:
    Image.new("RGB", (16, 13)).save(photos / "20.png")
    found = entries(analyze_in_workers(scripted_pipeline, tasks_of(photos), 2))
    assert [name for name, _ in found] == [str(p) for p in sorted(photos.iterdir())]
    failed = {Path(name).name: cause for name, cause in found if isinstance(cause, str)}
    assert failed["20.png"] == "the process that analysed it ended (signal 9)"
    assert set(failed) == {"17.png", "20.png"}


def test_models_that_cannot_be_loaded_are_one_error(photos: Path) -> None:
    with pytest.raises(UserError, match="is damaged"):
        list(analyze_in_workers(failing_loader, tasks_of(photos), 2))
    with pytest.raises(UserError, match=r"while it loaded the models \(status 3\)"):
        list(analyze_in_workers(dying_loader, tasks_of(photos), 2))


@pytest.mark.parametrize("loader", [scripted_pipeline, late_loader])
def test_tasks_are_taken_as_they_are_needed(
    photos: Path, tmp_path: Path, loader: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRST_TO_LOAD", str(tmp_path / "first"))
    taken = 0

    def counted() -> Any:
        nonlocal taken
        for source in itertools.islice(itertools.cycle(iter_sources([str(photos)])), 4000):
            taken += 1
            yield source

    outcomes = analyze_in_workers(loader, make_tasks(counted()), 2)
    next(outcomes)
    assert taken <= tasks.TASK_IMAGES * (2 * tasks.WINDOW + 4)
    outcomes.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name.startswith("decoder")]


def test_an_early_slow_task_holds_the_others_back() -> None:
    numbers = [0, 2, 1, 4, 3]
    outcomes = tasks._in_order(Outcome(number) for number in numbers)
    assert [outcome.number for outcome in outcomes] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("cores", "count", "expected"),
    [
        ([0, 1], 1, [[0, 1]]),
        ([0, 1], 2, [[0], [1]]),
        ([0, 1], 3, [[0], [1], [0]]),
        ([4, 5, 6, 7, 8], 2, [[4, 5], [6, 7, 8]]),
        ([0, 1, 2, 3, 4, 5, 6, 7], 4, [[0, 1], [2, 3], [4, 5], [6, 7]]),
    ],
)
def test_workers_share_the_cores(
    monkeypatch: pytest.MonkeyPatch, cores: list[int], count: int, expected: list[list[int]]
) -> None:
    monkeypatch.setattr(tasks, "usable_cores", lambda: cores)
    assert tasks.shares_of_cores(count) == expected


def test_the_command_runs_workers_and_draws(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "load_pipeline", scripted_pipeline)
    written = []
    for number in ("1", "2"):
        out, drawn = tmp_path / f"{number}.jsonl", tmp_path / f"drawn{number}"
        arguments = ["analyze", str(photos), "--out", str(out), "--annotated", str(drawn)]
        assert cli.main([*arguments, "--workers", number]) == 1
        rows = [json.loads(line) | {"seconds": 0} for line in out.read_text().splitlines()]
        written.append((rows, [path.read_bytes() for path in sorted(drawn.iterdir())]))
    assert len(written[0][0]) == len(written[0][1]) == 43
    assert written[0] == written[1]


@pytest.mark.parametrize("number", ["0", "-1", "two"])
def test_no_workers_are_refused(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["analyze", "x.jpg", "--workers", number])
    assert "a number from 1 on" in capsys.readouterr().err


def test_what_was_measured_decides_how_many_processes_large_runs_take(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(measure, "load_pipeline", scripted_pipeline)
    assert measure.best_workers() is None
    assert cli.main(["workers", str(photos), "--seconds", "0.5"]) == 0
    shown = capsys.readouterr().out
    assert "1 workers: " in shown and f"analyze takes {measure.best_workers()} from" in shown
    monkeypatch.setattr(measure, "this_machine", lambda: {"host": "another", "cores": 99})
    assert measure.best_workers() is None


def test_the_first_large_run_measures_and_later_ones_know(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(measure, "usable_cores", lambda: [0])
    monkeypatch.setattr(measure, "SECONDS", 0.2)
    monkeypatch.setattr(measure, "SMALL_RUN", 16)
    monkeypatch.setattr(measure, "LARGE_RUN", 32)
    for images, told in ((8, ""), (24, ""), (44, "analyze takes 1 from now on"), (44, "")):
        some = itertools.islice(iter_sources([str(photos)]), images)
        workers, found = measure.choose_workers(scripted_pipeline, make_tasks(some))
        assert workers == 1
        assert sum(len(task.sources) for task in found) == images
        assert (told in capsys.readouterr().err) if told else not capsys.readouterr().err


@pytest.mark.parametrize(
    ("speeds", "chosen"),
    [
        ({1: 10.0}, 1),
        ({1: 10.0, 2: 10.9}, 1),
        ({1: 10.0, 2: 16.0}, 2),
        ({1: 10.0, 2: 16.0, 4: 17.0}, 2),
        ({1: 10.0, 2: 9.0, 4: 20.0}, 4),
    ],
)
def test_the_fewest_processes_that_are_not_much_slower_are_chosen(
    speeds: dict[int, float], chosen: int
) -> None:
    assert measure.choose(speeds) == chosen


def test_a_source_that_cannot_be_opened_is_an_error_of_its_image() -> None:
    source = Source("nothing://x/a.jpg", "nothing://x/a.jpg")
    (outcome,) = analyze_here(scripted_pipeline(), make_tasks([source]))
    (error,) = outcome.entries
    assert isinstance(error, ImageError) and "nothing" in error.cause
