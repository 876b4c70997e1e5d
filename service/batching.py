"""One model, many requests: images wait in a queue; what waits runs through the models together."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from faces.images import ImageError, read_image
from faces.pipeline import Image, Pipeline
from faces.types import ImageResult
from service.metrics import BATCH, CANCELLED, FACES, SECONDS, WAITING, timed
from service.models import Choice


class BusyError(Exception):
    """The queue is full."""


@dataclass(frozen=True, slots=True)
class Analyzed:
    """An image and what was found in it."""

    image: Image
    result: ImageResult


@dataclass(slots=True)
class _Job:
    data: bytes
    name: str
    choice: Choice
    answer: asyncio.Future[Analyzed]
    since: float = field(default_factory=time.perf_counter)


class Batcher:
    """Runs the models in one thread, for requests of one event loop.

    A batch is what waits with the same choice as the request that waits longest, in order, up to
    ``max_batch`` images and ``max_pixels`` pixels. Images are decoded just before their batch, so
    that those that wait take no more memory than their files. Whoever stops waiting cancels the
    future: the image is then neither decoded nor analysed.

    Args:
        pipeline: a choice → both stages; called in the thread, may load models.
        max_waiting: images that may wait.
        max_batch: images that run together.
        max_pixels: of one image; larger ones are refused unread.
    """

    def __init__(
        self,
        pipeline: Callable[[Choice], Pipeline],
        *,
        max_waiting: int,
        max_batch: int,
        max_pixels: int,
    ) -> None:
        self._pipeline = pipeline
        self._max_waiting = max_waiting
        self._max_batch = max_batch
        self._max_pixels = max_pixels
        self._jobs: deque[_Job] = deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "models")
        self._closing = False
        self._loop = asyncio.create_task(self._run())

    def submit(self, images: Sequence[tuple[str, bytes]], choice: Choice) -> list[_Answer]:
        """Queue images, by name and content; returns as many futures.

        A future raises ``ImageError`` if its image cannot be read, or what a model raised.

        Raises:
            BusyError: there is no room for all of them.
        """
        self._drop_cancelled()
        if self._closing or len(self._jobs) + len(images) > self._max_waiting:
            raise BusyError
        loop = asyncio.get_running_loop()
        jobs = [_Job(data, name, choice, loop.create_future()) for name, data in images]
        for job in jobs:  # who stops waiting makes room, and memory, at once
            job.answer.add_done_callback(lambda _: self._drop_cancelled())
        self._jobs += jobs
        WAITING.set(len(self._jobs))
        self._arrived.set()
        return [job.answer for job in jobs]

    @property
    def full(self) -> bool:
        """Whether not one more image may wait."""
        self._drop_cancelled()
        return self._closing or len(self._jobs) >= self._max_waiting

    async def close(self) -> None:
        """Finish what waits, and end the thread."""
        self._closing = True
        self._arrived.set()
        await self._loop
        self._thread.shutdown()

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            batch = self._next_batch()
            if not batch:
                if self._closing:
                    return
                self._arrived.clear()
                continue
            loop = asyncio.get_running_loop()
            outcomes = await loop.run_in_executor(self._thread, self._work, batch)
            for job, outcome in zip(batch, outcomes, strict=True):
                if job.answer.done():
                    continue
                if isinstance(outcome, Exception):
                    job.answer.set_exception(outcome)
                elif outcome is not None:
                    FACES.inc(len(outcome.result.faces))
                    job.answer.set_result(outcome)
            del batch, outcomes  # the images are not held until the next batch

    def _next_batch(self) -> list[_Job]:
        self._drop_cancelled()
        if not self._jobs:
            return []
        choice = self._jobs[0].choice
        batch = [job for job in self._jobs if job.choice == choice][: self._max_batch]
        taken = set(map(id, batch))
        self._jobs = deque(job for job in self._jobs if id(job) not in taken)
        WAITING.set(len(self._jobs))
        return batch

    def _drop_cancelled(self) -> None:
        waiting = deque(job for job in self._jobs if not job.answer.done())
        CANCELLED.inc(len(self._jobs) - len(waiting))
        self._jobs = waiting
        WAITING.set(len(waiting))

    def _work(self, batch: Sequence[_Job]) -> list[Analyzed | Exception | None]:
        """Return the outcome of each job: an answer, what went wrong, or None if nobody waits."""
        now = time.perf_counter()
        for job in batch:
            SECONDS.labels("queue").observe(now - job.since)
        try:
            pipeline = self._pipeline(batch[0].choice)
        except Exception as error:  # every request of the batch learns of it
            return [error] * len(batch)
        outcomes: list[Analyzed | Exception | None] = [None] * len(batch)
        part: list[tuple[int, Image]] = []
        pixels = 0
        for at, job in enumerate(batch):
            if job.answer.done():
                CANCELLED.inc()
                continue
            try:
                with timed("read"):
                    image = read_image(job.data, job.name, max_pixels=self._max_pixels)
            except ImageError as error:
                outcomes[at] = error
                continue
            pixels += image.shape[0] * image.shape[1]
            if part and pixels > self._max_pixels:
                _analyze(pipeline, batch, part, outcomes)
                part, pixels = [], image.shape[0] * image.shape[1]
            part.append((at, image))
        _analyze(pipeline, batch, part, outcomes)
        return outcomes


_Answer = asyncio.Future[Analyzed]


def _analyze(
    pipeline: Pipeline,
    batch: Sequence[_Job],
    part: Sequence[tuple[int, Image]],
    outcomes: list[Analyzed | Exception | None],
) -> None:
    """Run both stages over a part of a batch, into ``outcomes``."""
    if not part:
        return
    BATCH.observe(len(part))
    try:
        results = list(pipeline.analyze_many([image for _, image in part], len(part)))
    except Exception as error:
        if len(part) > 1:  # one image must not fail those beside it
            for one in part:
                _analyze(pipeline, batch, [one], outcomes)
            return
        outcomes[part[0][0]] = error
        return
    for (at, image), result in zip(part, results, strict=True):
        outcomes[at] = (
            result
            if isinstance(result, ImageError)
            else Analyzed(image, replace(result, source=batch[at].name))
        )
