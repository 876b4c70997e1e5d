"""Videos → tables, annotated videos, charts: what ``twostage video`` does."""

from __future__ import annotations

import glob
import io
import time as clock
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image as Pillow

from faces.command import UserError
from faces.crops import crop_face
from faces.pipeline import Image, Pipeline
from faces.types import DEFAULT_THRESHOLD, Box
from video.analyze import (
    Follower,
    Settler,
    VideoFrame,
    VideoOptions,
    look_at,
    settled,
    tracking_options,
)
from video.frames import Frames, open_frames
from video.mood import TrackSummary
from video.notes import Notes, read_looks
from video.render import Overlay, annotate_file, open_annotated, write_chart
from video.tables import (
    ROW_COLUMNS,
    TRACK_COLUMNS,
    TableWriter,
    Threshold,
    check_table_path,
    face_rows,
    open_table,
    track_row,
    tracks_path,
)

CROP_SIDE = 128
"""Longer side in pixels of the crops in the table of tracks."""

BETTER = 1.15
"""A crop replaces the best one if it is better by this factor."""


@dataclass(frozen=True)
class Outputs:
    """Where results go.

    Attributes:
        table: of faces; None writes none. The table of tracks stands beside it.
        annotated: the annotated video; None makes none.
        chart: the mood curves as PNG; None draws none.
        overlay: what the annotated video shows.
        threshold: from which probability on an emotion is a label.
    """

    table: Path | None = None
    annotated: Path | None = None
    chart: Path | None = None
    overlay: Overlay = Overlay.BOXES
    threshold: Threshold = DEFAULT_THRESHOLD

    def of(self, number: int, count: int) -> Outputs:
        """Return the outputs of the n-th of several sources: pictures get its number."""
        if count == 1:
            return self

        def numbered(path: Path | None) -> Path | None:
            return path and path.with_name(f"{path.stem}-{number}{path.suffix}")

        return Outputs(
            self.table,
            numbered(self.annotated),
            numbered(self.chart),
            self.overlay,
            self.threshold,
        )

    def check(self) -> None:
        """Make the folders.

        Raises:
            UserError: a file cannot be written there.
        """
        if self.table is not None:
            check_table_path(self.table)
        for path, endings in ((self.annotated, (".mp4", ".mkv", ".mov")), (self.chart, (".png",))):
            if path is None:
                continue
            if path.suffix.lower() not in endings:
                raise UserError(f"{path}: end it in {' or '.join(endings)}")
            if path.is_dir():
                raise UserError(f"{path}: is a folder; name a file in it")
            path.parent.mkdir(parents=True, exist_ok=True)


@dataclass
class VideoSummary:
    """What the analysis of a source came to.

    Attributes:
        source: as the user named it.
        frames: analysed, those from the notes included.
        noted: frames that were in the notes.
        faces: rows.
        tracks: by number.
        end: time of the last frame, in seconds.
        problems: what could not be read.
        failed: why nothing could be read, where other sources went on; else "".
        dropped: frames of a live source that came too fast.
        seconds: time spent per stage: ``detect``, ``classify``, ``all``.
    """

    source: str
    frames: int = 0
    noted: int = 0
    faces: int = 0
    tracks: dict[int, TrackSummary] = field(default_factory=dict)
    end: float = 0.0
    problems: list[str] = field(default_factory=list)
    failed: str = ""
    dropped: int = 0
    seconds: dict[str, float] = field(
        default_factory=lambda: {"detect": 0.0, "classify": 0.0, "all": 0.0}
    )


Watch = Callable[[VideoFrame, VideoSummary, float | None], None]
"""Told of each frame: the frame, the summary so far, the length in seconds if known."""


