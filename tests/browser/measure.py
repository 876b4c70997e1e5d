"""Measure the page as a visitor meets it: ``python tests/browser/measure.py [--uploads 60]``.

Printed as JSON: seconds from the start of the server to the first analysed picture; the slider's
answer (median of several moves); a photo of a megapixel with five faces on the page, beside a
browser that draws on the same cores, against ``twostage analyze``; 12 megapixels with 70 faces;
fifty photos at once; the server's memory over many uploads, one after another. The browser is asked
nothing while it is timed: what it answers costs it more than the page itself.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from page_driver import ROOT, STILL_SECONDS, Page, Server, wait_for
from PIL import Image
from tqdm import tqdm

SLIDER_MOVES = 9
REPEATS, TURNS = 4, 2
MANY = 50


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


def upload_timed(page: Page, path: Path) -> float:
    """Upload a photo; return the seconds until its picture is there, timed inside the page."""
    script = """
        const name = arguments[0];
        window.shown = new Promise(tell => {
            let start;
            document.addEventListener("change", () => { start = performance.now(); },
                {once: true, capture: true});
            const look = ({target}) => {
                if (!target.alt?.startsWith(name)) return;
                document.removeEventListener("load", look, true);
                tell((performance.now() - start) / 1000);
            };
            document.addEventListener("load", look, true);
        });"""
    page.driver.execute_script(script, path.name)
    page.upload([path], settle=False)
    seconds: float = page.driver.execute_async_script("shown.then(arguments[0])")
    page.settle()
    return seconds


def results_of(data: bytes) -> list[float]:
    """Return the seconds of each photo in a JSON of results, all of five faces."""
    results = json.loads(data)
    assert {len(result["faces"]) for result in results} == {5}
    return [result["seconds"] for result in results]


def measure_photo(page: Page, folder: Path) -> dict[str, float]:
    """Return medians in seconds of a photo on the page and in the command, taken in turn.

    Both name the seconds of the two stages in their JSON; those are compared. The command's first
    photo of a call also compiles the classifier: a call with one photo has no other, and it is
    told apart. The whole way on the page is from the choice of the file to its picture.
    """
    on_page, in_command, first, way = [], [], [], []
    for turn in range(TURNS):
        paths = [five_faces(folder / f"{turn}-{i}.jpg", 10 * turn + i) for i in range(REPEATS + 1)]
        for path in paths[1:]:
            way.append(upload_timed(page, path))
            page.open_tab("All faces")
            on_page += results_of(page.download("JSON", "faces.json"))
            page.open_tab("Photos")
            page.click("Remove all")
        out = folder / "faces.json"
        command = [sys.executable, "-m", "twostage.cli", "analyze", *map(str, paths)]
        subprocess.run([*command, "--out", str(out)], cwd=ROOT, check=True, capture_output=True)
        once, *again = results_of(out.read_bytes())
        first.append(once)
        in_command += again
    page_s, command_s = statistics.median(on_page), statistics.median(in_command)
    return {
        "five_faces_on_the_page_s": round(page_s, 3),
        "five_faces_in_the_command_s": round(command_s, 3),
        "page_over_command": round(page_s / command_s, 2),
        "five_faces_in_a_command_of_one_photo_s": round(statistics.median(first), 3),
        "five_faces_from_upload_to_picture_s": round(statistics.median(way), 3),
    }


def measure_crowd(page: Page, path: Path) -> float:
    """Return the seconds from the choice of a photo of 12 megapixels and 70 faces to rest."""
    with Image.open(ROOT / "samples" / "hopper.jpg") as photo:
        one = np.array(photo.convert("RGB").resize((400, 428)))
    Image.fromarray(np.tile(one, (7, 10, 1))).save(path, quality=90)
    start = time.monotonic()
    page.upload([path])
    seconds = time.monotonic() - start - STILL_SECONDS
    assert len(page.boxes()) >= 50
    page.click("Remove all")
    return seconds


def measure_memory(page: Page, server: Server, folder: Path, uploads: int) -> dict[int, float]:
    """Return the server's megabytes after 20 uploads, and after each tenth of them all."""
    found = {}
    for index in tqdm(range(1, uploads + 1), desc="uploads"):
        path = five_faces(folder / "many.jpg", 1000 + index)
        page.upload([path.rename(folder / f"{index}.jpg")], settle=False)
        count = f" in {index} photos" if index > 1 else "5 faces"
        wait_for(lambda text=count: text in page.answer(), count)
        if index in (20, uploads) or index % max(1, uploads // 10) == 0:
            page.settle()
            found[index] = server.megabytes()
    return found


def measure_many(page: Page, folder: Path) -> float:
    """Return the seconds from the choice of many photos to the page at rest, all in one CSV."""
    page.click("Remove all")
    paths = [five_faces(folder / f"at once {index}.jpg", 5000 + index) for index in range(MANY)]
    start = time.monotonic()
    page.upload(paths)
    seconds = time.monotonic() - start
    page.open_tab("All faces")
    assert len(page.download("CSV", "faces.csv").splitlines()) == 1 + 5 * MANY
    return seconds


def main() -> None:
    """Take all measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uploads", type=int, default=60, help="at least 20")
    uploads = max(20, parser.parse_args().uploads)
    started = time.monotonic()
    with Server() as server, tempfile.TemporaryDirectory() as scratch:
        first, page = measure_start(server, started)
        with page:
            page.settle()
            slider = measure_slider(page)
            photo = measure_photo(page, Path(scratch))
            crowd = measure_crowd(page, Path(scratch, "crowd.jpg"))
            memory = measure_memory(page, server, Path(scratch), uploads)
            many = measure_many(page, Path(scratch))
    record = {
        "first_picture_s": round(first, 2),
        "slider_s": round(statistics.median(slider), 3),
        **photo,
        "twelve_megapixels_with_70_faces_at_rest_s": round(crowd, 2),
        f"{MANY}_photos_at_once_s": round(many, 1),
        "megabytes_after_uploads": {str(n): round(mb) for n, mb in memory.items()},
        "grown_since_the_20th": round(memory[uploads] / memory[20] - 1, 4),
        "load": np.round(np.loadtxt("/proc/loadavg", usecols=(0, 1, 2)), 2).tolist(),
    }
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
