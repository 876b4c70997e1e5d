"""Whether the service's memory stays flat over many requests.

Four clients send images over and over, shrunk to ``--side`` pixels in several shapes, so that many
requests fit into an hour; every fourth asks for the annotated image and crops, every fifth takes
the image as one face.

Definitions
    requests, failed: sent; answered with another status than 200.
    memory_mb: resident memory of the service after the first 500 requests.
    memory_most_mb: the largest seen afterwards, looked at after every 500 requests.
    memory_after_mb: at the end.
    growth: memory_most_mb over memory_mb, less 1.
    memory_history_mb: all of these.
"""

from __future__ import annotations

import asyncio
import io
import os
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from benchmarks.service_load import add_image_options, images_of, load, request, running_service
from eval.data import options
from eval.records.sections import SERVICE_SOAK

COMMAND = "benchmarks.service_soak"
SETTLED = 500
"""Requests after which the memory should not grow any more."""


def shrunk(path: Path, side: int, number: int) -> bytes:
    """Return an image as JPEG: one side of at most ``side`` pixels, the other one by ``number``."""
    shape = (side, side - side * (number % 5) // 8)
    out = io.BytesIO()
    with Image.open(path) as image:
        small = image.convert("RGB").resize(shape if number % 2 else shape[::-1])
    small.save(out, "JPEG", quality=85)
    return out.getvalue()


def mixed(paths: Sequence[Path], side: int) -> list[bytes]:
    """Return the requests."""
    requests = []
    for number, path in enumerate(paths):
        fields: dict[str, str] = {}
        if number % 4 == 0:
            fields |= {"annotate_image": "true", "crop_image": "true"}
        if number % 5 == 0:
            fields |= {"no_detector": "true"}
        requests.append(request(shrunk(path, side, number), **fields))
    return requests


def _benchmark(arguments: Namespace) -> None:
    requests = mixed(images_of(arguments.images, arguments.count), arguments.side)
    failed, history, start = 0, [], time.perf_counter()
    with running_service() as service:
        for _ in range(0, arguments.requests, SETTLED):
            failed += asyncio.run(load(service.port, requests, 4, SETTLED)).failed
            history.append(service.memory_mb())
    most = max(history[1:], default=history[0])
    row = {
        "requests": len(history) * SETTLED,
        "failed": failed,
        "memory_mb": history[0],
        "memory_most_mb": most,
        "memory_after_mb": history[-1],
        "growth": most / history[0] - 1,
        "minutes": (time.perf_counter() - start) / 60,
        "side": arguments.side,
        "memory_history_mb": history,
        "cores": len(os.sched_getaffinity(0)),
    }
    SERVICE_SOAK.publish(arguments, [row])


def _add_options(parser: ArgumentParser) -> None:
    add_image_options(parser, 100)
    text = "pixels of the longer side (160)"
    parser.add_argument("--side", type=options.positive, default=160, help=text)
    text = "how many (10000)"
    parser.add_argument("--requests", type=options.positive, default=10_000, help=text)


main = options.Command(COMMAND, __doc__, _add_options, _benchmark)

if __name__ == "__main__":
    raise SystemExit(main())
