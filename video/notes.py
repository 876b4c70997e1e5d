"""What the networks said about each frame, noted on disk as it comes, to go on from.

A notes file has one JSON object a line: ``{"begin": …}`` with how a source is analysed, then one
object per frame, then ``{"end": …}``. A line that is not whole is cut off. An analysis reads what
is noted and appends the rest, so that memory stays flat and a crash loses one frame.
"""

from __future__ import annotations

import base64
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from faces.emotions import EMOTIONS
from faces.pipeline import Image
from faces.types import Box, Detection
from video.analyze import LiveLook
from video.looks import Looks


class NotedLook:
    """A frame as it was noted; see ``video.analyze.Look``."""

    def __init__(self, note: dict[str, Any]) -> None:
        self.image: Image | None = None
        self.index: int = note["frame"]
        self.time: float = note["time"]
        self.width: int = note["size"][0]
        self.height: int = note["size"][1]
        self.cut: bool = note["cut"]
        found = note["detections"]
        self.detections: list[Detection] | None = (
            None if found is None else [Detection(Box(*one[:4]), one[4]) for one in found]
        )
        self.crops = {int(key): base64.b64decode(text) for key, text in note["crops"].items()}
        self._rows = np.array(note["probabilities"], np.float64).reshape(-1, len(EMOTIONS))
        packed = zlib.decompress(base64.b64decode(note["looks"]))
        count = len(self.detections or ())
        self.looks: Looks = np.frombuffer(packed, np.uint8).reshape(count, -1 if count else 0)

    def classify(self, boxes: Sequence[Box]) -> NDArray[np.float32]:
        """Return the probabilities that were noted."""
        if len(boxes) != len(self._rows):
            raise ValueError(f"{len(self._rows)} faces were noted, not {len(boxes)}")
        return self._rows.astype(np.float32)


class Notes:
    """A notes file, to be read to its end and then written on; a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ended: list[str] | None = None

    def __enter__(self) -> Self:
        self.path.touch()
        self._file = open(self.path, "r+b", buffering=0)
        self._reader = open(self.path, "rb")
        self._end = 0
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._reader.close()
        self._file.close()

    def begin(self, about: dict[str, Any], *, again: bool = False) -> bool:
        """Begin the next source; tells whether notes on it are there.

        Notes on anything else are cut off, here and behind.

        Args:
            about: what the source is and how it is analysed.
            again: begin it from the start, whatever is noted.
        """
        self.ended = None
        if not again and (peeked := self._peek()) and peeked[0].get("begin") == about:
            self._end = peeked[1]
            return True
        self._file.truncate(self._end)
        self._append({"begin": about})
        return False

    def looks(self) -> Iterator[NotedLook]:
        """Yield the noted frames of the present source; what follows them is cut off.

        Unless it is the source's end: then ``ended`` holds its problems.
        """
        while (peeked := self._peek()) and "frame" in peeked[0]:
            look = NotedLook(peeked[0])
            self._end = peeked[1]
            yield look
        if peeked and "end" in peeked[0]:
            self.ended, self._end = peeked[0]["end"], peeked[1]
        else:
            self._file.truncate(self._end)

    def add(self, look: LiveLook, crops: dict[int, bytes]) -> None:
        """Note a frame, and the crops of some of its faces as JPEG."""
        found = look.detections
        self._append(
            {
                "frame": look.index,
                "time": look.time,
                "size": [look.width, look.height],
                "cut": look.cut,
                "detections": None
                if found is None
                else [[*map(float, d.box.as_tuple()), float(d.score)] for d in found],
                "probabilities": look.rows.tolist(),
                "looks": base64.b64encode(zlib.compress(look.looks.tobytes())).decode(),
                "crops": {str(k): base64.b64encode(jpeg).decode() for k, jpeg in crops.items()},
            }
        )

    def end(self, problems: Sequence[str]) -> None:
        """Note that the present source is finished."""
        self._append({"end": list(problems)})

    def _peek(self) -> tuple[dict[str, Any], int] | None:
        """Return the next whole line and where it ends."""
        self._reader.seek(self._end)
        line = self._reader.readline()
        try:
            note = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            return None
        return (note, self._end + len(line)) if isinstance(note, dict) else None

    def _append(self, note: dict[str, Any]) -> None:
        line = json.dumps(note, allow_nan=False).encode() + b"\n"
        self._file.seek(self._end)
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._file.truncate(self._end)
            error.filename = os.fspath(self.path)
            raise
        self._end += len(line)


def read_looks(path: Path, about: dict[str, Any]) -> Iterator[NotedLook]:
    """Yield the noted frames of one source of a notes file."""
    with open(path, "rb") as file:
        inside = False
        for line in file:
            try:
                note = json.loads(line)
            except ValueError:
                return
            if "begin" in note:
                inside = note["begin"] == about
            elif inside and "frame" in note:
                yield NotedLook(note)
