"""How the service answers under load, beside the pipeline without it.

A service of its own runs on this machine. Clients send the same images over and over, each a new
request as soon as the one before is answered; the service batches what waits.

Definitions
    images_per_s: answered with status 200, over the whole round; median of the rounds.
    pipeline_images_per_s: what ``twostage analyze`` does with the same files, one after the other,
        in this process (read, locate, classify, JSON), measured in turn with the service's rounds,
        while that is idle.
    relative: images_per_s over pipeline_images_per_s.
    p50_ms, p95_ms, p99_ms: percentiles of the time from sending a request to its answer.
    failed: answers with another status, 503 included.
    memory_mb, memory_after_mb: resident memory of the service after the first 500 requests, and
        at the end.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from eval.data import options
from eval.records import report
from eval.records.sections import SERVICE_LOAD
from faces.command import UserError
from faces.paths import iter_image_paths
from faces.sinks import json_line
from twostage import load_pipeline

COMMAND = "benchmarks.service_load"
SETTLED = 500
"""Requests after which the memory should not grow any more."""


@dataclass(slots=True)
class Round:
    """The answers of one round: seconds of each, failures, length of the round in seconds."""

    seconds: list[float]
    failed: int
    length: float


@contextmanager
def service() -> Iterator[tuple[str, int]]:
    """Yield the address and the process number of a service that is ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        words = ["serve", "--port", str(port), "--per-minute", "0"]
        words += ["--database", f"sqlite:///{folder}/service.sqlite3"]
        process = subprocess.Popen(
            [sys.executable, "-m", "twostage", *words], stderr=subprocess.DEVNULL
        )
        url = f"http://127.0.0.1:{port}"
        try:
            for _ in range(1200):
                if process.poll() is not None:
                    raise UserError("the service ended; try: twostage serve")
                try:
                    if httpx.get(f"{url}/v1/health").status_code == 200:
                        break
                except httpx.TransportError:
                    pass
                time.sleep(0.1)
            yield url, process.pid
        finally:
            process.terminate()
            process.wait(120)


async def load(url: str, files: Sequence[bytes], clients: int, requests: int) -> Round:
    """Send ``requests`` images from so many clients at once."""
    numbers = iter(range(requests))
    answers = Round([], 0, 0.0)

    async def client(session: httpx.AsyncClient) -> None:
        for number in numbers:
            content = files[number % len(files)]
            start = time.perf_counter()
            answer = await session.post("/v1/predict", files={"image_buf": ("a.jpg", content)})
            answers.seconds.append(time.perf_counter() - start)
            answers.failed += answer.status_code != 200

    start = time.perf_counter()
    async with httpx.AsyncClient(base_url=url, timeout=120) as session:
        await asyncio.gather(*(client(session) for _ in range(clients)))
    answers.length = time.perf_counter() - start
    return answers


def megabytes(process: int) -> float:
    """Return a process's resident memory."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def _benchmark(arguments: Namespace) -> int:
    paths = [one for one in iter_image_paths([str(arguments.images)]) if isinstance(one, Path)]
    if not paths:
        raise UserError(f"{arguments.images}: holds no image")
    paths = paths[: arguments.count]
    files = [path.read_bytes() for path in paths]
    pipeline = load_pipeline()
    for path in paths[:3]:
        pipeline.analyze(path)

    def without_service() -> float:
        start = time.perf_counter()
        for path in paths:
            json_line(pipeline.analyze(path))
        return len(paths) / (time.perf_counter() - start)

    rows: list[report.Row] = []
    rounds: dict[int, list[Round]] = {clients: [] for clients in arguments.clients}
    speeds = []
    with service() as (url, process):
        asyncio.run(load(url, files, 4, len(files)))  # warm-up
        for _ in range(arguments.rounds):
            speeds.append(without_service())
            for clients in arguments.clients:
                rounds[clients].append(asyncio.run(load(url, files, clients, len(files) * 2)))
        memory = soak(url, process, files, arguments.requests)
    for clients, measured in rounds.items():
        rows.append(row(clients, measured, speeds) | memory)
    SERVICE_LOAD.publish(arguments, rows)
    return 0


def soak(url: str, process: int, files: Sequence[bytes], requests: int) -> dict[str, Any]:
    """Send so many requests and return what memory the service has after 500, and at the end."""
    first = min(SETTLED, requests)
    asyncio.run(load(url, files, 4, first))
    before = after = megabytes(process)
    for _ in range(first, requests, SETTLED):
        asyncio.run(load(url, files, 4, SETTLED))
        after = megabytes(process)
    return {"requests": requests, "memory_mb": before, "memory_after_mb": after}


def row(clients: int, rounds: Sequence[Round], speeds: Sequence[float]) -> report.Row:
    """Return one row of the record; see the module for its keys."""
    seconds = np.concatenate([one.seconds for one in rounds])
    speed = float(np.median([len(one.seconds) / one.length for one in rounds]))
    alone = float(np.median(speeds))
    return {
        "clients": clients,
        "n": len(seconds),
        "failed": sum(one.failed for one in rounds),
        "images_per_s": speed,
        "pipeline_images_per_s": alone,
        "relative": speed / alone,
        **{f"p{p}_ms": 1000 * float(np.percentile(seconds, p)) for p in (50, 95, 99)},
        "cores": len(os.sched_getaffinity(0)),
        "load_of_the_machine": os.getloadavg()[1],
    }


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="a folder")
    parser.add_argument("--count", type=int, default=60, help="how many of its images (60)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16], help="at once")
    parser.add_argument("--rounds", type=int, default=3, help="of each number of clients (3)")
    text = "to watch the memory over (1000)"
    parser.add_argument("--requests", type=int, default=1000, help=text)
    options.add_out_option(parser)


main = options.Command(COMMAND, __doc__, _add_options, _benchmark)

if __name__ == "__main__":
    raise SystemExit(main())
