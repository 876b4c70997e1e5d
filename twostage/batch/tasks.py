"""Both stages over many images: in this process, or in several that share the cores.

Images go in tasks of ``TASK_IMAGES``, which are the same however often a run was stopped. While the
networks work on some images, a thread decodes the next ones. Results come in the order of the
images, unless the caller prefers them as they are ready.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from queue import SimpleQueue

from faces.command import UserError
from faces.draw import draw_faces
from faces.images import read_image
from faces.paths import ImageError
from faces.pipeline import Image, Pipeline
from faces.types import ImageResult
from twostage.batch.sources import Source

TASK_IMAGES = 8
"""Images in a task: what goes to a worker at once, and what is written at once."""

GROUP_PIXELS = 16_000_000
"""Images are analysed together as long as they have no more pixels; a larger one goes alone."""

TASKS_AHEAD = 2
"""Tasks that wait at each worker, so that it never waits itself."""

WINDOW = 8
"""Tasks for each worker that may be finished before an earlier one is."""

STOP_SECONDS = 5.0
"""What a worker has for its last images when the run is stopped."""

Threshold = float | Mapping[str, float]
Loader = Callable[[], Pipeline]
"""Loads both stages; can be sent to another process."""


@dataclass(frozen=True)
class Task:
    """Images that are analysed together.

    Attributes:
        number: from 0.
        sources: the images, and in the place of what names none an error.
        threshold: draw the faces and their labels, from this probability on; None draws nothing.
    """

    number: int
    sources: tuple[Source | ImageError, ...]
    threshold: Threshold | None = None


@dataclass
class Outcome:
    """What came of a task.

    Attributes:
        number: of the task.
        entries: a result or an error for each image, in order.
        drawn: name and pixels of the annotated images, if they were asked for.
    """

    number: int
    entries: list[ImageResult | ImageError] = field(default_factory=list)
    drawn: list[tuple[str, Image]] = field(default_factory=list)


@dataclass
class _Group:
    """Some images of a task, decoded; small enough to be in memory together."""

    task: Task
    images: list[tuple[str, Image] | ImageError]
    is_last: bool


def make_tasks(
    sources: Iterable[Source | ImageError], threshold: Threshold | None = None
) -> Iterator[Task]:
    """Cut sources into tasks.

    Args:
        sources: see ``twostage.batch.sources.iter_sources``.
        threshold: see ``Task``.
    """
    rest = iter(sources)
    for number in itertools.count():
        batch = tuple(itertools.islice(rest, TASK_IMAGES))
        if not batch:
            return
        yield Task(number, batch, threshold)


def analyze_here(pipeline: Pipeline, tasks: Iterable[Task]) -> Iterator[Outcome]:
    """Analyse tasks in this process, in order; a thread decodes ahead."""
    outcome: Outcome | None = None
    for group in _ahead(_groups(tasks)):
        outcome = outcome or Outcome(group.task.number)
        _analyze_group(pipeline, group, outcome)
        if group.is_last:
            yield outcome
            outcome = None


def _groups(tasks: Iterable[Task]) -> Iterator[_Group]:
    """Decode the images of tasks, a group at a time."""
    for task in tasks:
        group = _Group(task, [], is_last=False)
        pixels = 0
        for source in task.sources:
            image = _read(source)
            size = 0 if isinstance(image, ImageError) else image[1].shape[0] * image[1].shape[1]
            if pixels and pixels + size > GROUP_PIXELS:
                yield group
                group, pixels = _Group(task, [], is_last=False), 0
            group.images.append(image)
            pixels += size
            del image
        group.is_last = True
        yield group


def _read(source: Source | ImageError) -> tuple[str, Image] | ImageError:
    if isinstance(source, ImageError):
        return source
    try:
        return source.name, read_image(source.open(), source.name)
    except ImageError as error:
        return error
    except UserError as error:
        return ImageError(source.name, str(error))


def _ahead(items: Iterator[_Group]) -> Iterator[_Group]:
    """Yield what another thread takes from ``items`` meanwhile, one in advance."""
    with ThreadPoolExecutor(1, thread_name_prefix="decoder") as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item
            del item


def _analyze_group(pipeline: Pipeline, group: _Group, outcome: Outcome) -> None:
    """Analyse the images of a group, each stage in one call, and add what comes of it."""
    read = [image for image in group.images if not isinstance(image, ImageError)]
    results = pipeline.analyze_many([image for _, image in read], max(1, len(read)))
    for image in group.images:
        if isinstance(image, ImageError):
            outcome.entries.append(image)
            continue
        name, pixels = image
        entry = next(results)
        if isinstance(entry, ImageError):
            outcome.entries.append(ImageError(name, entry.cause))
            continue
        result = replace(entry, source=name, preview=None)
        outcome.entries.append(result)
        if group.task.threshold is not None:
            outcome.drawn.append((name, draw_faces(pixels, result, group.task.threshold)))


def analyze_in_workers(
    loader: Loader, tasks: Iterable[Task], workers: int, *, ordered: bool = True
) -> Iterator[Outcome]:
    """Analyse tasks in several processes.

    A worker that dies, of an image that a library crashes on for instance, is replaced; the images
    that it had go to another one by one, and only the one that kills that one, too, fails.

    Args:
        loader: loads the models, in each process.
        tasks: taken as they are needed.
        workers: number of processes.
        ordered: yield in the order of the tasks, else as they are ready.

    Raises:
        UserError: the models cannot be loaded.
    """
    crew = _Crew(loader, workers)
    try:
        yield from _in_order(crew.run(tasks)) if ordered else crew.run(tasks)
    finally:
        crew.stop()


def _in_order(outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
    waiting: dict[int, Outcome] = {}
    number = 0
    for outcome in outcomes:
        waiting[outcome.number] = outcome
        while number in waiting:
            yield waiting.pop(number)
            number += 1


@dataclass
class _Worker:
    """A process, the pipe to it, and the tasks that it has."""

    process: BaseProcess
    pipe: Connection
    tasks: deque[Task] = field(default_factory=deque)
    is_ready: bool = False


class _Crew:
    """The processes of ``analyze_in_workers``."""

    def __init__(self, loader: Loader, count: int) -> None:
        self._loader = loader
        self._cores = shares_of_cores(count)
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        self._window = WINDOW * count
        for index in range(count):
            self._workers.append(self._start(index))

    def _start(self, index: int) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_serve, args=(theirs, self._loader, self._cores[index]), daemon=True
        )
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """Yield outcomes as they are ready."""
        coming = iter(tasks)
        repeated: deque[Task] = deque()  # tasks of workers that died, cut into single images
        parts: dict[int, dict[int, Outcome]] = {}  # what came of those: task → position → outcome
        open_tasks: set[int] = set()
        latest = -1
        exhausted = False
        while True:
            # give every worker what it can take; none runs far ahead of the oldest open task
            for worker in self._workers:
                while len(worker.tasks) < self._most_tasks(worker, repeated):
                    task = repeated.popleft() if repeated else None
                    oldest = min(open_tasks, default=latest)
                    if task is None and not exhausted and latest - oldest < self._window:
                        task = next(coming, None)
                        exhausted = task is None
                    if task is None:
                        break
                    latest = max(latest, task.number)
                    open_tasks.add(task.number)
                    worker.tasks.append(task)
                    self._send(worker, task)
            if not open_tasks:
                return

            # take what is ready
            for index, outcome in self._receive():
                if outcome is None:
                    repeated += self._replace(index)
                    continue
                task = self._workers[index].tasks.popleft()
                if isinstance(task, _Part):
                    outcome = _joined(parts, task, outcome)
                if outcome is not None:
                    open_tasks.discard(outcome.number)
                    yield outcome

    def _most_tasks(self, worker: _Worker, repeated: deque[Task]) -> int:
        """Return how many tasks a worker may have: one, where that may kill it."""
        is_risky = repeated or any(isinstance(task, _Part) for task in worker.tasks)
        return 1 if is_risky else TASKS_AHEAD

    def _send(self, worker: _Worker, task: Task) -> None:
        try:
            worker.pipe.send(task)
        except OSError:
            pass  # it has died, as the next reading from it tells

    def _receive(self) -> Iterator[tuple[int, Outcome | None]]:
        """Yield (worker, outcome) of those that have something to say; None of one that died."""
        pipes = {worker.pipe: index for index, worker in enumerate(self._workers) if worker.tasks}
        for pipe in wait(list(pipes)):
            assert isinstance(pipe, Connection)
            index = pipes[pipe]
            try:
                said = pipe.recv()
            except (EOFError, OSError):
                yield index, None
                continue
            if isinstance(said, UserError):
                raise said
            if isinstance(said, Outcome):
                yield index, said
            else:
                self._workers[index].is_ready = True

    def _replace(self, index: int) -> Iterator[Task]:
        """Start a worker in the place of one that died; yields what is to be done again."""
        dead = self._workers[index]
        dead.process.join(5)
        dead.pipe.close()
        if not dead.is_ready:
            raise UserError(
                f"a worker ended while it loaded the models ({_ending(dead)}); is there enough "
                "memory? try fewer --workers"
            )
        self._workers[index] = self._start(index)
        for task in dead.tasks:
            if not isinstance(task, _Part):
                yield from _cut(task)
            elif isinstance(source := task.sources[0], Source):
                cause = f"the process that analysed it ended ({_ending(dead)})"
                yield replace(task, sources=(ImageError(source.name, cause),))
            else:
                yield task

    def stop(self) -> None:
        """End all workers; each may finish what it is at."""
        for worker in self._workers:
            worker.pipe.close()
        for worker in self._workers:
            worker.process.join(STOP_SECONDS)
            worker.process.terminate()
            worker.process.join()


def _ending(worker: _Worker) -> str:
    code = worker.process.exitcode
    return f"signal {-code}" if code is not None and code < 0 else f"status {code}"


def _cut(task: Task) -> Iterator[Task]:
    """Cut a task into one for each image, whose outcomes ``_joined`` puts together."""
    for position, source in enumerate(task.sources):
        yield _Part(task.number, (source,), task.threshold, position, len(task.sources))


@dataclass(frozen=True)
class _Part(Task):
    """One image of a task that is done again, since a worker may have died of it."""

    position: int = 0
    count: int = 1


def _joined(parts: dict[int, dict[int, Outcome]], part: _Part, outcome: Outcome) -> Outcome | None:
    """Collect the outcomes of a task's single images; returns the whole when it is complete."""
    there = parts.setdefault(part.number, {})
    there[part.position] = outcome
    if len(there) < part.count:
        return None
    del parts[part.number]
    whole = Outcome(part.number)
    for _, one in sorted(there.items()):
        whole.entries += one.entries
        whole.drawn += one.drawn
    return whole


