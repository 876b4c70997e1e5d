"""What the parts of one process's application share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from starlette.exceptions import HTTPException

from service.batching import Batcher
from service.database import Database
from service.models import Models
from service.reading import Fetcher
from service.settings import Settings

MOST_STREAMS = 16
"""Live streams at a time."""


@dataclass(slots=True)
class State:
    """Settings and what was made from them.

    Attributes:
        guards_token: compares a token that comes over a web socket.
        ready: whether the default models are loaded.
    """

    settings: Settings
    database: Database
    models: Models
    batcher: Batcher
    fetcher: Fetcher
    guards_token: Callable[[str], bool]
    ready: threading.Event = field(default_factory=threading.Event)
    requests: int = 0
    streams: int = 0

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count a request whose body is in memory.

        Raises:
            HTTPException: there are too many.
        """
        if self.requests >= self.settings.max_waiting + self.settings.max_batch:
            raise HTTPException(503, "too many requests are waiting", {"Retry-After": "2"})
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """Count a live stream.

        Raises:
            HTTPException: there are too many.
        """
        if self.streams >= MOST_STREAMS:
            raise HTTPException(503, "too many streams")
        self.streams += 1
        try:
            yield
        finally:
            self.streams -= 1
