"""A video file, an animated GIF, a folder of frames, a camera or a stream → upright frames.

What can be decoded is yielded; what cannot is counted and told at the end (``Frames.problems``).
"""

from __future__ import annotations

import math
import os
import re
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from faces.command import UserError
from faces.files import regular_file
from faces.images import ImageError, read_image
from faces.paths import IMAGE_SUFFIXES
from faces.pipeline import Image

if TYPE_CHECKING:
    import av

STALL_SECONDS = 10.0
"""A camera or stream that gives no frame for so long has stalled."""

FOLDER_RATE = 25.0
"""Frames per second of a folder of frames, which says nothing of time."""

_CAMERA = re.compile(r"camera:(\d+)")
_STREAM = re.compile(r"(?:rtsps?|https?|rtmps?|udp|tcp|srt)://.+", re.IGNORECASE)
_CAMERA_INPUTS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}")}


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a source.

    Attributes:
        index: among all frames of the source, from 0, also those that were passed over.
        time: seconds since the source's first frame.
        image: upright, (H, W, 3) uint8 RGB.
    """

    index: int
    time: float
    image: Image


class Frames(ABC):
    """The frames of one source, to iterate over once.

    Attributes:
        name: the source, as the user named it.
        live: frames come when they come; it cannot be read again.
        rate: frames per second, on average; None if unknown.
        seconds: length; None if unknown.
        problems: what could not be read, one line each; complete after the last frame.
        dropped: frames that a live source gave while the last one was still being analysed.
    """

    def __init__(self, name: str, *, live: bool = False) -> None:
        self.name = name
        self.live = live
        self.rate: float | None = None
        self.seconds: float | None = None
        self.problems: list[str] = []
        self.dropped = 0

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]: ...


def import_av() -> Any:
    """Import PyAV.

    Raises:
        UserError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise UserError(
            "videos need PyAV; run `make setup EXTRAS=video`, or: pip install av"
        ) from error
    av.logging.set_level(av.logging.PANIC)
    return av


def open_frames(
    source: str | os.PathLike[str],
    every: float | None = None,
    after: tuple[int, float] | None = None,
    stall: float = STALL_SECONDS,
) -> Frames:
    """Open a source.

    Args:
        source: a video file, an animated GIF, a folder of frames, ``camera:0``, or the address of
            a stream (``rtsp://…``, ``http://…``).
        every: take the first frame of each interval of so many seconds; None takes all frames.
        after: index and time of a frame that was taken before, to go on from: it comes first. For
            files and folders.
        stall: seconds after which a camera or stream has stalled.

    Raises:
        UserError: there is no such source, or it cannot be read as a video.
    """
    name = os.fspath(source)
    if camera := _CAMERA.fullmatch(name):
        return _camera(name, camera[1], every, stall)
    if _STREAM.fullmatch(name):
        return _stream(name, every, after, stall)
    path = Path(name)
    if path.is_dir():
        return FolderFrames(path, every, after)
    if not path.exists():
        raise UserError(f"{name}: no such file or folder; nor is it camera:0 or an address")
    return VideoFrames(name, _open(name, os.fspath(regular_file(path))), every, after)


