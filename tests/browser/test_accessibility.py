"""axe-core on every tab of the page: no serious finding, light or dark, wide or narrow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import page_driver
import pytest
from axe_core_python.selenium import Axe
from page_driver import DESKTOP, PHONE, ROOT, Page, Server

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(600),
    pytest.mark.skipif(page_driver.missing() is not None, reason=str(page_driver.missing())),
]

SAMPLES = ROOT / "samples"
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


def serious(page: Page) -> list[tuple[str, str]]:
    """Return rule and element of each serious finding, and of headings that leave a level out."""
    return [
        (finding["id"], node["html"][:200])
        for finding in Axe().run(page.driver)["violations"]
        if finding["impact"] in SERIOUS or finding["id"] == "heading-order"
        for node in finding["nodes"]
    ]


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_no_state_of_the_page_has_a_serious_finding(
    server: Server, size: tuple[int, int], dark: bool, tmp_path: Path
) -> None:
    with Page(server.url, size, dark) as page:
        for tab in ("Photos", "Compare", "All faces", "Why", "The models"):
            if tab != "Photos":
                page.open_tab(tab)
            assert serious(page) == [], tab
        page.open_tab("Photos")
        bad = tmp_path / "notes.jpg"
        bad.write_text("no picture")
        page.upload([bad, *(SAMPLES / f"{name}.jpg" for name in ("hopper", "group", "dark"))])
        assert serious(page) == [], "thumbnails"
        page.click("hopper.jpg")
        assert serious(page) == [], "an open photo"
        page.click("Settings")
        assert serious(page) == [], "settings"


def test_axe_sees_what_it_looks_for(server: Server) -> None:
    with Page(server.url) as page:
        pale = "<h4>deep</h4><p style='background: #fff; color: #aaa'>hard to read</p>"
        page.driver.execute_script("document.querySelector('h1').outerHTML += arguments[0]", pale)
        assert {rule for rule, _ in serious(page)} >= {"color-contrast", "heading-order"}
