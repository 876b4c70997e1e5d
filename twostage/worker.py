"""One thread that runs the models, for an application with many visitors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class Worker:
    """Runs one piece of work at a time, in the order of asking; safe to use from several threads.

    One image at a time bounds memory, and nobody waits behind another's whole folder.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "models")

    @contextmanager
    def submitted(self, work: Callable[[], T]) -> Iterator[Future[T]]:
        """Run ``work`` beside the block; on leaving, wait for it and raise what it raised.

        If the block ends with an exception, work that has not begun is dropped, and work that has
        begun is waited for: an application that starts over never works twice on the same image.
        """
        outcome = self._pool.submit(work)
        try:
            yield outcome
            outcome.result()
        finally:
            if not outcome.cancel():
                wait([outcome])

    def run(self, work: Callable[[], T]) -> T:
        """Return what ``work`` returns, or raise what it raises, once its turn has come."""
        with self.submitted(work) as outcome:
            return outcome.result()

    def close(self) -> None:
        """End the thread, after what it was asked to do."""
        self._pool.shutdown()
