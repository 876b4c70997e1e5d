"""How fast the live page is: frames per second, and the time from a frame to its answer.

``twostage video camera:0 --show`` runs with its default options, and Chromium, without a window,
shows its page. The camera is a file: the images of a folder, each cut to 640×480 pixels and shown
for a second while it moves, at 30 frames per second. Service and browser share the cores.
Needs Chromium, chromedriver and the package selenium.

Definitions
    frames_per_s: answered and drawn, over the whole time.
    p50_ms, p95_ms, p99_ms: percentiles of the time from the moment that the page takes a frame to
        that when its answer is drawn: JPEG, web socket, both stages, tracks, drawing.
    camera_frames_per_s: what the camera gave.
    dropped: of these, while another one was analysed.
    faces_per_frame: mean number of faces.
    cpu_ms_service: processor time of the service per answered frame, of all cores.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from benchmarks.service_load import Service, images_of
from eval.data import options
from eval.records.sections import LIVE
from faces.command import UserError

COMMAND = "benchmarks.live"
SIZE = (640, 480)
RATE = 30

WATCH = """
[window.latencies, window.faces] = [[], []];
addEventListener("answered", ({ detail }) => {
  window.latencies.push(detail.latency);
  window.faces.push(detail.faces.length);
});
"""


def write_camera(path: Path, images: Sequence[Path]) -> None:
    """Write a y4m file of so many seconds as there are images."""
    width, height = SIZE
    with path.open("wb") as out:
        out.write(f"YUV4MPEG2 W{width} H{height} F{RATE}:1 Ip A1:1 C420jpeg\n".encode())
        for source in images:
            with Image.open(source) as image:
                cut = ImageOps.fit(image.convert("RGB"), (width + RATE, height))
            for number in range(RATE):
                frame = cut.crop((number, 0, number + width, height)).convert("YCbCr")
                light, *colours = (np.asarray(plane) for plane in frame.split())
                planes = [light, *(plane[::2, ::2] for plane in colours)]
                out.write(b"FRAME\n" + b"".join(plane.tobytes() for plane in planes))


@contextmanager
def shown() -> Iterator[tuple[str, Service]]:
    """Run ``twostage video camera:0 --show``; yields the page's address and the service."""
    words = [sys.executable, "-m", "twostage", "video", "camera:0", "--show"]
    environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        address = re.search(r"http://[\d.]+:(\d+)/live", line)
        if address is None:
            raise UserError(f"the live page does not start: {line.strip()}")
        yield address[0], Service(int(address[1]), process.pid)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


@contextmanager
def chromium(camera: Path, profile: str) -> Iterator[Any]:
    """Yield a driver of Chromium with this camera."""
    try:
        from selenium import webdriver
    except ImportError as error:
        raise UserError("selenium is not installed: pip install selenium") from error
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        raise UserError("chromium and chromedriver are not installed")
    given = webdriver.ChromeOptions()
    given.binary_location = program
    for argument in (
        *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
        *("--disable-dev-shm-usage", "--disable-background-networking"),
        *("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"),
        *(f"--use-file-for-fake-video-capture={camera}", f"--user-data-dir={profile}"),
    ):
        given.add_argument(argument)
    browser = webdriver.Chrome(given, webdriver.ChromeService(driver))
    try:
        yield browser
    finally:
        browser.quit()


def measure(camera: Path, seconds: float, settle: float) -> dict[str, Any]:
    """Return the figures of the module for one run."""
    with shown() as (address, service), tempfile.TemporaryDirectory() as profile:
        _wait(service.ready, "the service")
        with chromium(camera, profile) as browser:
            browser.get(address)
            browser.find_element("id", "start").click()

            def read(name: str) -> int:
                return int(browser.find_element("id", name).text)

            _wait(lambda: read("answered") > 0, "the first answer")
            time.sleep(settle)
            browser.execute_script(WATCH)
            start, cpu = time.perf_counter(), service.cpu_seconds()
            answered, dropped = read("answered"), read("dropped")
            time.sleep(seconds)
            answered, dropped = read("answered") - answered, read("dropped") - dropped
            cpu, length = service.cpu_seconds() - cpu, time.perf_counter() - start
            latencies = browser.execute_script("return window.latencies")
            faces = np.mean(browser.execute_script("return window.faces"))
    return {
        "frames_per_s": answered / length,
        **{f"p{p}_ms": float(np.percentile(latencies, p)) for p in (50, 95, 99)},
        "n": answered,
        "dropped": dropped,
        "camera_frames_per_s": (answered + dropped) / length,
        "faces_per_frame": float(faces),
        "cpu_ms_service": 1000 * cpu / max(1, answered),
        "cores": len(os.sched_getaffinity(0)),
        "load_of_the_machine": os.getloadavg()[0],
    }


def _wait(condition: Any, what: str, seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise UserError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.1)


def _benchmark(arguments: Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        camera = Path(folder) / "camera.y4m"
        write_camera(camera, images_of(arguments.images, arguments.count))
        row = measure(camera, arguments.seconds, 5.0)
    LIVE.publish(arguments, [row])


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="a folder")
    text = "how many of its images (10)"
    parser.add_argument("--count", type=options.positive, default=10, help=text)
    text = "to measure (60)"
    parser.add_argument("--seconds", type=options.positive, default=60, help=text)
    options.add_out_option(parser)


main = options.Command(COMMAND, __doc__, _add_options, _benchmark)

if __name__ == "__main__":
    raise SystemExit(main())
