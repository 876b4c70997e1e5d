"""Chromium plays the annotated video of ``twostage video``, with its sound."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("av", reason="the extra video is not installed")

from page_driver import Page, missing, wait_for

from faces.pipeline import Pipeline
from tests.stand_ins import ScriptedClassifier, ScriptedDetector, brightness
from tests.video.conftest import find_squares, frame, write_video
from video.analyze import VideoOptions
from video.job import Outputs, analyze_sources
from video.render import Overlay

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(600),
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]


@pytest.mark.parametrize("overlay", Overlay)
def test_the_annotated_video_plays_with_its_sound(tmp_path: Path, overlay: Overlay) -> None:
    images = [frame([(40, 40, 40, 250)]) for _ in range(20)]
    source = write_video(tmp_path / "a.mp4", images, sound=True)
    pipeline = Pipeline(ScriptedDetector(find_squares), ScriptedClassifier(brightness))
    outputs = Outputs(annotated=tmp_path / "marked.mp4", overlay=overlay)
    list(analyze_sources(lambda: pipeline, [str(source)], outputs, VideoOptions(), models={}))
    page = tmp_path / "page.html"
    page.write_text("<video src='marked.mp4' muted></video>")
    with Page(page.as_uri(), wait=False) as browser:
        video = "document.querySelector('video')"
        browser.driver.execute_script(f"{video}.play()")
        wait_for(lambda: browser.driver.execute_script(f"return {video}.ended"), "the end")
        shown = browser.driver.execute_script(
            f"return [{video}.videoWidth, {video}.duration, {video}.webkitAudioDecodedByteCount]"
        )
    assert shown[0] == 160 and shown[1] == pytest.approx(2, abs=0.2) and shown[2] > 0
