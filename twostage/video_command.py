"""``twostage video SOURCE…``: follow faces through videos and say how their emotions change."""

from __future__ import annotations

import argparse
import importlib
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabulate import tabulate
from tqdm import tqdm

from faces.command import UserError, note, number_for
from faces.pipeline import Pipeline
from faces.scope import add_scope_options
from faces.types import DEFAULT_THRESHOLD
from twostage import load_pipeline

if TYPE_CHECKING:
    from video.analyze import VideoFrame
    from video.job import VideoSummary

COMMAND = "twostage video"


def analyze_videos(args: argparse.Namespace) -> int:
    """Run ``twostage video``; returns the exit status.

    1 if a part of a video could not be read, 2 if nothing of any could.
    """
    from twostage.cli import parse_threshold

    if args.show:
        commands = importlib.import_module("service.commands")
        return int(commands.show(args, parse_threshold(args.threshold)))
    from video.analyze import VideoOptions
    from video.frames import import_av
    from video.job import Outputs, analyze_sources
    from video.render import Overlay

    # what cannot be asked for is refused before anything is loaded
    threshold = parse_threshold(args.threshold)
    outputs = Outputs(args.out, args.annotated, args.chart, Overlay(args.overlay), threshold)
    if not (args.out or args.annotated or args.chart):
        raise UserError("nothing to write; give --out, --annotated or --chart")
    import_av()
    every = args.every if args.fps is None else 1 / args.fps
    options = VideoOptions(every=every, detect_every=args.detect_every)
    names = ("detector", "classifier", "detail", "min_face")
    models = {name: str(getattr(args, name)) for name in names}

    @cache
    def pipeline() -> Pipeline:
        return load_pipeline(
            args.detector,
            args.classifier,
            device=args.device,
            detail=args.detail,
            min_face=args.min_face,
        )

    status, failed = 0, 0
    with tqdm(unit="s", desc="analysing", disable=None, leave=False, bar_format=BAR) as bar:
        for summary in analyze_sources(
            pipeline, args.sources, outputs, options, models=models, watch=_Progress(bar)
        ):
            for line in [summary.failed] if summary.failed else summary.problems:
                bar.clear()
                note(COMMAND, line)
                status = 1
            failed += bool(summary.failed)
            if not summary.failed:
                bar.write(describe(summary) + "\n", file=sys.stdout)
    for path in (outputs.table, outputs.annotated, outputs.chart):
        if path is not None and len(args.sources) == 1:
            print(f"wrote {path}")
    return 2 if failed == len(args.sources) else status


BAR = "{desc} {percentage:3.0f}% |{bar}| {n:.1f}/{total:.1f} s [{elapsed}<{remaining}{postfix}]"


_positive = number_for("a number above 0", lambda x: 0 < x < 1e6)
_count = number_for("a whole number from 1 to 100", lambda x: 1 <= x <= 100, int)


class _Progress:
    """Moves the bar with the video's time."""

    def __init__(self, bar: tqdm[Any]) -> None:
        self._bar = bar

    def __call__(self, frame: VideoFrame, summary: VideoSummary, length: float | None) -> None:
        bar = self._bar
        if summary.frames == 1:
            bar.reset(total=length or 0.0)
            bar.set_description_str(frame.source[-40:])
        bar.n = frame.time
        bar.set_postfix_str(f" {len(summary.tracks)} tracks", refresh=False)
        bar.update(0)


def describe(summary: VideoSummary) -> str:
    """Return a video's line and its table of tracks, as the terminal shows them."""
    new = summary.frames - summary.noted
    rate = new / summary.seconds["all"] if summary.seconds["all"] else 0.0
    lines = [
        f"{summary.source}: {summary.end:.1f} s, {summary.frames} frames"
        + (f" ({summary.noted} of them noted before)" if summary.noted else "")
        + (f", {summary.dropped} dropped" if summary.dropped else "")
        + f", {summary.faces} faces, {len(summary.tracks)} tracks, {rate:.1f} frames/s"
    ]
    rows = []
    for track in summary.tracks.values():
        shares = sorted(track.shares().items(), key=lambda item: -item[1])
        moods = ", ".join(f"{name} {share:.0%}" for name, share in shares[:3] if share >= 0.05)
        span = f"{track.first:.1f} – {track.last:.1f}"
        rows.append((track.number, span, track.frames, moods, len(track.changes) - 1))
    if rows:
        heads = ("track", "seconds", "frames", "moods", "changes")
        lines.append(tabulate(rows, headers=heads, disable_numparse=True))
    return "\n".join(lines)


def add_video_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser of ``twostage``."""
    command = commands.add_parser(
        "video",
        help="analyse videos, cameras and streams",
        description="Follow the faces of videos and say how their emotions change. Needs the extra "
        "video: make setup EXTRAS=video",
    )
    command.add_argument(
        "sources", nargs="+", metavar="SOURCE",
        help="video files, animated GIFs, folders of frames, camera:0, or rtsp:// and http:// "
        "addresses",
    )  # fmt: skip
    command.add_argument(
        "--out", type=Path, metavar="FILE",
        help="write a row per face and frame; by extension: .jsonl, .csv, .parquet; the tracks go "
        "to a second table, FILE's name with .tracks before its extension",
    )  # fmt: skip
    command.add_argument(
        "--annotated", type=Path, metavar="FILE.mp4", help="write the video with its faces marked"
    )
    command.add_argument(
        "--chart", type=Path, metavar="FILE.png", help="draw each face's emotions over time"
    )
    command.add_argument(
        "--show", action="store_true",
        help="show a camera or a video file live on a local page instead: its faces, and their "
        "emotions as they change; save from the page. Needs the extra service",
    )  # fmt: skip
    rate = command.add_mutually_exclusive_group()
    rate.add_argument(
        "--every", type=_positive, metavar="SECONDS", help="analyse a frame every so many seconds"
    )
    rate.add_argument("--fps", type=_positive, metavar="N", help="analyse N frames per second")
    command.add_argument(
        "--detect-every", type=_count, default=1, metavar="N",
        help="look for faces in every N-th analysed frame only, and predict between (default 1)",
    )  # fmt: skip
    command.add_argument(
        "--overlay", choices=("boxes", "emoji"), default="boxes",
        help="what --annotated draws: boxes with labels, or an emoji over each face",
    )  # fmt: skip
    command.add_argument("--detector", default="default", metavar="NAME|RUN", help="see analyze")
    command.add_argument("--classifier", default="default", metavar="NAME|RUN", help="see analyze")
    command.add_argument(
        "--threshold", nargs="+", default=[], metavar="T",
        help=f"see analyze (default {DEFAULT_THRESHOLD})",
    )  # fmt: skip
    command.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1 (default: a GPU if any)")
    add_scope_options(command)
    command.set_defaults(run=analyze_videos)
