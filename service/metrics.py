"""What the service counts, as Prometheus reads it at ``/metrics``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

REQUESTS = Counter("twostage_requests", "Answers", ("route", "status"))
SECONDS = Histogram(
    "twostage_stage_seconds",
    "Time per request: queue, total; per batch: read, detect, classify",
    ("stage",),
    buckets=_BUCKETS,
)
WAITING = Gauge("twostage_waiting", "Images in the queue", multiprocess_mode="livesum")
BATCH = Histogram("twostage_batch_images", "Images per batch", buckets=(1, 2, 4, 8, 16, 32))
FACES = Counter("twostage_faces", "Faces found")
CANCELLED = Counter("twostage_cancelled", "Images dropped unread, as nobody waits for them")
ERRORS = Counter("twostage_errors", "Failures of the service itself")


@contextmanager
def timed(stage: str) -> Iterator[None]:
    """Measure a stage."""
    start = time.perf_counter()
    try:
        yield
    finally:
        SECONDS.labels(stage).observe(time.perf_counter() - start)


def exposition() -> tuple[bytes, str]:
    """Return the text of ``/metrics`` and its media type; of all processes where there are many."""
    make: Callable[[], bytes] = generate_latest
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]

        def make() -> bytes:
            return generate_latest(registry)

    return make(), CONTENT_TYPE_LATEST
