"""How fast ``twostage video`` is on one video, looped to any length, and what memory it takes.

The video is scaled to each size, encoded as H.264, and repeated until it is as long as asked for.
It is analysed to a table and its notes, as the command does it.

Definitions
    frames_per_second: of the whole analysis. first_fps, last_fps: of its first and last fifth.
    ms_decode, ms_detect, ms_classify, ms_rest: per frame. The rest follows faces, looks at their
        colours, and writes the tables and notes.
    faces: per frame.
    memory_mb, memory_after_mb, memory_peak_mb: resident, after the first fifth, at the end, and
        the highest of all.
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from fractions import Fraction
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.data import options
from eval.records import report
from eval.records.sections import VIDEO_SPEED
from faces.command import UserError
from faces.pipeline import Pipeline
from twostage import load_pipeline

if TYPE_CHECKING:
    from video.analyze import VideoFrame
    from video.job import VideoSummary

COMMAND = "benchmarks.video"

PARTS = 5
"""The analysis is compared at its first and last of so many parts."""


def loop(source: Path, size: tuple[int, int], seconds: float, out: Path) -> None:
    """Write a video at another size, repeated until it is ``seconds`` long."""
    import av

    from video.frames import open_frames

    frames = open_frames(source)
    rate = Fraction(frames.rate or 25).limit_denominator(1001)
    once = out.with_name("once.mp4")
    with av.open(str(once), "w") as container:
        stream: Any = container.add_stream("libx264", rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for frame in frames:
            image = av.VideoFrame.from_ndarray(frame.image, format="rgb24")
            container.mux(stream.encode(image.reformat(*size, "yuv420p")))
        container.mux(stream.encode(None))
    with av.open(str(out), "w") as container:
        made: Any = None
        start = 0
        while made is None or start * made.time_base < seconds:
            with av.open(str(once)) as again:
                given = again.streams.video[0]
                made = made or container.add_stream_from_template(given)
                for packet in again.demux(given):
                    if packet.pts is not None and packet.dts is not None:
                        packet.pts, packet.dts = packet.pts + start, packet.dts + start
                        packet.stream = made
                        container.mux(packet)
            start += given.duration or 0


class Samples:
    """Clock and memory, sampled frame by frame at equal steps of the video's time."""

    def __init__(self) -> None:
        self.clock = [time.perf_counter()]
        self.frames = [0]
        self.megabytes = [megabytes()]

    def __call__(self, frame: VideoFrame, summary: VideoSummary, length: float | None) -> None:
        """Sample where the next part of the video is finished."""
        if frame.time >= (length or 0.0) * len(self.clock) / PARTS and len(self.clock) < PARTS:
            self._sample(summary.frames)

    def finish(self, summary: VideoSummary) -> report.Row:
        """Return the figures of the whole analysis."""
        self._sample(summary.frames)
        seconds, frames = self.clock[-1] - self.clock[0], summary.frames
        parts = [
            (self.frames[i + 1] - self.frames[i]) / (self.clock[i + 1] - self.clock[i])
            for i in range(len(self.clock) - 1)
        ]
        spent = {stage: 1000 * summary.seconds[stage] / frames for stage in ("detect", "classify")}
        return {
            "frames": frames,
            "faces": summary.faces / frames,
            "frames_per_second": frames / seconds,
            "first_fps": parts[0],
            "last_fps": parts[-1],
            **{f"ms_{stage}": value for stage, value in spent.items()},
            "ms_rest": 1000 * seconds / frames - sum(spent.values()),
            "memory_mb": self.megabytes[1],
            "memory_after_mb": self.megabytes[-1],
            "memory_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }

    def _sample(self, frames: int) -> None:
        self.clock.append(time.perf_counter())
        self.frames.append(frames)
        self.megabytes.append(megabytes())


def megabytes() -> float:
    """Return the resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(pipeline: Pipeline, path: Path, detect_every: int, folder: Path) -> report.Row:
    """Analyse a video and return its figures; see the module."""
    from video.analyze import VideoOptions
    from video.frames import open_frames
    from video.job import Outputs, analyze_sources

    start = time.perf_counter()
    decoded = sum(1 for _ in takewhile(lambda frame: frame.time < 20, open_frames(path)))
    ms_decode = 1000 * (time.perf_counter() - start) / decoded
    outputs, settings = Outputs(folder / "faces.jsonl"), VideoOptions(detect_every=detect_every)
    samples = Samples()
    (summary,) = analyze_sources(
        lambda: pipeline, [str(path)], outputs, settings, models={}, watch=samples
    )
    row = samples.finish(summary)
    return row | {"ms_decode": ms_decode, "ms_rest": row["ms_rest"] - ms_decode}


def _benchmark(arguments: Namespace) -> None:
    if not arguments.video.is_file():
        raise UserError(f"{arguments.video}: no such file")
    VIDEO_SPEED.publish(arguments, list(_rows(arguments)))


def _rows(arguments: Namespace) -> Iterator[report.Row]:
    pipeline = load_pipeline(arguments.detector, arguments.classifier)
    for size in arguments.size:
        for detect_every in arguments.detect_every:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "looped.mp4"
                loop(arguments.video, size, arguments.seconds, path)
                yield {
                    "detector": pipeline.detector.name,
                    "classifier": pipeline.classifier.name,
                    "size": f"{size[0]}x{size[1]}",
                    "seconds": arguments.seconds,
                    "detect_every": detect_every,
                    **measure(pipeline, path, detect_every, Path(folder)),
                    "cores": len(os.sched_getaffinity(0)),
                    "load_of_the_machine": os.getloadavg()[1],
                }


def _size(text: str) -> tuple[int, int]:
    width, height = (options.positive(side) for side in text.split("x"))
    return width - width % 2, height - height % 2


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("video", type=Path, metavar="VIDEO", help="a video file")
    text = "to repeat it to (default %(default)s)"
    parser.add_argument("--seconds", type=options.positive, default=60, help=text)
    text = "to scale it to (default 640x480 1920x1080)"
    sizes = [(640, 480), (1920, 1080)]
    parser.add_argument("--size", type=_size, nargs="+", default=sizes, metavar="WxH", help=text)
    text = "as of twostage video; several are compared (default 1)"
    parser.add_argument("--detect-every", type=options.positive, nargs="+", default=[1], help=text)
    parser.add_argument("--detector", default="default", metavar="NAME|RUN")
    parser.add_argument("--classifier", default="default", metavar="NAME|RUN")
    options.add_out_option(parser)


main = options.Command(COMMAND, __doc__, _add_options, _benchmark)

if __name__ == "__main__":
    raise SystemExit(main())
