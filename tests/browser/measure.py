"""Measure the page as a visitor meets it: ``python tests/browser/measure.py [--uploads 200]``.

Printed as JSON: seconds from the start of the server to the first analysed picture; the slider's
answer (median of several moves); a photo of a megapixel with five faces against ``twostage
analyze``, beside a browser that draws on the same cores, and without one; the server's memory over
many uploads, one after another.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from page_driver import ROOT, Page, Server, wait_for
from PIL import Image
from streamlit.testing.v1 import AppTest
from tqdm import tqdm

from faces.images import read_image
from faces.pipeline import analyze_image
from twostage.models import load_classifier, load_detector

SLIDER_MOVES = 9
REPEATS = 5


def five_faces(path: Path, shade: int = 0) -> Path:
    """Write a photo of about a megapixel with five faces; another shade, another file."""
    with Image.open(ROOT / "samples" / "group.jpg") as photo:
        group = photo.convert("RGB")
    canvas = Image.new("RGB", (1260, 820), (90, shade % 256, shade // 256))
    canvas.paste(group, (0, 0))
    canvas.paste(group.crop((0, 0, 840, 512)).resize((505, 308)), (300, 512))
    canvas.save(path, quality=92)
    return path


def measure_start(server: Server, started: float) -> tuple[float, Page]:
    """Return the seconds until the sample is there, analysed; and the page."""
    page = Page(server.url, wait=False)
    wait_for(lambda: len(page.labels()) == 3, "the sample")
    return time.monotonic() - started, page


def measure_slider(page: Page) -> list[float]:
    """Return the seconds from each key press until the threshold's lines have moved.

    Both are timed inside the page, where a visitor sees them: from the event to the next frame.
    """
    script = """
        const place = () => document.querySelector(".faces .track s")?.style.left;
        window.answered = null;
        document.addEventListener("keydown", () => {
            const start = performance.now(), before = place();
            const look = () => [before, undefined].includes(place())
                ? requestAnimationFrame(look)
                : (window.answered = (performance.now() - start) / 1000);
            look();
        }, {once: true, capture: true});"""
    seconds = []
    for _ in range(SLIDER_MOVES):
        page.driver.execute_script(script)
        page.move_slider("Threshold", 1, settle=False)
        seconds.append(wait_for(lambda: page.driver.execute_script("return answered"), "lines"))
        page.settle()
    return seconds


def measure_photo(page: Page, folder: Path) -> tuple[list[float], list[float]]:
    """Return the seconds of both stages on the page and in ``analyze_image``, taken in turn."""
    detector, classifier = load_detector("default"), load_classifier("default")
    here, there = [], []
    for index in range(REPEATS + 1):
        path = five_faces(folder / f"five {index}.jpg", index)
        page.upload([path])
        text = page.text().split(path.name)[1]
        faces, seconds = text.split(" face", 1)[0], text.split(" s\n", 1)[0].rsplit(" ", 1)[1]
        there.append(float(seconds))
        result = analyze_image(path.name, read_image(path), detector, classifier)
        here.append(result.seconds)
        assert int(faces) == len(result.faces) == 5, (faces, len(result.faces))
        page.click("Remove all")
    return there[1:], here[1:]


def measure_photo_alone(folder: Path) -> list[float]:
    """Return the seconds of both stages on the page when no browser draws on the same cores."""
    page = AppTest.from_file(ROOT / "demo" / "app.py", default_timeout=60).run()
    seconds = []
    for index in range(REPEATS + 1):
        path = five_faces(folder / f"alone {index}.jpg", 500 + index)
        page.file_uploader[0].set_value([(path.name, path.read_bytes(), "image/jpeg")])
        page.run()
        caption = next(one.value for one in page.caption if "5 faces" in one.value)
        seconds.append(float(caption.removesuffix(" s").rsplit(" ", 1)[1]))
        page.session_state["session"].remove(page.session_state["session"].photos)
    return seconds[1:]


def measure_memory(page: Page, server: Server, folder: Path, uploads: int) -> dict[int, float]:
    """Return the server's megabytes after 20 uploads, and after each tenth of them all."""
    found = {}
    for index in tqdm(range(1, uploads + 1), desc="uploads"):
        path = five_faces(folder / "many.jpg", 1000 + index)
        page.upload([path.rename(folder / f"{index}.jpg")], settle=False)
        count = f"{index} photo{'s' if index > 1 else ''} on this page"
        wait_for(lambda text=count: text in page.text(), count)
        if index in (20, uploads) or index % max(1, uploads // 10) == 0:
            page.settle()
            found[index] = server.megabytes()
    return found


def main() -> None:
    """Take all measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uploads", type=int, default=200, help="at least 20")
    uploads = max(20, parser.parse_args().uploads)
    started = time.monotonic()
    with Server() as server, tempfile.TemporaryDirectory() as scratch:
        first, page = measure_start(server, started)
        with page:
            page.settle()
            slider = measure_slider(page)
            on_page, in_command = measure_photo(page, Path(scratch))
            alone = measure_photo_alone(Path(scratch))
            memory = measure_memory(page, server, Path(scratch), uploads)
    record = {
        "first_picture_s": round(first, 2),
        "slider_s": round(statistics.median(slider), 3),
        "five_faces_on_the_page_s": round(statistics.median(on_page), 3),
        "five_faces_without_a_browser_s": round(statistics.median(alone), 3),
        "five_faces_in_the_command_s": round(statistics.median(in_command), 3),
        "megabytes_after_uploads": {str(n): round(mb) for n, mb in memory.items()},
        "grown_since_the_20th": round(memory[uploads] / memory[20] - 1, 4),
        "load": np.round(np.loadtxt("/proc/loadavg", usecols=(0, 1, 2)), 2).tolist(),
    }
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
