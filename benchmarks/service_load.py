"""How the service answers under load, beside the pipeline without it, in one run.

A service with its default options runs on this machine, and so do its clients, on the same cores.
Each client sends the next image as soon as it has the answer to the one before. The pipeline and
each number of clients take turns over the same images, every round in another order, so that a
machine that slows down slows all of them; while one works the others wait.

Definitions
    images_per_s: answered, over the whole turn; median of the rounds.
    analyze_images_per_s: what ``twostage analyze --out FILE.jsonl`` does with the same images, one
        after the other (read, locate, classify, a line of JSON; not what it prints), in the
        process of the clients; median of the rounds.
    relative: images_per_s over analyze_images_per_s of the same round; median of the rounds.
    relative_low, relative_high: the quartiles of that.
    p50_ms, p95_ms, p99_ms: percentiles of the time from sending a request to its whole answer.
    cpu_ms_service, cpu_ms_clients, cpu_ms_analyze: processor time per image, of all cores, of the
        service, of the clients and of the pipeline; a busy machine changes them little.
    failed: answers with another status than 200, 503 included.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.data import options
from eval.records import report
from eval.records.sections import SERVICE_LOAD
from faces.command import UserError
from faces.images import read_image
from faces.paths import iter_image_paths
from faces.pipeline import Pipeline
from faces.sinks import json_line
from twostage import load_pipeline

COMMAND = "benchmarks.service_load"
_BOUNDARY = b"service-load"


@dataclass(slots=True)
class Turn:
    """What one turn took.

    Attributes:
        seconds: of each answer.
        failed: answers with another status than 200.
        faces: found in all images; 0 unless they were counted.
        length: of the turn in seconds.
        cpu: processor time of who computed, in seconds.
        clients_cpu: of the clients.
    """

    seconds: list[float]
    failed: int = 0
    faces: int = 0
    length: float = 0.0
    cpu: float = 0.0
    clients_cpu: float = 0.0

    @property
    def images_per_s(self) -> float:
        """Images over the whole turn."""
        return len(self.seconds) / self.length


@dataclass(frozen=True, slots=True)
class Service:
    """A running service: its port and its process."""

    port: int
    process: int

    def ready(self) -> bool:
        """Tell whether it can analyse."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v1/health", timeout=5):
                return True
        except OSError:
            return False

    def cpu_seconds(self) -> float:
        """Return the processor time that it has used so far."""
        fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self) -> float:
        """Return its resident memory."""
        status = Path(f"/proc/{self.process}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024


@contextmanager
def running_service() -> Iterator[Service]:
    """Yield a service that is ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        words = ["serve", "--port", str(port), "--per-minute", "0"]
        words += ["--database", f"sqlite:///{folder}/service.sqlite3"]
        process = subprocess.Popen(
            [sys.executable, "-m", "twostage", *words], stderr=subprocess.DEVNULL
        )
        try:
            service = Service(port, process.pid)
            while not service.ready():
                if process.poll() is not None:
                    raise UserError("the service ended; try: twostage serve")
                time.sleep(0.1)
            yield service
        finally:
            process.terminate()
            process.wait(120)


def request(image: bytes, **fields: str) -> bytes:
    """Return a whole request to ``/v1/predict``."""
    start = b"--" + _BOUNDARY + b'\r\nContent-Disposition: form-data; name="'
    form = b"".join(
        start + f'{name}"\r\n\r\n{value}\r\n'.encode() for name, value in fields.items()
    )
    form += start + b'image_buf"; filename="a.jpg"\r\n\r\n' + image
    form += b"\r\n--" + _BOUNDARY + b"--\r\n"
    head = (
        f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(form)}\r\n"
        f"Content-Type: multipart/form-data; boundary={_BOUNDARY.decode()}\r\n\r\n"
    )
    return head.encode() + form


async def load(
    port: int, requests: Sequence[bytes], clients: int, count: int, faces: bool = False
) -> Turn:
    """Send ``count`` requests, over and over the same ones, from so many clients at once.

    Args:
        port: of the service.
        requests: whole ones.
        clients: each on a connection of its own.
        count: how many answers to wait for.
        faces: count the faces in them.
    """
    numbers = iter(range(count))
    turn = Turn([])

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            begin = time.perf_counter()
            writer.write(requests[number % len(requests)])
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            answer = await reader.readexactly(int(head.split(b"content-length:")[1].split()[0]))
            turn.seconds.append(time.perf_counter() - begin)
            turn.failed += not head.startswith(b"http/1.1 200")
            if faces:
                turn.faces += sum(len(one["faces"]) for one in json.loads(answer)["results"])
        writer.close()

    start, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(client() for _ in range(clients)))
    turn.length, turn.clients_cpu = time.perf_counter() - start, time.process_time() - cpu
    return turn


def analyze(pipeline: Pipeline, paths: Sequence[Path]) -> Turn:
    """Do what ``twostage analyze --out FILE.jsonl`` does."""
    turn = Turn([])
    start, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryFile() as out:
        for path in paths:
            begin = time.perf_counter()
            image = read_image(path)
            result = pipeline.classify(image, pipeline.locate(image), str(path))
            out.write(json_line(result))
            turn.seconds.append(time.perf_counter() - begin)
            turn.faces += len(result.faces)
    turn.length, turn.cpu = time.perf_counter() - start, time.process_time() - cpu
    return turn


def measure(arguments: Namespace, paths: Sequence[Path]) -> dict[int, list[Turn]]:
    """Return the turns of each number of clients; 0 stands for the pipeline."""
    pipeline = load_pipeline()
    requests = [request(path.read_bytes()) for path in paths]
    turns: dict[int, list[Turn]] = {number: [] for number in (0, *arguments.clients)}
    with running_service() as service:
        # warm-up, and the same work on both sides
        alone = analyze(pipeline, paths)
        served = asyncio.run(load(service.port, requests, 1, len(requests), faces=True))
        if served.faces != alone.faces:
            raise UserError(f"the service finds {served.faces} faces, analyze {alone.faces}")
        asyncio.run(load(service.port, requests, 4, len(requests)))
        for number in range(arguments.rounds):
            order = [*turns]
            for clients in order[number % len(order) :] + order[: number % len(order)]:
                before = service.cpu_seconds()
                if clients:
                    turn = asyncio.run(load(service.port, requests, clients, len(requests)))
                    turn.cpu = service.cpu_seconds() - before
                else:
                    turn = analyze(pipeline, paths)
                turns[clients].append(turn)
    return turns


def row(clients: int, turns: Sequence[Turn], alone: Sequence[Turn]) -> report.Row:
    """Return one row of the record; see the module for its keys."""
    seconds = np.concatenate([turn.seconds for turn in turns])
    relative = [
        turn.images_per_s / other.images_per_s for turn, other in zip(turns, alone, strict=True)
    ]
    low, middle, high = np.percentile(relative, (25, 50, 75)).tolist()
    images = sum(len(turn.seconds) for turn in alone)
    return {
        "clients": clients,
        "n": len(seconds),
        "failed": sum(turn.failed for turn in turns),
        "images_per_s": float(np.median([turn.images_per_s for turn in turns])),
        "analyze_images_per_s": float(np.median([turn.images_per_s for turn in alone])),
        **{"relative": middle, "relative_low": low, "relative_high": high},
        **{f"p{p}_ms": 1000 * float(np.percentile(seconds, p)) for p in (50, 95, 99)},
        "cpu_ms_service": 1000 * sum(turn.cpu for turn in turns) / len(seconds),
        "cpu_ms_clients": 1000 * sum(turn.clients_cpu for turn in turns) / len(seconds),
        "cpu_ms_analyze": 1000 * sum(turn.cpu for turn in alone) / images,
        "cores": len(os.sched_getaffinity(0)),
        "load_of_the_machine": os.getloadavg()[1],
    }


def images_of(folder: Path, count: int) -> list[Path]:
    """Return the first images of a folder.

    Raises:
        UserError: there is none.
    """
    paths = [one for one in iter_image_paths([str(folder)]) if isinstance(one, Path)]
    if not paths:
        raise UserError(f"{folder}: holds no image")
    return paths[:count]


def _benchmark(arguments: Namespace) -> None:
    turns = measure(arguments, images_of(arguments.images, arguments.count))
    rows = [row(clients, turns[clients], turns[0]) for clients in arguments.clients]
    SERVICE_LOAD.publish(arguments, rows)


def add_image_options(parser: ArgumentParser, count: int) -> None:
    """Add the options that say which images are sent, and where the record goes."""
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="a folder")
    text = f"how many of its images ({count})"
    parser.add_argument("--count", type=options.positive, default=count, help=text)
    options.add_out_option(parser)


def _add_options(parser: ArgumentParser) -> None:
    add_image_options(parser, 60)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16], help="at once")
    text = "in which all take turns (12)"
    parser.add_argument("--rounds", type=options.positive, default=12, help=text)


main = options.Command(COMMAND, __doc__, _add_options, _benchmark)

if __name__ == "__main__":
    raise SystemExit(main())
