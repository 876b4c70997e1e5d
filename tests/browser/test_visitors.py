"""Eight visitors at once, two hundred uploads: what each sees, and what the server keeps."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import page_driver
import pytest
from page_driver import ROOT, Page, Server, wait_for
from PIL import Image

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(page_driver.missing() is not None, reason=str(page_driver.missing())),
]

VISITORS, UPLOADS, WARM = 8, 200, 40
GROWTH = 1.1
"""Memory after all uploads over memory after the ``WARM`` first ones; the photos are small."""


def photo(path: Path, shade: int) -> Path:
    """Write a small photo with a face; another shade, another file."""
    with Image.open(ROOT / "samples" / "collins.jpg") as opened:
        image = np.array(opened.convert("RGB").resize((256, 256)))
    image[0, 0] = shade
    Image.fromarray(image).save(path, quality=95)
    return path


def test_visitors_see_their_own_photos_only_and_leave_nothing(tmp_path: Path) -> None:
    with Server() as server:
        with Page(server.url) as page:
            windows = [page.driver.current_window_handle]
            for _ in range(VISITORS - 1):
                page.driver.switch_to.new_window("tab")
                page.driver.get(server.url)
                page.settle()
                windows.append(page.driver.current_window_handle)
            empty = server.megabytes()

            # upload in turn, while the others' photos are still being analysed
            for index in range(UPLOADS):
                visitor, turn = index % VISITORS, index // VISITORS + 1
                page.driver.switch_to.window(windows[visitor])
                if turn > 1:
                    wanted = f" in {turn - 1} photos" if turn > 2 else "1 face"
                    wait_for(lambda text=wanted: text in page.answer(), f"{visitor}: {wanted}")
                path = photo(tmp_path / f"visitor{visitor}-{turn:02}.jpg", index)
                page.upload([path], settle=False)
                if index == WARM:
                    warm = server.megabytes()

            # each sees their own, and no photo has an address
            for visitor, window in enumerate(windows):
                page.driver.switch_to.window(window)
                page.settle()
                source = page.driver.page_source
                seen = {number for number in range(VISITORS) if f"visitor{number}-" in source}
                assert seen == {visitor}
                script = "return performance.getEntriesByType('resource').map(one => one.name)"
                asked = page.driver.execute_script(script)
                assert not [name for name in asked if "/media/" in name and "static" not in name]
            full = server.megabytes()
        left = time.monotonic()
        wait_for(lambda: server.megabytes() < empty + 60, "all to be freed", 75)
        print(
            f"MB: {empty:.0f} before, {warm:.0f} after {WARM} uploads, {full:.0f} after {UPLOADS}"
        )
        assert full < GROWTH * warm
        assert time.monotonic() - left < 60
