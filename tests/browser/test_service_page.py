"""The service's page in a real browser: a file, feedback by keyboard, a phone, the API's page."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from fake_camera import install_camera
from page_driver import DESKTOP, PHONE, ROOT, Page, missing, wait_for
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select

from demo import corrections
from demo.corrections import Correction

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(400),
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
    pytest.mark.skipif(
        find_spec("fastapi") is None or find_spec("sqlalchemy") is None,
        reason="the extra `service` is not installed: make setup EXTRAS=service",
    ),
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The address of a running service, and its database's."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    database = f"sqlite:///{tmp_path_factory.mktemp('service')}/service.sqlite3"
    words = ["serve", "--port", str(port), "--database", database]
    process = subprocess.Popen([sys.executable, "-m", "twostage", *words], cwd=ROOT)

    def ready() -> bool:
        assert process.poll() is None
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/health", timeout=5):
                return True
        except OSError:
            return False

    try:
        wait_for(ready, "the service")
        yield f"http://127.0.0.1:{port}", database
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_photo_is_analysed_and_a_face_corrected(
    served: tuple[str, str], size: tuple[int, int]
) -> None:
    url, database = served
    before = os.fspath(ROOT / "samples" / "group.jpg")
    with Page(url, size, wait=False) as page:
        page.driver.find_element(By.ID, "files").send_keys(before)
        wait_for(lambda: len(page.all(".faces li")) == 3, "three faces")
        assert "3 faces found" in page.text()
        width = page.driver.execute_script("return document.documentElement.scrollWidth")
        assert width <= size[0]
        choice = page.all(".faces select")[1]
        choice.send_keys("surprise")
        page.driver.execute_script("arguments[0].blur()", choice)
        if not Select(choice).first_selected_option.text == "surprise":
            Select(choice).select_by_value("surprise")
        wait_for(lambda: "Thank you: surprise." in page.text(), "thanks")
        severe = [one for one in page.driver.get_log("browser") if one["level"] == "SEVERE"]
        assert severe == []
    exported = Path(database.removeprefix("sqlite:///")).with_name(f"faces-{size[0]}")
    words = ["feedback", "export", "--database", database, "--out", str(exported)]
    subprocess.run([sys.executable, "-m", "twostage", *words], cwd=ROOT, check=True)
    assert list(exported.glob("surprise/*-2.png"))


def test_a_correction_of_the_other_page_lands_in_the_export(
    served: tuple[str, str], tmp_path: Path
) -> None:
    url, database = served
    crop = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(crop, "PNG")
    made = Correction("0" * 32, 2, "disgust", crop.getvalue(), "happy", "blend", "haar", 1.0)
    corrections.send(made, url)
    exported = tmp_path / "corrected"
    words = ["feedback", "export", "--database", database, "--out", str(exported)]
    subprocess.run([sys.executable, "-m", "twostage", *words], cwd=ROOT, check=True)
    (sent,) = exported.glob("disgust/*-1.png")
    with Image.open(sent) as image:
        assert image.size == (64, 64) and image.getpixel((32, 32)) == (0, 128, 128)


def test_a_photo_can_be_deleted(served: tuple[str, str]) -> None:
    with Page(served[0], wait=False) as page:
        page.driver.find_element(By.ID, "files").send_keys(str(ROOT / "samples" / "hopper.jpg"))
        wait_for(lambda: page.all("article button"), "the face")[0].click()
        wait_for(lambda: not page.all("article"), "an empty page")
        assert "Deleted." in page.text()


def test_an_address_of_this_machine_is_refused_in_words(served: tuple[str, str]) -> None:
    with Page(served[0], wait=False) as page:
        page.driver.find_element(By.ID, "url").send_keys("http://127.0.0.1/a.jpg\n")
        wait_for(lambda: "not on the public internet" in page.text(), "a refusal")


def test_the_page_of_the_api_shows_its_routes(served: tuple[str, str]) -> None:
    with Page(f"{served[0]}/docs", wait=False) as page:
        wait_for(lambda: "/v1/predict" in page.text(), "the routes")
        assert "Unable to render" not in page.text()


def focused(page: Page) -> WebElement:
    return page.driver.switch_to.active_element


def press(page: Page, *keys: str) -> None:
    ActionChains(page.driver).send_keys(*keys).perform()


def tab_to(page: Page, what: str) -> WebElement:
    """Press Tab until the element with this id, label or text has the focus, and shows it."""
    for _ in range(40):
        press(page, Keys.TAB)
        element = focused(page)
        names = (element.get_attribute("id"), element.get_attribute("aria-label"), element.text)
        if what in names:
            assert element.value_of_css_property("outline-style") == "solid"
            return element
    raise AssertionError(f"Tab does not reach {what!r}")


def test_all_is_done_by_keyboard(
    served: tuple[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install_camera(monkeypatch, tmp_path)
    with Page(served[0], PHONE, wait=False) as page:
        # an address
        tab_to(page, "url")
        press(page, "http://127.0.0.1/a.jpg", Keys.ENTER)
        wait_for(lambda: "not on the public internet" in page.text(), "a refusal")
        # a photo from the webcam
        tab_to(page, "webcam")
        press(page, Keys.SPACE)
        script = "return document.getElementById('video').videoWidth"
        wait_for(lambda: page.driver.execute_script(script) == 640, "the camera")
        tab_to(page, "photo")
        press(page, Keys.ENTER)
        wait_for(lambda: len(page.all(".faces li")) == 3, "three faces")
        # a correction: "disgust" is the second word of the list
        tab_to(page, "What face 2 really shows")
        press(page, "disg")
        wait_for(lambda: "Thank you: disgust." in page.text(), "thanks")
        # and all is deleted
        tab_to(page, "Delete from the service")
        press(page, Keys.ENTER)
        wait_for(lambda: "Deleted." in page.text() and not page.all("article"), "an empty page")
        width = page.driver.execute_script("return document.documentElement.scrollWidth")
        assert width <= PHONE[0]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious(served: tuple[str, str], dark: bool) -> None:
    axe = pytest.importorskip("axe_core_python.selenium").Axe()

    def serious(page: Page) -> list[str]:
        found = axe.run(page.driver)["violations"]
        return [
            f"{one['id']}: {node['html'][:200]}"
            for one in found
            if one["impact"] in ("serious", "critical") or one["id"] == "heading-order"
            for node in one["nodes"]
        ]

    with Page(served[0], dark=dark, wait=False) as page:
        page.driver.find_element(By.ID, "files").send_keys(str(ROOT / "samples" / "group.jpg"))
        wait_for(lambda: len(page.all(".faces li")) == 3, "three faces")
        page.driver.find_element(By.ID, "url").send_keys("http://127.0.0.1/a.jpg\n")
        wait_for(lambda: "not on the public internet" in page.text(), "a refusal")
        assert serious(page) == []
        page.driver.get(f"{served[0]}/live")
        wait_for(lambda: "surprise" in page.text(), "the live page")
        assert serious(page) == []
        page.driver.execute_script("document.querySelector('h1').style.color = '#808080'")
        page.driver.execute_script("document.body.style.background = '#888888'")
        assert any("color-contrast" in one for one in serious(page))  # it does look