def usable_cores() -> list[int]:
    """Return the numbers of the cores that this process may use."""
    return sorted(os.sched_getaffinity(0))


def shares_of_cores(workers: int) -> list[list[int]]:
    """Return the cores of each worker: equal shares, at least one; shared if there are too few."""
    cores = usable_cores()
    if workers >= len(cores):
        return [[cores[index % len(cores)]] for index in range(workers)]
    limits = [round(index * len(cores) / workers) for index in range(workers + 1)]
    return [cores[low:high] for low, high in itertools.pairwise(limits)]


def _serve(pipe: Connection, loader: Loader, cores: Sequence[int]) -> None:
    """Run a worker: load the models, then answer every task with an outcome."""
    # the parent ends its workers, by a signal or by going away
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.sched_setaffinity(0, cores)
    os.environ["OMP_NUM_THREADS"] = str(len(cores))
    try:
        pipeline = loader()
    except UserError as error:
        pipe.send(error)
        return
    try:
        pipe.send("ready")
        for outcome in analyze_here(pipeline, _received(pipe)):
            pipe.send(outcome)
    except OSError:
        return  # the parent is gone


def _received(pipe: Connection) -> Iterator[Task]:
    """Yield the tasks that come in; a thread takes them, so that the parent never waits to send."""
    tasks: SimpleQueue[Task | None] = SimpleQueue()

    def receive() -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                tasks.put(pipe.recv())
        tasks.put(None)

    threading.Thread(target=receive, daemon=True).start()
    while (task := tasks.get()) is not None:
        yield task