def analyze_sources(
    pipeline: Callable[[], Pipeline],
    sources: Sequence[str],
    outputs: Outputs,
    options: VideoOptions,
    *,
    models: Mapping[str, str],
    watch: Watch | None = None,
) -> Iterator[VideoSummary]:
    """Analyse videos one after the other; yield what each came to.

    With a table, every frame is noted in ``TABLE.notes`` until all is finished: the same call goes
    on from there. Ctrl-C ends the tables with what is there, and keeps the notes.

    Args:
        pipeline: loads both stages; called when the first frame needs them.
        sources: see ``video.frames.open_frames``.
        outputs: where results go.
        options: how the videos are analysed.
        models: names and settings that the answers depend on, for the notes.
        watch: is told of every frame.

    Raises:
        UserError: the only source cannot be read, or an output not be written.
        OSError: writing failed.
    """
    outputs.check()
    path = outputs.table or outputs.annotated
    stopped = False
    with ExitStack() as stack:
        notes = rows = tracks = None
        if path is not None:
            _remove_leftovers(outputs, path)
            notes = stack.enter_context(Notes(notes_path(path)))
        if outputs.table is not None:
            rows = stack.enter_context(open_table(outputs.table, ROW_COLUMNS))
            tracks = stack.enter_context(open_table(tracks_path(outputs.table), TRACK_COLUMNS))
        for number, source in enumerate(sources, start=1):
            own = outputs.of(number, len(sources))
            job = _Job(pipeline, source, own, options, models, watch)
            summary = job.summary
            try:
                stopped = job.run(notes, rows)
            except UserError as error:
                if len(sources) == 1:
                    raise
                summary.failed = str(error)
            if tracks is not None:
                tracks.write([track_row(source, track) for track in summary.tracks.values()])
            if not summary.failed:
                job.draw(notes)
            yield summary
            if stopped:
                break
    if stopped:
        raise KeyboardInterrupt
    if path is not None:
        notes_path(path).unlink(missing_ok=True)


def _remove_leftovers(outputs: Outputs, noted: Path) -> None:
    """Remove the unfinished files of an analysis that was killed: its notes are there."""
    if not notes_path(noted).exists():
        return
    tables = () if outputs.table is None else (outputs.table, tracks_path(outputs.table))
    for path in filter(None, (*tables, outputs.annotated)):
        for part in path.parent.glob(f"{glob.escape(path.name)}.????????.part"):
            part.unlink(missing_ok=True)


def notes_path(table: Path) -> Path:
    """Return where the notes on a table's videos stand until it is finished."""
    return table.with_name(f"{table.name}.notes")


