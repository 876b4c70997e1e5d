"""The pipeline of the Python API: that of ``faces``, and it also takes videos."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from faces import pipeline

if TYPE_CHECKING:
    from video.analyze import VideoFrame


class Pipeline(pipeline.Pipeline):
    """Both stages joined: image or video → faces → crops → emotions; see ``faces.pipeline``."""

    def analyze_video(
        self,
        source: str | os.PathLike[str],
        *,
        every: float | None = None,
        detect_every: int = 1,
    ) -> Iterator[VideoFrame]:
        """Run both stages over a video, and yield its frames as they are analysed.

        Args:
            source: a video file, an animated GIF, a folder of frames, ``camera:0``, or the address
                of a stream.
            every: seconds between two analysed frames; None analyses all.
            detect_every: look for faces in every n-th of these only, and predict between.

        Yields:
            Each frame's time and faces, with the number of their track, their probabilities in this
            frame and smoothed over time.

        Raises:
            UserError: the source cannot be read, or PyAV is not installed.
        """
        from video.analyze import VideoOptions, analyze_video

        return analyze_video(self, source, VideoOptions(every=every, detect_every=detect_every))