class FolderFrames(Frames):
    """The images of a folder, in the order of their names, where 2 comes before 10."""

    def __init__(self, folder: Path, every: float | None, after: tuple[int, float] | None) -> None:
        super().__init__(str(folder))
        self._paths = sorted(
            (path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES),
            key=lambda path: [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", path.name)],
        )
        if not self._paths:
            raise UserError(f"{folder}: holds no images, so it is no folder of frames")
        self.rate, self.seconds = FOLDER_RATE, len(self._paths) / FOLDER_RATE
        self._due = _Due(every, after)

    def __iter__(self) -> Iterator[Frame]:
        read = 0
        for index, path in enumerate(self._paths):
            time = index / FOLDER_RATE
            if not self._due(time):
                continue
            try:
                yield Frame(index, time, read_image(path))
                read += 1
            except ImageError as error:
                self.problems.append(str(error))
        if not read and self._due.after is None:
            raise UserError(f"{self.name}: none of its {len(self._paths)} images can be read")


class VideoFrames(Frames):
    """The frames of an opened container, decoded by PyAV.

    Rotation in the file's metadata is applied. Times are the file's own, so variable frame rates
    are kept; a frame without a time follows its predecessor at the average rate.
    """

    def __init__(
        self,
        name: str,
        container: av.container.InputContainer,
        every: float | None,
        after: tuple[int, float] | None = None,
        *,
        live: bool = False,
    ) -> None:
        super().__init__(name, live=live)
        self._container = container
        if not container.streams.video:
            container.close()
            raise UserError(f"{name}: holds no video stream")
        self._stream = container.streams.video[0]
        self._stream.thread_type = "AUTO"
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.rate = float(rate) if rate else None
        if self._stream.duration and self._stream.time_base:
            self.seconds = float(self._stream.duration * self._stream.time_base)
        elif container.duration:
            self.seconds = container.duration / 1e6
        self._expected = self._stream.frames
        self._due = _Due(every, after)
        self._broken = 0

    def __iter__(self) -> Iterator[Frame]:
        decoded, index = 0, -1
        with self._container:
            start = float((self._stream.start_time or 0) * (self._stream.time_base or 0))
            step = 1 / self.rate if self.rate else 1 / FOLDER_RATE
            last = -step
            after = self._due.after
            if after is not None:
                self._seek(start + after[1])
            for frame in self._decode():
                decoded += 1
                given: float | None = frame.time
                time = last + step if given is None else given - start
                time = max(time, 0.0 if last < 0 else last + step / 100)  # times may go back
                last, index = time, index + 1
                if after is not None and time >= after[1] - 1e-9:
                    index, after = after[0], None
                if self._due(time):
                    yield Frame(index, time, upright(frame))
        self._tell(decoded, last + 2 * step)
        if not decoded and self._due.after is None:
            raise UserError(f"{self.name}: not one of its frames can be decoded")

    def _seek(self, seconds: float) -> None:
        """Go to the last key frame before a time; where that fails, all is decoded again."""
        if self._stream.time_base is not None:
            with suppress(OSError, import_av().error.FFmpegError):
                self._container.seek(int(seconds / self._stream.time_base), stream=self._stream)

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Yield what can be decoded; a broken packet is counted, a broken end told."""
        av = import_av()
        try:
            for packet in self._container.demux(self._stream):
                try:
                    yield from packet.decode()
                except av.error.InvalidDataError:
                    self._broken += 1
                except av.error.EOFError:
                    return
        except av.error.ExitError:
            self.problems.append(f"{self.name}: stalled: no frame came in time")
        except av.error.EOFError:
            return
        except OSError as error:
            self.problems.append(f"{self.name}: reading broke off: {_cause(error)}")
        except av.error.FFmpegError as error:
            self.problems.append(f"{self.name}: reading broke off: {_cause(error)}")

    def _tell(self, decoded: int, end: float) -> None:
        if self._broken:
            self.problems.append(f"{self.name}: {self._broken} broken packets were passed over")
        # a file may hold frames that it hides, at its start for instance: only a missing end counts
        if self._expected > decoded > 0 and end < (self.seconds or 0.0) and not self.problems:
            whole = f"{end:.1f} of {self.seconds:.1f} seconds"
            self.problems.append(f"{self.name}: only {whole} can be decoded; is the file cut off?")


class LatestFrames(Frames):
    """The newest frame of a live source at any time; those that came meanwhile are dropped.

    A thread of its own reads the source, so that answers never lag behind a queue.
    """

    def __init__(self, frames: Frames, stall: float) -> None:
        super().__init__(frames.name, live=True)
        self.rate = frames.rate
        self._frames = frames
        self._stall = stall
        self._changed = threading.Condition()
        self._newest: Frame | None = None
        self._ended = False
        self._error: BaseException | None = None

    def __iter__(self) -> Iterator[Frame]:
        threading.Thread(target=self._read, name=f"read {self.name}", daemon=True).start()
        try:
            while (frame := self._next()) is not None:
                yield frame
        finally:
            with self._changed:
                self._ended = True  # the thread stops at its next frame
        if isinstance(self._error, UserError):
            raise self._error
        self.problems += self._frames.problems

    def _next(self) -> Frame | None:
        with self._changed:
            came = self._changed.wait_for(lambda: self._newest or self._ended, self._stall)
            if not came:
                self.problems.append(f"{self.name}: stalled: no frame for {self._stall:g} seconds")
            frame, self._newest = self._newest, None
            return frame

    def _read(self) -> None:
        try:
            for frame in self._frames:
                with self._changed:
                    if self._ended:
                        return
                    self.dropped += self._newest is not None
                    self._newest = frame
                    self._changed.notify()
        except Exception as error:  # told by the thread that iterates
            self._error = error
            if not isinstance(error, UserError):
                self.problems.append(f"{self.name}: reading broke off: {error}")
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()


class _Due:
    """Tells which frames to take: the first one in each interval of ``every`` seconds.

    Attributes:
        after: index and time of the frame to go on from; it is taken again.
    """

    SLACK = 5e-4
    """Seconds by which times may be rounded in files."""

    def __init__(self, every: float | None, after: tuple[int, float] | None) -> None:
        self._every = every
        self._next = -1.0
        self.after = after

    def __call__(self, time: float) -> bool:
        if self.after is not None and time < self.after[1] - 1e-9:
            return False
        if self._every is None:
            return True
        if time < self._next - self.SLACK:
            return False
        self._next = (math.floor((time + self.SLACK) / self._every) + 1) * self._every
        return True


def upright(frame: av.VideoFrame) -> Image:
    """Return a decoded frame as the viewer sees it, (H, W, 3) uint8 RGB."""
    image = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4  # counterclockwise, as np.rot90 turns
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else np.asarray(image, np.uint8)


def _camera(name: str, number: str, every: float | None, stall: float) -> Frames:
    if sys.platform not in _CAMERA_INPUTS:
        raise UserError(f"{name}: cameras are read on Linux and macOS only")
    kind, pattern = _CAMERA_INPUTS[sys.platform]
    device = pattern.format(number)
    if sys.platform == "linux" and not Path(device).exists():
        raise UserError(f"{name}: there is no camera {device}")
    container = _open(name, device, format=kind)
    return LatestFrames(VideoFrames(name, container, every, live=True), stall)


def _stream(
    name: str, every: float | None, after: tuple[int, float] | None, stall: float
) -> Frames:
    options = {"rtsp_transport": "tcp"} if name.lower().startswith("rtsp") else {}
    container = _open(name, name, timeout=(stall, stall), options=options)
    if container.duration:  # a file behind an address, which waits for who reads it
        return VideoFrames(name, container, every, after)
    return LatestFrames(VideoFrames(name, container, every, live=True), stall)


def _open(name: str, target: str, **options: Any) -> Any:
    av = import_av()
    try:
        return av.open(target, metadata_errors="replace", **options)
    except av.error.InvalidDataError as error:
        raise UserError(
            f"{name}: cannot be read as a video; is it one, and is the file complete?"
        ) from error
    except av.error.ExitError as error:
        raise UserError(f"{name}: does not answer") from error
    except (av.error.FFmpegError, OSError) as error:
        raise UserError(f"{name}: cannot be opened: {_cause(error)}") from error


def _cause(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