class _Job:
    """The analysis of one source."""

    def __init__(
        self,
        pipeline: Callable[[], Pipeline],
        source: str,
        outputs: Outputs,
        options: VideoOptions,
        models: Mapping[str, str],
        watch: Watch | None,
    ) -> None:
        self._load, self._source, self._outputs = pipeline, source, outputs
        self._options, self._watch = options, watch
        self._about = _about(source, options, models)
        self._live = False
        self._settler = Settler(options.smoothing)
        self._crops: dict[int, Mapping[int, bytes]] = {}
        self._best: dict[int | None, float] = {}
        """Track → quality of its best crop so far."""
        self.summary = VideoSummary(source)

    def run(self, notes: Notes | None, rows: TableWriter | None) -> bool:
        """Analyse the source, from the notes as far as they go; tells whether it was stopped."""
        frames = open_frames(self._source, self._options.every)
        self._live = frames.live
        pipeline = self._load()
        follower = self._follower(pipeline)
        start = clock.perf_counter()
        try:
            last, noted = None, 0
            if notes is not None:
                notes.begin(self._about, again=frames.live)
                for last in notes.looks():
                    self._take(follower.take(last), rows, frames.seconds, last.crops)
                    noted += 1
                if notes.ended is not None:
                    self._finish(rows, frames.seconds)
                    self.summary.noted = noted
                    self.summary.problems = notes.ended
                    return False
                self.summary.noted = noted
            if last is not None:
                after = (last.index, last.time)
                frames = open_frames(self._source, self._options.every, after)
            return self._look(pipeline, frames, follower, notes, rows)
        except KeyboardInterrupt:
            return True
        finally:
            self.summary.seconds["all"] = clock.perf_counter() - start

    def _look(
        self,
        pipeline: Pipeline,
        frames: Frames,
        follower: Follower,
        notes: Notes | None,
        rows: TableWriter | None,
    ) -> bool:
        """Analyse what the notes do not have; tells whether it was stopped."""
        resumed = self.summary.noted or None
        summary, video = self.summary, None
        with ExitStack() as stack:
            try:
                for look in look_at(pipeline, frames, self._options, resumed):
                    frame = follower.take(look)
                    crops = self._better_crops(frame)
                    if notes is not None:
                        notes.add(look, crops)
                    summary.dropped = frames.dropped
                    summary.seconds["detect"] += look.seconds[0]
                    summary.seconds["classify"] += look.seconds[1]
                    self._take(frame, rows, frames.seconds, crops)
                    # what comes only once is annotated as it comes
                    if self._outputs.annotated and frames.live and frame.image is not None:
                        if video is None:
                            size, rate = (frame.width, frame.height), frames.rate or 25.0
                            opened = open_annotated(self._outputs.annotated, size, rate)
                            video = stack.enter_context(opened)
                        video.write(frame.image, frame, self._outputs.overlay)
            except KeyboardInterrupt:
                self._finish(rows, frames.seconds)
                return True  # in here, so that the annotated video is finished
        self._finish(rows, frames.seconds)
        summary.problems = frames.problems
        if notes is not None:
            notes.end(frames.problems)
        return False

    def _follower(self, pipeline: Pipeline) -> Follower:
        tracking = tracking_options(pipeline, self._options)
        return Follower(self._source, tracking, self._options.smoothing)

    def _take(
        self,
        frame: VideoFrame,
        rows: TableWriter | None,
        length: float | None,
        crops: Mapping[int, bytes],
    ) -> None:
        """Take in a frame and its better crops, and count the frames that are settled now."""
        for index in crops:
            one = frame.faces[index]
            self._best[one.track] = crop_quality(frame, one.face.box)
        if self._live:
            self._count(frame, rows, length, crops)
            return
        self._crops[frame.index] = crops
        for ready in self._settler.take(replace(frame, image=None)):
            self._count(ready, rows, length, self._crops.pop(ready.index))

    def _finish(self, rows: TableWriter | None, length: float | None) -> None:
        for ready in self._settler.finish():
            self._count(ready, rows, length, self._crops.pop(ready.index))

    def _count(
        self,
        frame: VideoFrame,
        rows: TableWriter | None,
        length: float | None,
        crops: Mapping[int, bytes],
    ) -> None:
        """Take a frame into the tables and the summary."""
        summary = self.summary
        for index, one in enumerate(frame.faces):
            if one.track is None:
                continue
            track = summary.tracks.setdefault(one.track, TrackSummary(one.track, frame.time))
            track.add(frame.time, frame.passed, one.smoothed, one.mood)
            if index in crops:
                track.best_crop, track.best_score = crops[index], crop_quality(frame, one.face.box)
                track.best_frame, track.best_time = frame.index, frame.time
        summary.frames += 1
        summary.faces += len(frame.faces)
        summary.end = frame.time
        if rows is not None:
            rows.write(face_rows(frame, self._outputs.threshold))
        if self._watch is not None:
            self._watch(frame, summary, length)

    def _better_crops(self, frame: VideoFrame) -> dict[int, bytes]:
        """Return the faces whose crop is the best of their track so far: index → JPEG."""
        found = {}
        for index, one in enumerate(frame.faces):
            if one.track is None:
                continue
            best = self._best.get(one.track, 0.0)
            if frame.image is not None and crop_quality(frame, one.face.box) > BETTER * best:
                found[index] = _jpeg(crop_face(frame.image, one.face.box, 0.15))
        return found

    def draw(self, notes: Notes | None) -> None:
        """Draw the chart, and the annotated video of what can be read again."""
        outputs = self._outputs
        if outputs.chart is not None:
            write_chart(outputs.chart, list(self.summary.tracks.values()), self.summary.end)
        if outputs.annotated is not None and not self._live and notes is not None:
            follower = self._follower(self._load())
            found = (follower.take(look) for look in read_looks(notes.path, self._about))
            analysed = settled(found, self._options.smoothing)
            annotate_file(outputs.annotated, self._source, analysed, outputs.overlay)


def crop_quality(frame: VideoFrame, box: Box) -> float:
    """Return how good a face's crop is: the part of its area that the frame shows, in pixels."""
    return box.intersection(Box(0, 0, frame.width, frame.height))


def _jpeg(crop: Image) -> bytes:
    small = Pillow.fromarray(crop)
    small.thumbnail((CROP_SIDE, CROP_SIDE))
    file = io.BytesIO()
    small.save(file, format="jpeg", quality=85)
    return file.getvalue()


def _about(source: str, options: VideoOptions, models: Mapping[str, str]) -> dict[str, Any]:
    """Return what the notes on a source depend on."""
    about: dict[str, Any] = {"source": source, "models": dict(models)}
    path = Path(source)
    if path.exists():
        stat = path.stat()
        about |= {"bytes": stat.st_size, "changed": stat.st_mtime_ns}
    settings = asdict(options)
    del settings["smoothing"]
    return about | {"options": settings}
