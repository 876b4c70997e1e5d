"""Analysed frames → an annotated video, drawn emoji, and the mood curves as a chart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from faces.command import UserError
from faces.draw import COLOURS
from faces.emotions import EMOTIONS
from faces.files import replacing
from faces.pipeline import Image
from video.analyze import VideoFace, VideoFrame
from video.frames import import_av, open_frames
from video.mood import TrackSummary

if TYPE_CHECKING:
    import av

CLOCK = 90_000
"""Ticks per second of annotated videos: variable frame rates keep their times."""

AUDIO_COPIED = frozenset(("aac", "mp3", "ac3", "eac3", "opus", "alac", "flac"))
"""Sound that an mp4 holds as it is; any other is encoded again, as AAC."""


class Overlay(StrEnum):
    """What an annotated video shows of each face."""

    BOXES = "boxes"
    EMOJI = "emoji"


def draw_frame(image: Image, frame: VideoFrame, overlay: Overlay = Overlay.BOXES) -> Image:
    """Return a copy of a frame's image with its faces and its time.

    Args:
        image: upright, (H, W, 3) uint8 RGB.
        frame: what was found in it.
        overlay: ``BOXES`` draws each face's box, track number, mood and seven bars; ``EMOJI`` lays
            a drawn face with the mood over it.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    canvas = Pillow.fromarray(np.ascontiguousarray(image))
    draw = ImageDraw.Draw(canvas)
    size = max(11, round(canvas.height / 32))
    for face in sorted(frame.faces, key=lambda one: one.face.box.area):
        if overlay is Overlay.EMOJI:
            _lay_emoji(canvas, face)
        else:
            _draw_face(draw, face, size, canvas.size)
    minutes, seconds = divmod(frame.time, 60)
    _write(draw, (size // 3, size // 3), f"{minutes:02.0f}:{seconds:04.1f}", size, "black")
    return np.array(canvas)


def _draw_face(
    draw: ImageDraw.ImageDraw, face: VideoFace, size: int, canvas: tuple[int, int]
) -> None:
    box, colour = face.face.box, COLOURS[face.mood]
    line = max(2, size // 7)
    corners = (box.x1, box.y1, box.x2, box.y2)
    draw.rectangle((*(c - 1 for c in corners[:2]), *(c + 1 for c in corners[2:])), outline="black")
    draw.rectangle(corners, outline=colour, width=line)

    # number and mood above the box, or inside it where there is no room
    number = "" if face.track is None else f"{face.track} "
    text = f"{number}{face.mood} {face.smoothed[face.mood]:.0%}"
    y = box.y1 - 1.4 * size if box.y1 >= 1.4 * size else max(box.y1, 0.0)
    _write(draw, (max(box.x1, 0.0), y), text, size, colour)

    # seven bars beside the box, on the side that has the room
    width = 2.5 * size
    x = box.x2 + line if box.x2 + line + width <= canvas[0] else max(box.x1 - line - width, 0.0)
    height = max(3.0, min(size * 0.6, box.height / len(EMOTIONS)))
    for row, (emotion, share) in enumerate(zip(EMOTIONS, face.smoothed.probabilities, strict=True)):
        top = max(box.y1, 0.0) + row * height
        draw.rectangle((x, top, x + width, top + height - 1), fill=(30, 30, 30))
        if share * width >= 1:
            draw.rectangle((x, top, x + share * width, top + height - 1), fill=COLOURS[emotion])


def _write(
    draw: ImageDraw.ImageDraw,
    corner: tuple[float, float],
    text: str,
    size: int,
    colour: str | tuple[int, int, int],
) -> None:
    font = _font(size)
    width = draw.textlength(text, font=font)
    x, y = corner
    draw.rectangle((x, y, x + width + size * 0.4, y + 1.35 * size), fill=colour)
    dark = colour == "black" or (not isinstance(colour, str) and sum(colour) < 300)
    at = (x + size * 0.2, y + 0.68 * size)
    draw.text(at, text, fill="white" if dark else "black", font=font, anchor="lm")


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _lay_emoji(canvas: Pillow.Image, face: VideoFace) -> None:
    box = face.face.box
    side = max(8, round(1.15 * max(box.width, box.height) / 8) * 8)
    glyph = emoji(face.mood, min(side, 2048))
    x, y = (box.x1 + box.x2 - glyph.width) / 2, (box.y1 + box.y2 - glyph.height) / 2
    canvas.paste(glyph, (round(x), round(y)), glyph)


@lru_cache(maxsize=64)
def emoji(emotion: str, side: int) -> Pillow.Image:
    """Return our own drawing of an emotion, (side, side) RGBA; of the project's licence."""
    scale = 4  # drawn larger and made smaller, for smooth edges
    glyph = Pillow.new("RGBA", (100 * scale, 100 * scale))
    draw = ImageDraw.Draw(glyph)

    def at(*values: float) -> tuple[float, ...]:
        return tuple(scale * value for value in values)

    ink, width = (60, 40, 20, 255), 5 * scale
    skin = {"angry": (240, 110, 80), "disgust": (150, 190, 80), "fear": (170, 190, 240)}
    fill = (*skin.get(emotion, (255, 210, 70)), 255)
    draw.ellipse(at(2, 2, 98, 98), fill=fill, outline=ink, width=3 * scale)

    # eyes
    tall = {"surprise": 9, "fear": 9, "happy": 6}.get(emotion, 7)
    for x in (33, 67):
        draw.ellipse(at(x - 6, 42 - tall, x + 6, 42 + tall), fill=ink)

    # brows: outer end, inner end
    brows = {"angry": (22, 32), "sad": (30, 22), "fear": (28, 20), "surprise": (20, 17)}
    if emotion in brows:
        outer, inner = brows[emotion]
        draw.line(at(22, outer, 43, inner), fill=ink, width=width)
        draw.line(at(78, outer, 57, inner), fill=ink, width=width)

    # mouth
    if emotion == "happy":
        draw.chord(at(24, 40, 76, 86), 0, 180, fill=ink)
        draw.chord(at(34, 62, 66, 86), 0, 180, fill=(230, 90, 90, 255))
    elif emotion in ("sad", "angry"):
        draw.arc(at(28, 64, 72, 100), 200, 340, fill=ink, width=width)
    elif emotion == "surprise":
        draw.ellipse(at(40, 62, 60, 88), fill=ink)
    elif emotion == "fear":
        draw.ellipse(at(32, 66, 68, 82), fill=ink)
        draw.rectangle(at(38, 72, 62, 76), fill=(255, 255, 255, 255))
    elif emotion == "disgust":
        draw.arc(at(28, 64, 72, 96), 200, 340, fill=ink, width=width)
        draw.chord(at(44, 64, 64, 90), 0, 180, fill=(230, 90, 90, 255), outline=ink)
    else:
        draw.line(at(32, 70, 68, 70), fill=ink, width=width)
    return glyph.resize((side, side), Pillow.Resampling.LANCZOS)


class AnnotatedVideo:
    """An open annotated video; H.264 where FFmpeg has an encoder for it, else MPEG-4.

    Frames of another size than the first are scaled to it.
    """

    def __init__(
        self,
        container: av.container.OutputContainer,
        size: tuple[int, int],
        rate: float,
        sound: _Sound | None,
    ) -> None:
        av = import_av()
        self._av, self._container, self._sound = av, container, sound
        stream: Any = container.add_stream(h264_encoder(), Fraction(rate).limit_denominator(1001))
        stream.width, stream.height = size[0] - size[0] % 2 or 2, size[1] - size[1] % 2 or 2
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, CLOCK)
        self._stream = stream
        self._last = -1
        if sound is not None:
            sound.add_to(container)

    def write(self, image: Image, frame: VideoFrame, overlay: Overlay) -> None:
        """Add an image with what was found in ``frame``, at the time of ``frame``."""
        drawn = self._av.VideoFrame.from_ndarray(draw_frame(image, frame, overlay), format="rgb24")
        drawn = drawn.reformat(self._stream.width, self._stream.height, "yuv420p")
        self._last = max(self._last + 1, round(frame.time * CLOCK))
        drawn.pts, drawn.time_base = self._last, Fraction(1, CLOCK)
        if self._sound is not None:
            self._sound.up_to(self._container, frame.time)
        self._container.mux(self._stream.encode(drawn))

    def close(self) -> None:
        """Write what the encoder still holds."""
        self._container.mux(self._stream.encode(None))
        if self._sound is not None:
            self._sound.up_to(self._container, None)


@contextmanager
def open_annotated(
    path: Path, size: tuple[int, int], rate: float, sound_of: str | None = None
) -> Iterator[AnnotatedVideo]:
    """Open an annotated video; it takes its place when the ``with`` block is left.

    Args:
        path: ends in .mp4, .mkv or .mov.
        size: width and height in pixels; odd ones lose a column or row.
        rate: frames per second, on average.
        sound_of: a video whose sound is taken over.

    Raises:
        OSError: it cannot be written.
    """
    av = import_av()
    kind = {".mkv": "matroska"}.get(path.suffix.lower(), path.suffix.lower()[1:])
    options = {} if kind == "matroska" else {"movflags": "+faststart"}
    with replacing(path) as part:
        try:
            with (
                _open_sound(sound_of) as sound,
                av.open(str(part), "w", format=kind, options=options) as container,
            ):
                video = AnnotatedVideo(container, size, rate, sound)
                yield video
                video.close()
        except av.error.FFmpegError as error:
            if isinstance(error, OSError):
                raise
            raise UserError(f"{path}: cannot be encoded: {error.strerror}") from error


class _Sound:
    """The sound of a video, muxed beside the frames; copied, or encoded again as AAC."""

    def __init__(self, container: av.container.InputContainer) -> None:
        self._input = container.streams.audio[0]
        self._start = 0.0
        if container.streams.video:
            video = container.streams.video[0]
            self._start = float((video.start_time or 0) * (video.time_base or 0))
        self._copied = self._input.codec_context.name in AUDIO_COPIED
        self._packets = container.demux(self._input)
        self._waiting: Any = None
        self._output: Any = None

    def add_to(self, container: av.container.OutputContainer) -> None:
        if self._copied:
            self._output = container.add_stream_from_template(self._input)
        else:
            self._output = container.add_stream("aac", self._input.codec_context.sample_rate)

    def up_to(self, container: av.container.OutputContainer, time: float | None) -> None:
        """Mux the packets up to a time in seconds; None is the end."""
        av = import_av()
        while True:
            try:
                packet = self._waiting or next(self._packets, None)
            except av.error.FFmpegError:
                packet = None
            self._waiting = None
            if packet is None:
                return
            if packet.dts is None:
                continue
            at = float(packet.dts * packet.time_base) - self._start
            if time is not None and at > time:
                self._waiting = packet
                return
            self._mux(container, packet, at)

    def _mux(self, container: av.container.OutputContainer, packet: Any, at: float) -> None:
        av = import_av()
        if at < 0:
            return
        if self._copied:
            shift = round(self._start / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            packet.stream = self._output
            container.mux(packet)
            return
        try:
            for samples in packet.decode():
                samples.pts = None
                container.mux(self._output.encode(samples))
        except av.error.InvalidDataError:
            return


@contextmanager
def _open_sound(source: str | None) -> Iterator[_Sound | None]:
    """Open the sound of a video; None where it has none."""
    if source is None or not Path(source).is_file():
        yield None
        return
    with import_av().open(source, metadata_errors="replace") as container:
        yield _Sound(container) if container.streams.audio else None


def h264_encoder() -> str:
    """Return the name of an encoder that FFmpeg has: H.264, or MPEG-4 where there is none."""
    av = import_av()
    for name in ("libx264", "libopenh264", "h264_videotoolbox"):
        if name in av.codecs_available:
            return name
    return "mpeg4"


def annotate_file(
    path: Path, source: str, analysed: Iterator[VideoFrame], overlay: Overlay
) -> None:
    """Write the annotated video of a file or folder, all its frames, with its sound.

    Args:
        path: see ``open_annotated``.
        source: the file or folder; it is decoded once more.
        analysed: its frames as they were analysed, in order. A frame that was not analysed shows
            what the analysed one before it shows.
        overlay: see ``draw_frame``.
    """
    frames = open_frames(source)
    upcoming = next(analysed, None)
    present: VideoFrame | None = None
    sound = source if Path(source).is_file() else None
    images = iter(frames)
    first = next(images, None)
    if first is None:
        return
    height, width = first.image.shape[:2]
    with open_annotated(path, (width, height), frames.rate or 25.0, sound) as video:
        for image in _chain(first, images):
            while upcoming is not None and upcoming.time <= image.time + 1e-6:
                present, upcoming = upcoming, next(analysed, None)
            if upcoming is None and present is not None and present.time < image.time - 5.0:
                break  # the analysis was stopped here
            video.write(image.image, _at(present, image.index, image.time, source), overlay)


def _chain(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def _at(present: VideoFrame | None, index: int, time: float, source: str) -> VideoFrame:
    faces = () if present is None else present.faces
    return VideoFrame(source, index, time, 0.0, 1, 1, False, faces)


def write_chart(path: Path, tracks: Sequence[TrackSummary], end: float) -> None:
    """Draw the mood curves of all tracks: stacked probabilities, the mood as a band below.

    Where a face was not there, its curve has a gap. The 12 longest tracks are shown.

    Args:
        path: of a PNG.
        tracks: any number.
        end: of the video, in seconds.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    shown = sorted(sorted(tracks, key=lambda t: -t.frames)[:12], key=lambda t: t.number)
    figure = Figure(figsize=(10, 1.2 + 1.5 * max(1, len(shown))), layout="constrained")
    FigureCanvasAgg(figure)
    colours = [_fractions(name) for name in EMOTIONS]
    axes = figure.subplots(max(1, len(shown)), 1, sharex=True, squeeze=False)[:, 0]
    for axis, track in zip(axes, shown, strict=False):
        for times, rows in _without_gaps(track):
            axis.stackplot(times, rows.T, colors=colours, linewidth=0)
        changes = [*track.changes]
        for change, following in zip(changes, [*changes[1:], None], strict=True):
            until = track.last if following is None else following.time
            axis.broken_barh([(change.time, max(until - change.time, 0.01))], (-0.22, 0.18),
                             color=_fractions(change.mood))  # fmt: skip
            if until - change.time > 0.06 * max(end, 1e-9):
                axis.text((change.time + until) / 2, -0.13, change.mood, ha="center", va="center",
                          fontsize=7)  # fmt: skip
        axis.set(ylim=(-0.25, 1), yticks=(0, 1), ylabel=f"face {track.number}")
    if not shown:
        axes[0].text(0.5, 0.5, "no face was followed", ha="center", transform=axes[0].transAxes)
    axes[-1].set(xlim=(0, max(end, 0.1)), xlabel="time (seconds)")
    keys = [Patch(color=c, label=name) for c, name in zip(colours, EMOTIONS, strict=True)]
    figure.legend(handles=keys, loc="outside upper center", ncols=len(EMOTIONS), frameon=False)
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=120)


def _fractions(emotion: str) -> tuple[float, float, float]:
    red, green, blue = COLOURS[emotion]
    return red / 255, green / 255, blue / 255


def _without_gaps(track: TrackSummary) -> Iterator[tuple[Any, Any]]:
    """Yield the stretches of a curve, times (N,) and probabilities (N, 7), without its gaps."""
    times, rows = track.curve.points()
    if len(times) == 0:
        return
    steps = np.diff(times)
    gap = max(3 * track.curve.width, 3 * float(np.median(steps)) if len(steps) else 0.0)
    for part in np.split(np.arange(len(times)), np.flatnonzero(steps > gap) + 1):
        if len(part) == 1:  # a stretch of one point is as wide as its bin
            at, half = times[part[0]], track.curve.width / 2
            yield np.array([at - half, at + half]), np.repeat(rows[part], 2, axis=0)
        else:
            yield times[part], rows[part]
