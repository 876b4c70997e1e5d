"""What a run shows while it works: a bar, the pictures per second, a log in JSON lines."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any, Self, TextIO

from tqdm import tqdm

from faces.command import UserError, printable
from faces.paths import ImageError
from faces.types import ImageResult

LOG_SECONDS = 10.0
"""Seconds between two lines ``progress`` of the log."""


class Progress:
    """Counts images, shows a bar on a terminal and writes the log; a context manager.

    Args:
        log: the file to add lines to, one JSON object each, all with ``time`` and ``event``:
            ``start`` (the run's header), ``progress`` (``done``, ``analysed``, ``faces``,
            ``failed``, ``images_per_second``, ``seconds_left``), ``failure`` (``source``,
            ``cause``), ``end`` (the same as ``progress``, and ``status``).
        done: images that an earlier run has done.
        count: counts all images, in a thread beside the work, so that the time left is known.

    Raises:
        UserError: the log cannot be written.
    """

    def __init__(
        self, log: Path | None, done: int = 0, count: Callable[[], int] | None = None
    ) -> None:
        self.analysed = self.faces = self.failed = 0
        self.done = done
        self.total: int | None = None
        self._start = self._logged = time.monotonic()
        self._log: TextIOWrapper | None = None
        if log is not None:
            try:
                log.parent.mkdir(parents=True, exist_ok=True)
                self._log = log.open("a", encoding="utf-8")
            except OSError as error:
                raise UserError(f"--log {log}: cannot be written: {error.strerror}") from error
        self._bar = tqdm(unit=" images", desc="analysing", disable=None, leave=False, initial=done)
        if count is not None and (self._log is not None or not self._bar.disable):
            Thread(target=self._count, args=(count,), daemon=True).start()

    def _count(self, count: Callable[[], int]) -> None:
        self.total = self._bar.total = count()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.close()
        status = "done" if error is None else f"{type(error).__name__}: {error}".rstrip(": ")
        self.log("end", **self._figures(), status=status)
        if self._log is not None:
            self._log.close()

    def log(self, event: str, **facts: Any) -> None:
        """Add a line to the log."""
        if self._log is None:
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        try:
            print(json.dumps({"time": now, "event": event, **facts}), file=self._log, flush=True)
        except OSError as error:
            raise UserError(f"--log: writing failed: {error.strerror}") from error

    def write(self, text: str, file: TextIO) -> None:
        """Print text above the bar."""
        # tqdm's lock would turn a Ctrl-C in its midst into an error of its own
        self._bar.write(text, file=file, nolock=True)

    def succeed(self, result: ImageResult) -> None:
        """Count an image that was analysed."""
        self.analysed += 1
        self.faces += len(result.faces)
        self._step()

    def add(self, images: int, faces: int, failed: Sequence[ImageError]) -> None:
        """Count images that were analysed elsewhere."""
        self.analysed += images
        self.faces += faces
        self._step(images)
        for error in failed:
            self.fail(error)

    def fail(self, error: ImageError) -> None:
        """Count an image that failed, and tell the user."""
        self.failed += 1
        self.write(printable(f"twostage: {error}"), sys.stderr)
        self.log("failure", source=error.source, cause=error.cause)
        self._step()

    def _step(self, images: int = 1) -> None:
        self._bar.update(images)
        if self._log is not None and time.monotonic() - self._logged >= LOG_SECONDS:
            self._logged = time.monotonic()
            self.log("progress", **self._figures())

    @property
    def seconds(self) -> float:
        """Wall-clock time since the start."""
        return time.monotonic() - self._start

    @property
    def images_per_second(self) -> float:
        """Images of this run, failures too, by time."""
        return (self.analysed + self.failed) / max(self.seconds, 1e-9)

    def _figures(self) -> dict[str, Any]:
        here = self.analysed + self.failed
        left = None
        if self.total is not None and here:
            left = round(max(0, self.total - self.done - here) / self.images_per_second, 1)
        return {
            "done": self.done + here,
            "total": self.total,
            "analysed": self.analysed,
            "faces": self.faces,
            "failed": self.failed,
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self.images_per_second, 3),
            "seconds_left": left,
        }
