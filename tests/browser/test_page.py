"""The page with the shipped weights in a real browser, held against the command line."""

from __future__ import annotations

import io
import re
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import page_driver
import pytest
from page_driver import DESKTOP, PHONE, ROOT, TABLET, Page, Server, wait_for
from PIL import Image
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.support.select import Select

from demo.render import cards, tables
from faces.emotions import EMOTIONS
from twostage import cli

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(600),
    pytest.mark.skipif(page_driver.missing() is not None, reason=str(page_driver.missing())),
]

PICTURES = ROOT / ".cache" / "screenshots"
"""Where the screenshots go, to be looked at."""

SAMPLES = ROOT / "samples"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture
def page(server: Server) -> Iterator[Page]:
    with Page(server.url) as opened:
        yield opened


def variants(folder: Path, number: int) -> list[Path]:
    """Return small photos that all differ."""
    with Image.open(SAMPLES / "collins.jpg") as photo:
        image = np.array(photo.convert("RGB").resize((256, 256)))
    paths = []
    for index in range(number):
        image[0, 0] = index
        paths.append(folder / f"{index:03}.png")
        Image.fromarray(image).save(paths[-1])
    return paths


@pytest.mark.parametrize("size", [DESKTOP, TABLET, PHONE], ids=["desktop", "tablet", "phone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_main_states(server: Server, tmp_path: Path, size: tuple[int, int], dark: bool) -> None:
    prefix = f"{size[0]}_{'dark' if dark else 'light'}"
    with Page(server.url, size, dark) as page:
        assert page.is_sample()
        assert page.labels() == ["happy", "happy", "neutral"]  # from left to right
        assert page.answer() == "3 faces: 2 happy, 1 neutral, none unsure"
        assert page.alts() == ["group.jpg with 3 faces"]
        seen = {box.split()[0]: box.split()[1] for box in page.boxes()}
        assert seen == {"1": "happy", "2": "happy", "3": "neutral"}
        sizes = page.driver.execute_script(
            "return [...document.querySelectorAll('.tag')].map(e => getComputedStyle(e).fontSize)"
        )
        assert all(float(size.removesuffix("px")) >= 12 for size in sizes)  # as they are shown
        for tab in ("Photos", "Compare", "All faces", "Why"):
            page.open_tab(tab)
            page.picture(PICTURES / f"{prefix}_{tab.lower().replace(' ', '_')}.png")
            script = "return document.documentElement.scrollWidth - innerWidth"
            assert page.driver.execute_script(script) <= 0  # nothing to scroll sideways
            assert not page.all("[data-testid=stException]")
        bad = tmp_path / "notes.jpg"
        bad.write_text("no picture")
        Image.new("RGB", (300, 200), "teal").save(tmp_path / "empty.png")
        page.open_tab("Photos")
        page.upload([SAMPLES / "hopper.jpg", tmp_path / "empty.png", bad])
        assert "notes.jpg: is a text file" in page.text()
        assert "No face found. Try" in page.text()
        page.picture(PICTURES / f"{prefix}_uploads.png")


def test_what_is_downloaded_is_what_the_command_writes(page: Page, tmp_path: Path) -> None:
    photos = [SAMPLES / name for name in ("collins.jpg", "group.jpg", "hopper.jpg")]
    page.upload(photos)
    before = page.labels()
    page.move_slider("Threshold", 65)
    assert "95%" in page.text()
    assert page.labels() != before and "unsure" in page.labels()
    for path in photos:
        assert path.name in page.text()
    marked = tmp_path / "marked"
    arguments = [*map(str, photos), "--threshold", "0.95"]
    for extension in tables.DOWNLOADS.values():
        out = tmp_path / f"faces{extension}"
        command = ["analyze", *arguments, "--out", str(out), "--annotated", str(marked)]
        assert cli.main(command) == 0
    for index, path in enumerate(photos):
        button = page.all(f".st-key-png-{index} button")[0]
        page.driver.execute_script("arguments[0].click()", button)
        name = f"{path.stem}.png"
        shown = Image.open(io.BytesIO(page.downloaded(name)))  # the command's names its source, too
        assert np.array_equal(np.asarray(shown), np.asarray(Image.open(marked / name)))
    page.open_tab("All faces")
    for kind, extension in tables.DOWNLOADS.items():
        expected = (tmp_path / f"faces{extension}").read_text("utf-8")
        found = page.download(kind, f"faces{extension}").decode()
        assert timeless(found) == timeless(expected.replace(f"{SAMPLES}/", ""))


def padded(path: Path, megabytes: int) -> Path:
    """Write a valid photo of so many megabytes: decoders ignore what follows a JPEG's end."""
    data = (SAMPLES / "hopper.jpg").read_bytes()
    path.write_bytes(data + bytes((megabytes << 20) - len(data)))
    return path


def test_no_upload_is_written_to_disk(server: Server, page: Page, tmp_path: Path) -> None:
    before, seen, done = server.open_files(), set[str](), threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.update(server.open_files() - before)

    watching = threading.Thread(target=watch)
    watching.start()
    page.upload([padded(tmp_path / "large.jpg", 60)])
    done.set()
    watching.join()
    assert page.alts()[0].startswith("large.jpg with 1 face")
    elsewhere = {name for name in seen if not name.startswith(str(ROOT))}  # a clone may be in /tmp
    assert {name for name in elsewhere if "/tmp" in name or "deleted" in name} == set()


def test_photos_are_freed_within_a_minute_of_leaving(tmp_path: Path) -> None:
    with Server() as server:  # its own: others' photos would come and go meanwhile
        with Page(server.url) as page:
            before = server.megabytes()
            page.upload([padded(tmp_path / f"{index}.jpg", 80 + index) for index in range(3)])
            assert server.megabytes() > before + 200
        left = time.monotonic()
        wait_for(lambda: server.megabytes() < before + 60, "the photos to be freed", 75)
        assert time.monotonic() - left < 60


def test_a_file_over_the_limit_is_named_beside_a_good_one_and_alone(
    page: Page, tmp_path: Path
) -> None:
    page.upload([padded(tmp_path / "huge.jpg", 101)])
    assert "huge.jpg: is larger than 100 MB" in page.text()
    page.click("Remove all")
    page.upload([padded(tmp_path / "huge.jpg", 101), SAMPLES / "hopper.jpg"])
    assert "huge.jpg: is larger than 100 MB" in page.text()
    assert [alt.split()[0] for alt in page.alts()] == ["hopper.jpg"]


def test_the_reliability_diagram_is_seen(page: Page) -> None:
    page.open_tab("Why")
    page.open_tab("The models")
    script = """return [...document.images].filter(image => image.alt.startsWith("Reliability"))
        .map(image => [image.naturalWidth > 0, image.clientWidth, image.clientHeight])"""
    ((drawn, width, height),) = page.driver.execute_script(script)
    assert drawn and width >= 200 and height >= 200


def test_a_reload_and_a_restart_say_that_the_photos_are_gone(tmp_path: Path) -> None:
    with Server() as first:
        with Page(first.url) as page:
            page.upload([SAMPLES / "hopper.jpg"])
            page.driver.refresh()
            page.settle()
            assert "Your photos are gone" in page.text() and page.is_sample()
            page.upload([SAMPLES / "hopper.jpg"])
            assert "Your photos are gone" not in page.text()
            first.restart()
            wait_for(lambda: "photos=1" in page.driver.current_url, "the page to connect again")
            wait_for(lambda: not page.all("[data-testid=stConnectionStatus]"), "the connection")
            page.move_slider("Threshold", 3, settle=False)
            wait_for(lambda: "Your photos are gone" in page.text(), "the word after a restart")
            page.settle()
            assert page.is_sample()


def test_the_slider_follows_the_mouse_and_the_keyboard(page: Page) -> None:
    slider = page.find("input[type=range]", "Threshold")
    width = slider.size["width"]
    actions = ActionChains(page.driver, duration=20).move_to_element(slider).click_and_hold()
    for _ in range(10):
        actions.move_by_offset(width // 25, 0)
    actions.release().perform()
    page.settle()
    (shown,) = re.findall(r"Threshold\n(\d+)%", page.text())
    assert 80 <= int(shown) <= 100
    lines = page.driver.execute_script(
        "return document.querySelector('.faces .track s').style.left"
    )
    assert lines == f"{shown}%"  # the last step counts, however fast they came
    for key, value in ((Keys.HOME, 0), (Keys.END, 100), (Keys.ARROW_LEFT, 99)):
        slider.send_keys(key)
        page.settle()
        assert f"Threshold\n{value}%" in page.text()
        assert slider.get_attribute("aria-valuetext") == f"{value}%"
    assert page.labels() == ["unsure"] * 3


def test_the_page_works_by_keyboard(page: Page) -> None:
    reached = set()
    for _ in range(40):
        page.driver.switch_to.active_element.send_keys("\t")
        active = page.driver.switch_to.active_element
        reached.add(active.get_attribute("role") or active.tag_name)
        if active.get_attribute("role") == "tab":
            active.send_keys("\ue014\n")  # arrow to the right, enter
            break
    assert {"button", "tab"} <= reached
    wait_for(lambda: "Compare two" in page.text(), "the second tab")


def test_a_face_and_its_card_light_up_together(page: Page) -> None:
    def lit() -> list[list[str]]:
        script = """return [".box.lit", ".card.lit"].map(
            kind => [...document.querySelectorAll(kind)].map(one => one.dataset.face))"""
        found: list[list[str]] = page.driver.execute_script(script)
        return found

    for selector in ('.card[data-face="2"]', '.box[data-face="3"]'):
        element = page.all(selector)[0]
        ActionChains(page.driver).move_to_element(element).perform()
        face = element.get_attribute("data-face")
        wait_for(lambda expected=face: lit() == [[expected], [expected]], "both lit")
    ActionChains(page.driver).move_to_element(page.find("h1", "Faces and their emotions")).perform()
    wait_for(lambda: lit() == [[], []], "both dark")


def test_all_seven_bars_stay_open_while_the_threshold_moves(page: Page) -> None:
    opened = "return document.querySelectorAll('.faces details[open]').length"
    page.all(".faces details summary")[1].click()
    page.move_slider("Threshold", 5)
    assert page.driver.execute_script(opened) == 1
    shown = """return [...document.querySelectorAll('.card[data-face="2"] dt')]
        .filter(name => name.checkVisibility()).map(name => name.innerText)"""
    assert sorted(page.driver.execute_script(shown)) == sorted(EMOTIONS)


def test_a_correction_is_kept_and_exported(page: Page) -> None:
    Select(page.find("select", "What face 3 really shows")).select_by_visible_text("sad")
    page.settle()
    assert "1 correction in group.jpg" in page.text()
    assert page.find("select", "What face 3 really shows").get_attribute("value") == "sad"
    page.open_tab("All faces")
    data = page.download("Corrections", "corrections.zip")
    with zipfile.ZipFile(io.BytesIO(data)) as folder:
        (image, manifest) = folder.namelist()
        assert image.startswith("sad/") and manifest == "manifest.csv"


def test_a_report_opens_without_the_server(page: Page) -> None:
    page.open_tab("All faces")
    page.download("Report", "faces.html")
    page.driver.get((page.downloads / "faces.html").as_uri())
    assert page.answer() == "3 faces: 2 happy, 1 neutral, none unsure"
    script = "return document.images[0].naturalWidth * document.querySelectorAll('.box').length"
    assert page.driver.execute_script(script) == 3 * 1260
    (box,) = page.all('.box[data-face="3"]')
    assert box.size["width"] > 40 and len(page.all(".card")) == 3


def test_many_photos_are_thumbnails_that_open(page: Page, tmp_path: Path) -> None:
    page.upload(variants(tmp_path, 4))
    assert page.alts() == [] and page.answer().startswith("4 faces in 4 photos")
    page.click("002.png")
    assert page.alts() == ["002.png with 1 face"]
    page.click("All 4 photos")
    page.click("Remove all")
    assert page.is_sample()
    page.click("Undo")
    assert not page.is_sample() and page.find("button", "003.png")


def test_a_phone_scrolls_to_the_answer(server: Server) -> None:
    with Page(server.url, PHONE) as page:
        page.upload([SAMPLES / "hopper.jpg"])
        top = "return document.querySelector('.summary').getBoundingClientRect().top"
        wait_for(lambda: -1 < page.driver.execute_script(top) < 100, "the answer at the top")


def test_a_reload_keeps_the_settings(page: Page) -> None:
    page.move_slider("Threshold", 11)
    page.open_tab("All faces")
    page.driver.refresh()
    page.settle()
    assert "Threshold\n41%" in page.text() and "--threshold 0.41" in page.text()


def test_many_photos_can_be_cancelled_and_gone_on_with(page: Page, tmp_path: Path) -> None:
    page.upload(variants(tmp_path, 50), settle=False)
    page.click("Cancel")  # as soon as it is there
    left = re.search(r"Cancelled: (\d+) photos not analysed", page.text())
    assert left and 0 < int(left[1]) <= 50
    page.click("Go on")
    page.open_tab("All faces")
    table = page.download("CSV", "faces.csv").decode().splitlines()
    assert len(table) == 1 + 50
    assert len({line.split(",")[0] for line in table[1:]}) == 50


def test_a_large_photo_of_many_faces_stays_usable(page: Page, tmp_path: Path) -> None:
    with Image.open(SAMPLES / "hopper.jpg") as photo:
        one = np.array(photo.convert("RGB").resize((400, 428)))
    crowd = Image.fromarray(np.tile(one, (7, 10, 1)))
    assert crowd.width * crowd.height > 11_900_000
    crowd.save(tmp_path / "crowd.jpg", quality=90)
    page.upload([tmp_path / "crowd.jpg"])
    assert set(map(str.isdecimal, page.boxes())) == {True}  # numbers alone
    (alt,) = page.alts()
    found = re.match(r"crowd.jpg with (\d+) faces", alt)
    assert found and int(found[1]) >= 50
    assert len(page.labels()) == cards.FACES_AT_ONCE
    page.find("input[type=range]", "Threshold").send_keys(Keys.END)
    page.settle()
    assert page.labels() == ["unsure"] * cards.FACES_AT_ONCE
    page.open_tab("All faces")
    table = page.download("CSV", "faces.csv").decode().splitlines()
    assert len(table) == 1 + int(found[1])


def test_two_visitors_do_not_disturb_each_other(server: Server, tmp_path: Path) -> None:
    with Page(server.url) as one, Page(server.url) as other:
        one.upload(variants(tmp_path, 20), settle=False)
        other.upload([SAMPLES / "hopper.jpg"])
        [alt] = other.alts()
        assert alt == "hopper.jpg with 1 face"
        one.settle()
        assert one.answer() == "20 faces in 20 photos: 20 happy, none unsure"
        assert other.answer() == "1 face: 1 neutral, none unsure"


def timeless(text: str) -> str:
    return re.sub(r'"seconds":[\d.e-]+', '"seconds":0', text)
