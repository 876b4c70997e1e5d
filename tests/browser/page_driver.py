"""The page of `make demo` in a real browser: a server of its own, and Chromium without a window."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

ROOT = Path(__file__).resolve().parents[2]
DESKTOP, TABLET, PHONE = (1280, 900), (820, 1180), (390, 844)
PATIENCE = 120
"""Seconds that a busy machine may take for anything."""

STILL_SECONDS = 0.6
"""How long the page does nothing until it is taken to be at rest."""

_CHROMIUM = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--disable-dev-shm-usage"),
)


def missing() -> str | None:
    """Return what this machine lacks for a browser, or None."""
    lacking = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"{' and '.join(lacking)} not installed" if lacking else None


def wait_for(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Return what a condition returns once that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise TimeoutError(f"waited {seconds} s for {what}")


class Server:
    """`make demo`, without opening a browser."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            port = probe.getsockname()[1]
        self.url = f"http://localhost:{port}"
        self._port = port
        self._log = tempfile.TemporaryFile("w+")
        self.process = self._started()

    def _started(self) -> subprocess.Popen[str]:
        options = {"headless": "true", "address": "localhost", "port": self._port}
        command = [sys.executable, "-m", "streamlit", "run", "demo/app.py"]
        for name, value in options.items():
            command += [f"--server.{name}", str(value)]
        return subprocess.Popen(
            command, cwd=ROOT, stdout=self._log, stderr=self._log, text=True, env=dict(os.environ)
        )

    def restart(self) -> None:
        """End the server and start another one under the same address."""
        self.process.terminate()
        self.process.wait(30)
        self.process = self._started()
        wait_for(self._answers, "the server")

    def __enter__(self) -> Server:
        wait_for(self._answers, "the server")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.terminate()
        self.process.wait(30)

    def megabytes(self) -> float:
        """Return the server's resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def open_files(self) -> set[str]:
        """Return what the server's open files are called, deleted ones too."""
        found = set()
        for descriptor in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(os.readlink(descriptor))
        return found

    def log(self) -> str:
        """Return what the server has written."""
        self._log.seek(0)
        return self._log.read()

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"the server ended: {self.log()}")
        try:
            with urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


class Page:
    """One visitor's page."""

    def __init__(
        self, url: str, size: tuple[int, int] = DESKTOP, dark: bool = False, wait: bool = True
    ) -> None:
        self.size = size
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        options = webdriver.ChromeOptions()
        for argument in (*_CHROMIUM, f"--user-data-dir={self._folder.name}/profile"):
            options.add_argument(argument)
        options.binary_location = shutil.which("chromium") or ""
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        self.driver = webdriver.Chrome(options, service)
        self.downloads = Path(self._folder.name, "downloads")
        self.downloads.mkdir()
        behaviour = {"behavior": "allow", "downloadPath": str(self.downloads)}
        self.driver.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self._resize(*size)
        self.driver.get(url)
        if wait:
            self.settle()

    def __enter__(self) -> Page:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.driver.quit()
        self._folder.cleanup()

    def _resize(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def all(self, selector: str) -> list[WebElement]:
        """Return the elements that a CSS selector finds."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def settle(self) -> None:
        """Wait until the page has been still for a while."""
        still_since = time.monotonic()

        def still() -> bool:
            nonlocal still_since
            idle = self.all("[data-test-script-state=notRunning] [role=tab]") and not self.all(
                "[data-stale=true], [data-testid=stFileUploaderFile], [data-testid=stSkeleton]"
            )
            script = "return [...document.images].every(image => image.complete)"
            if not idle or not self.driver.execute_script(script):
                still_since = time.monotonic()
            return time.monotonic() - still_since > STILL_SECONDS

        wait_for(still, "the page to settle")

    def find(self, selector: str, text: str, then: str = "") -> WebElement:
        """Return the element whose text (beside an icon) or label is as given, once it is there.

        Args:
            selector: of CSS.
            text: a whole line of the element's text, or its ``aria-label``.
            then: JavaScript, what to do with the element at once.
        """
        script = """const found = [...document.querySelectorAll(arguments[0])].find(element =>
            [...element.innerText.split("\\n"), element.ariaLabel].includes(arguments[1]));"""
        script += f"if (found) {{ {then} }} return found"
        found = partial(self.driver.execute_script, script, selector, text)
        element: WebElement = wait_for(found, f"{selector} {text!r}")
        return element

    def click(self, text: str, selector: str = "button", settle: bool = True) -> None:
        """Click a button, a tab or a label."""
        self.find(selector, text, "found.click();")
        if settle:
            self.settle()

    def open_tab(self, name: str) -> None:
        """Open one of the page's tabs."""
        self.click(name, "[role=tab]")

    def upload(self, paths: Sequence[Path], settle: bool = True) -> None:
        """Add photos."""
        box = wait_for(lambda: self.all("input[type=file]"), "the uploader")[0]
        box.send_keys("\n".join(map(str, paths)))
        if settle:
            wait_for(lambda: not self.is_sample(), "the photos")
            self.settle()

    def is_sample(self) -> bool:
        """Tell whether the page shows the sample."""
        return "This is a sample" in self.text()

    def move_slider(self, label: str, steps: int, settle: bool = True) -> None:
        """Move a slider by keyboard."""
        slider = self.find("[role=slider], input[type=range]", label)
        slider.send_keys((Keys.ARROW_RIGHT if steps > 0 else Keys.ARROW_LEFT) * abs(steps))
        if settle:
            self.settle()

    def text(self) -> str:
        """Return the text of the whole page."""
        return str(self.driver.execute_script("return document.body.innerText"))

    def labels(self) -> list[str]:
        """Return the labels of each card on the page."""
        texts = self._each(".faces .card .labels", "innerText")
        return [" ".join(text.split()) for text in texts]

    def alts(self) -> list[str]:
        """Return the descriptions of the photos on the page; thumbnails have none."""
        return [alt for alt in self._each(".stImage img", "alt") if alt]

    def answer(self) -> str:
        """Return the line with the answer; "" while it is not there."""
        return next(iter(self._each(".summary", "innerText")), "")

    def boxes(self) -> list[str]:
        """Return what the boxes over the photos say, as far as it is to be seen."""
        texts = self._each(".boxes .tag", "innerText")
        return [" ".join(text.split()) for text in texts]

    def _each(self, selector: str, value: str) -> list[str]:
        script = "return [...document.querySelectorAll(arguments[0])].map(e => e[arguments[1]])"
        texts: list[str] = self.driver.execute_script(script, selector, value)
        return texts

    def download(self, label: str, name: str) -> bytes:
        """Click a download button; return the file."""
        path = self.downloads / name
        path.unlink(missing_ok=True)
        self.click(label, settle=False)
        return self.downloaded(name)

    def downloaded(self, name: str) -> bytes:
        """Wait until a file is whole, and return it: Chrome reserves its name by an empty one."""
        path = self.downloads / name

        def whole() -> bool:
            running = any(self.downloads.glob("*.crdownload"))
            return not running and path.is_file() and path.stat().st_size > 0

        wait_for(whole, name)
        return path.read_bytes()

    def picture(self, path: Path, whole: bool = True) -> None:
        """Write a PNG of the page."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if whole:
            script = "return document.querySelector('[data-testid=stMain]').scrollHeight"
            self._resize(self.size[0], min(4000, self.driver.execute_script(script)))
            time.sleep(0.5)
        self.driver.save_screenshot(str(path))
        self._resize(*self.size)
