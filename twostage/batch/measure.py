"""``twostage workers``: measure once how many processes are the fastest on this machine."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from faces.command import UserError, note
from faces.files import write_json
from faces.paths import ImageError
from twostage import load_pipeline
from twostage.batch.sources import Source, iter_sources
from twostage.batch.tasks import (
    TASK_IMAGES,
    Loader,
    Task,
    analyze_in_workers,
    make_tasks,
    usable_cores,
)

SECONDS = 20.0
"""Time that each number of processes is measured, after its models are loaded."""

SMALL_RUN = 200
"""Below so many images, more than one process only pays if the user says so."""

LARGE_RUN = 2000
"""From so many images on it is measured how many processes are the fastest, if it was not yet."""

LEAST_GAIN = 1.1
"""More processes take more memory; they are chosen if they are so many times faster."""


def measured_file() -> Path:
    """Return where the result is kept: below ``$XDG_CACHE_HOME``, else ``~/.cache``."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache, "twostage", "workers.json")


def this_machine() -> dict[str, object]:
    """Return what a measurement holds for: the host and the cores that may be used."""
    return {"host": platform.node(), "cores": len(usable_cores())}


def best_workers() -> int | None:
    """Return the number of processes that was measured as the fastest here; None if none was."""
    try:
        found = json.loads(measured_file().read_text(encoding="utf-8"))
        if found["machine"] == this_machine():
            return max(1, int(found["workers"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def choose_workers(loader: Loader, tasks: Iterator[Task]) -> tuple[int, Iterator[Task]]:
    """Return how many processes to take for tasks, and the tasks.

    A process more pays from some images on, as it loads the models first. What is the fastest is
    measured at the first run that is large enough to gain by it.
    """
    first = list(itertools.islice(tasks, SMALL_RUN // TASK_IMAGES))
    if len(first) * TASK_IMAGES < SMALL_RUN:
        return 1, iter(first)
    best = best_workers()
    while best is None and len(first) * TASK_IMAGES < LARGE_RUN and (more := next(tasks, None)):
        first.append(more)
        if any(isinstance(source, Source) and source.data for source in more.sources):
            break  # of an archive that is read from start to end; it does not wait in memory
    if best is None and len(first) * TASK_IMAGES >= LARGE_RUN:
        images = [one for task in first[:8] for one in task.sources if isinstance(one, Source)]
        best = measure_all(loader, images, SECONDS / 2, partial(note, "twostage"))
    return best or 1, itertools.chain(first, tasks)


def counts_to_try(cores: int) -> list[int]:
    """Return 1, 2, 4, … and the number of cores."""
    powers = itertools.takewhile(lambda n: n < cores, (2**k for k in itertools.count()))
    return [*powers, cores] if cores > 1 else [1]


def measure(loader: Loader, images: Sequence[Source], workers: int, seconds: float) -> float:
    """Return the images per second of some processes, over and over the same images.

    The clock starts when every process has had the time to load its models.
    """
    stop_at = float("inf")

    def endless() -> Iterator[Source]:
        for source in itertools.cycle(images):
            if time.monotonic() >= stop_at:
                return
            yield source

    outcomes = analyze_in_workers(loader, make_tasks(endless()), workers)
    warm = 2 * workers
    for _ in itertools.islice(outcomes, warm):
        pass
    start = time.monotonic()
    stop_at = start + seconds
    done = sum(len(outcome.entries) for outcome in outcomes)
    return done / (time.monotonic() - start)


def choose(speeds: dict[int, float]) -> int:
    """Return the number of processes to take, given the images per second of each."""
    best = min(speeds)
    for workers in sorted(speeds):
        if speeds[workers] >= LEAST_GAIN * speeds[best]:
            best = workers
    return best


def measure_all(
    loader: Loader, images: Sequence[Source], seconds: float, tell: Callable[[str], None]
) -> int:
    """Measure 1, 2, 4, … processes; keep, and return, which number is the fastest.

    Args:
        loader: loads the models.
        images: like those to come.
        seconds: for each number.
        tell: prints a line.

    Raises:
        UserError: there are no images.
    """
    if not images:
        raise UserError("no images to measure with; name some like those that you will analyse")
    speeds = {}
    for workers in counts_to_try(len(usable_cores())):
        speeds[workers] = round(measure(loader, images, workers, seconds), 2)
        tell(f"{workers} workers: {speeds[workers]:.1f} images per second")
    chosen = choose(speeds)
    found = {"machine": this_machine(), "workers": chosen, "images_per_second": speeds}
    try:
        write_json(measured_file(), found)
    except OSError as error:
        tell(f"{measured_file()}: cannot be written: {error.strerror}; it will be measured again")
    else:
        tell(f"analyze takes {chosen} from now on ({measured_file()})")
    return chosen


def add_workers_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
) -> None:
    """Add ``twostage workers``."""
    command = commands.add_parser(
        "workers",
        help="measure how many processes are the fastest here",
        description="Measure how many processes are the fastest on this machine; analyze then "
        "takes as many for 200 images and more.",
    )
    command.add_argument("paths", nargs="+", metavar="PATH", help="images like those to come")
    command.add_argument("--detector", default="default", metavar="NAME|RUN")
    command.add_argument("--classifier", default="default", metavar="NAME|RUN")
    command.add_argument("--seconds", type=float, default=SECONDS, help="for each number")
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    loader = partial(load_pipeline, args.detector, args.classifier)
    sources = itertools.islice(iter_sources(args.paths), 64)
    images = [source for source in sources if not isinstance(source, ImageError)]
    measure_all(loader, images, args.seconds, print)
    return 0
