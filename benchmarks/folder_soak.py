"""``twostage analyze`` over many images: memory from start to end, images per second by workers.

The images are random parts of given ones, each of a shape of its own. For each number of workers
the command runs over all of them, as a process of its own, and is watched once a second.

Definitions
    workers: processes of the command; cores: those that it may use, all workers together.
    images_per_s: after the first ``settled`` images, by wall-clock time.
    memory_mb, memory_after_mb: resident memory of the command and its workers, at ``settled``
        images, and the median of the last tenth of the run.
    peak_mb: the most at any time after ``settled`` images.
    growth: peak_mb over memory_mb, minus 1.
    memory: [images done, MB] at each look, for the figure.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from tqdm import tqdm

from eval.data import options
from eval.records import report
from eval.records.plots import save
from eval.records.sections import FOLDER_SOAK
from faces.command import UserError
from faces.images import read_image
from faces.paths import iter_image_paths
from faces.scope import DETAILS

COMMAND = "benchmarks.folder_soak"


def make_images(sources: Sequence[Path], folder: Path, count: int, sides: Sequence[int]) -> None:
    """Write parts of images, of random shapes, the same in every call.

    Args:
        sources: the images.
        folder: gets ``count`` JPEG files; those that it has already are kept.
        count: of images.
        sides: the shortest and the longest side of an image in pixels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in tqdm(range(count), desc="making images", unit=" images", disable=None):
        path = folder / f"{number:06}.jpg"
        if path.exists():
            continue
        rng = np.random.default_rng(number)
        pixels = read_image(sources[int(rng.integers(len(sources)))])
        height, width = (
            int(min(limit, np.exp(rng.uniform(*np.log(sides))))) for limit in pixels.shape[:2]
        )
        top = int(rng.integers(pixels.shape[0] - height + 1))
        left = int(rng.integers(pixels.shape[1] - width + 1))
        part = pixels[top : top + height, left : left + width]
        Image.fromarray(part).save(path, quality=90)


def memory_of(process: int) -> float:
    """Return the resident memory of a process and all below it, in MB."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
        children = [
            int(child)
            for task in Path(f"/proc/{process}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except OSError:  # it has just ended
        return 0.0
    size = int((status.partition("VmRSS:")[2].split() or ["0"])[0])  # a process at its end has none
    return size / 1024 + sum(map(memory_of, children))


def watched(folder: Path, workers: int, cores: int, detail: str) -> list[tuple[float, int, float]]:
    """Run the command; returns seconds, images done and MB, once a second.

    Raises:
        UserError: it ended with an error.
    """
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, "faces.jsonl")
        words = [sys.executable, "-m", "twostage", "analyze", str(folder), "--out", str(out)]
        words += ["--quiet", "--workers", str(workers), "--detail", detail]
        usable = sorted(os.sched_getaffinity(0))[:cores]
        process = subprocess.Popen(
            words,
            stdout=subprocess.DEVNULL,
            preexec_fn=lambda: os.sched_setaffinity(0, usable),
        )
        looks = []
        done = 0
        journal = None
        while process.poll() is None:
            time.sleep(1)
            path = out.with_name("faces.jsonl.run")
            if journal is None and path.exists():
                journal = path.open("rb")
            for line in journal or ():
                if line.endswith(b"\n"):
                    entry = json.loads(line)
                    done += len(entry.get("images", ())) + len(entry.get("failed", ()))
            looks.append((time.monotonic(), done, memory_of(process.pid)))
        if process.returncode not in (0, 1):
            raise UserError(f"twostage analyze ended with status {process.returncode}")
    return looks[:-1]


def figures(looks: Sequence[tuple[float, int, float]], settled: int) -> dict[str, Any]:
    """Return what the looks at one run say, see the module.

    Raises:
        UserError: the run was over before ``settled`` images.
    """
    after = [look for look in looks if look[1] >= settled]
    if len(after) < 10:
        raise UserError(f"too few images to say anything after the first {settled}; raise --count")
    (start, first, memory), (end, last, _) = after[0], after[-1]
    peak = max(megabytes for _, _, megabytes in after)
    late = [megabytes for _, _, megabytes in after[-max(3, len(after) // 10) :]]
    step = max(1, len(looks) // 500)
    return {
        "images_per_s": (last - first) / (end - start),
        "memory_mb": memory,
        "memory_after_mb": median(late),
        "peak_mb": peak,
        "growth": peak / memory - 1,
        "memory": [[done, round(megabytes, 1)] for _, done, megabytes in looks[::step]],
    }


def draw(rows: Sequence[report.Row], path: Path) -> None:
    """Draw the memory of each run over the images done."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    for row in rows:
        done, megabytes = zip(*row["memory"], strict=True)
        speed = f"{row['images_per_s']:.1f} images/s"
        name = f"workers: {row['workers']}, cores: {row['cores']}; {speed}"
        axes.plot(done, megabytes, label=name)
    axes.set(xlabel="images done", ylabel="resident memory (MB)", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, path)


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--images", nargs="+", required=True, metavar="PATH", help="to cut from")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="keep the parts there")
    parser.add_argument("--count", type=int, default=20_000, help="parts (default %(default)s)")
    text = "shortest and longest of the parts (default %(default)s)"
    parser.add_argument("--sides", type=int, nargs=2, default=[64, 640], metavar="PX", help=text)
    text = "N workers on C cores (default %(default)s)"
    runs = ["1/1", "1/2", "2/2"]
    parser.add_argument("--runs", nargs="+", default=runs, metavar="N/C", help=text)
    parser.add_argument("--settled", type=int, default=1000, metavar="N", help="images to warm up")
    parser.add_argument("--detail", choices=DETAILS, default="standard")
    options.add_out_option(parser)
    options.add_picture_option(parser)


def _benchmark(arguments: Namespace) -> None:
    runs = [tuple(map(int, text.split("/"))) for text in arguments.runs]
    sources = [one for one in iter_image_paths(arguments.images) if isinstance(one, Path)]
    if not sources:
        raise UserError("--images: names no image")
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        make_images(sources, folder, arguments.count, arguments.sides)
        for workers, cores in runs:
            about = {"workers": workers, "cores": cores, "images": arguments.count}
            about |= {"detail": arguments.detail, "sides": list(arguments.sides)}
            about |= {"settled": arguments.settled, "load_before": os.getloadavg()[0]}
            looks = watched(folder, workers, cores, arguments.detail)
            rows.append(about | figures(looks, arguments.settled))
    for row in rows:
        row["relative"] = row["images_per_s"] / rows[0]["images_per_s"]
    FOLDER_SOAK.publish(arguments, rows, draw)


main = options.Command(COMMAND, __doc__, _add_options, _benchmark)

if __name__ == "__main__":
    raise SystemExit(main())
