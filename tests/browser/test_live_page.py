"""`twostage video SOURCE --show` in a real browser, with a file as its camera."""

from __future__ import annotations

import csv
import io
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from fake_camera import install_camera, moving_faces
from page_driver import PHONE, ROOT, Page, missing, wait_for
from PIL import Image
from selenium.webdriver.common.by import By

from faces.emotions import EMOTIONS

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(400),
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
    pytest.mark.skipif(
        find_spec("fastapi") is None or find_spec("sqlalchemy") is None,
        reason="the extra `service` is not installed: make setup EXTRAS=service",
    ),
]


@contextmanager
def shown(*words: str) -> Iterator[str]:
    """Run ``twostage video … --show``; yields the address that it names."""
    process = subprocess.Popen(
        [sys.executable, "-m", "twostage", "video", *words, "--show"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        address = re.search(r"http://\S+/live", process.stderr.readline())
        assert address is not None
        yield address[0]
    finally:
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=60)
    assert "Traceback" not in log


@pytest.fixture
def with_camera(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install_camera(monkeypatch, tmp_path)


def number(page: Page, name: str) -> float:
    text = page.driver.find_element(By.ID, name).text
    found = re.match(r"[\d.]+", text)
    return float(found[0]) if found else 0.0


def opened(url: str, **given: object) -> Page:
    from selenium.common.exceptions import WebDriverException

    def attempt() -> Page | None:
        try:
            return Page(url, wait=False, **given)  # type: ignore[arg-type]
        except WebDriverException:
            return None  # it does not listen yet

    page: Page = wait_for(attempt, "the live page")
    return page


@pytest.mark.usefixtures("with_camera")
def test_the_camera_is_followed_paused_and_saved() -> None:
    with shown("camera:0") as url, opened(url) as page:
        page.driver.find_element(By.ID, "start").click()
        wait_for(lambda: number(page, "answered") >= 20, "twenty answers")
        print({name: page.driver.find_element(By.ID, name).text for name in FIGURES})
        assert number(page, "rate") > 0 and number(page, "latency") > 0
        # paused, nothing more is analysed
        page.driver.find_element(By.ID, "pause").click()
        wait_for(lambda: "Paused." in page.text(), "the pause")
        page.driver.execute_async_script("setTimeout(arguments[0], 1500)")
        count = number(page, "answered")
        page.driver.execute_async_script("setTimeout(arguments[0], 1500)")
        assert number(page, "answered") == count
        page.driver.find_element(By.ID, "pause").click()
        wait_for(lambda: number(page, "answered") > count + 3, "more answers")
        # saved: the table of `twostage video`, and the curves
        page.driver.find_element(By.ID, "start").click()
        wait_for(lambda: "Stopped." in page.text(), "the end")
        table, chart = saved(page)
        logged = [one for one in page.driver.get_log("browser") if one["level"] == "SEVERE"]
        # the page asks for the health until the models are loaded
        assert [one for one in logged if "/v1/health" not in one["message"]] == []
    from video.tables import ROW_COLUMNS

    assert list(table[0]) == list(ROW_COLUMNS)
    tracks = {row["track"] for row in table}
    assert {"1", "2", "3"} <= tracks and len(tracks) <= 5
    for row in table:
        assert sum(float(row[f"smoothed_{name}"]) for name in EMOTIONS) == pytest.approx(
            1, abs=0.01
        )
    times = [float(row["time"]) for row in table]
    assert times == sorted(times)
    assert len(np.unique(np.asarray(chart).reshape(-1, 3), axis=0)) > 20


FIGURES = ("rate", "latency", "answered", "dropped")


def saved(page: Page) -> tuple[list[dict[str, str]], Image.Image]:
    for name in ("csv", "chart"):
        page.driver.find_element(By.ID, name).click()
    files = page.downloads
    wait_for(lambda: {"faces.csv", "moods.png"} <= {one.name for one in files.iterdir()}, "files")
    table = list(csv.DictReader(io.StringIO((files / "faces.csv").read_text("utf-8"))))
    return table, Image.open(files / "moods.png").convert("RGB")


@pytest.mark.usefixtures("with_camera")
def test_frames_that_come_too_fast_are_dropped_and_counted() -> None:
    with shown("camera:0") as url, opened(url) as page:
        # the service answers nothing for a while: what comes in between waits for nothing
        page.driver.execute_script(
            "const send = WebSocket.prototype.send;"
            "WebSocket.prototype.send = function (data) {"
            "  setTimeout(() => send.call(this, data), typeof data === 'string' ? 0 : 1000); };"
        )
        page.driver.find_element(By.ID, "start").click()
        wait_for(lambda: number(page, "answered") >= 3, "three answers")
        assert number(page, "dropped") >= 3 * number(page, "answered")
        assert number(page, "latency") >= 1000


def test_a_file_is_followed_to_its_end_on_a_phone(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    clip = tmp_path / "clip.mp4"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("libx264", 20)
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        for frame in moving_faces():
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())
    with shown(str(clip), "--overlay", "emoji") as url, opened(url, size=PHONE) as page:
        wait_for(lambda: "clip.mp4" in page.text(), "the file's name")
        assert page.driver.find_element(By.ID, "emoji").is_selected()
        width = page.driver.execute_script("return document.documentElement.scrollWidth")
        assert width <= PHONE[0]
        page.driver.find_element(By.ID, "start").click()
        wait_for(lambda: "Stopped." in page.text() and number(page, "answered") >= 1, "the end")
        table, _ = saved(page)
    assert {row["source"] for row in table} == {"clip.mp4"}
    assert 0 <= float(table[-1]["time"]) < 2.1
