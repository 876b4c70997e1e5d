"""The downloader against a local server that stalls, redirects, truncates and lies."""

from __future__ import annotations

import io
import ipaddress
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detection import dataturks
from faces.fetch import Limits, Outcome, Wanted, fetch_all, is_public, summary

FAST = Limits(bytes=30_000, connect=0.5, read=0.4, total=1.2, attempts=2, pause=0.01, redirects=3)


def picture(kind: str = "jpeg") -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (60, 50, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, kind)
    return out.getvalue()


PICTURE = picture()


class Handler(BaseHTTPRequestHandler):
    """Behaves as the path says."""

    server: Server

    def do_GET(self) -> None:
        path = self.path.strip("/").split("/")[0]
        self.server.seen[path] += 1
        getattr(self, f"on_{path.partition('.')[0]}", self.missing)()

    def log_message(self, *args: Any) -> None:
        pass

    def answer(
        self, body: bytes, kind: str = "image/jpeg", length: int | None = None, status: int = 200
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length != -1:
            self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def missing(self) -> None:
        self.answer(b"gone", status=404)

    def on_good(self) -> None:
        self.answer(PICTURE)

    def on_mislabelled(self) -> None:
        self.answer(picture("png"), "text/html")

    def on_html(self) -> None:
        self.answer(b"<html>moved</html>", "image/jpeg")

    def on_half(self) -> None:
        self.answer(PICTURE[: len(PICTURE) // 2])

    def on_truncated(self) -> None:
        self.answer(PICTURE[:1000], length=len(PICTURE))

    def on_flaky(self) -> None:
        if self.server.seen["flaky.jpg"] == 1:
            self.answer(b"", status=503)
        else:
            self.answer(PICTURE)

    def on_stalls(self) -> None:
        self.server.released.wait(5)

    def on_drips(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.drip(b"x")

    def on_dripsheaders(self) -> None:
        self.wfile.write(b"HTTP/1.0 200 OK\r\nX-Long: ")
        self.drip(b"x")

    def drip(self, piece: bytes) -> None:
        while not self.server.released.wait(0.1):
            self.wfile.write(piece)

    def on_huge(self) -> None:
        self.answer(b"x", length=10**12)

    def on_endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(b"\0" * 10_000)

    def on_gzip(self) -> None:
        self.send_response(200)
        self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(PICTURE)

    def redirect(self, target: str) -> None:
        self.send_response(302)
        self.send_header("Location", target)
        self.end_headers()
        self.wfile.write(b"endless? " * 100)

    def on_moved(self) -> None:
        self.redirect("/good.jpg")

    def on_loop(self) -> None:
        self.redirect("/loop.jpg")

    def on_tofile(self) -> None:
        self.redirect("file:///etc/hostname")

    def on_toftp(self) -> None:
        self.redirect("ftp://host/good.jpg")

    def on_oddlength(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "many")
        self.end_headers()
        self.wfile.write(b"x")

    def on_garbage(self) -> None:
        self.wfile.write(b"\0\1\2 no HTTP\r\n\r\n")


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: Counter[str] = Counter()
        self.released = threading.Event()

    def handle_error(self, *args: Any) -> None:
        pass  # clients hang up on purpose

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, args=(0.02,))
    thread.start()
    yield made
    made.released.set()
    made.shutdown()
    thread.join()
    made.server_close()


def get(server: Server, folder: Path, *paths: str, private: bool = True) -> list[Outcome]:
    wanted = [Wanted(f"{server.url}/{path}", path) for path in paths]
    return list(fetch_all(wanted, folder, FAST, workers=8, private=private))


def test_what_is_a_picture_is_kept_as_it_is(server: Server, tmp_path: Path) -> None:
    paths = ("good.jpg", "moved.jpg", "mislabelled.jpg", "flaky.jpg", "gzip.jpg")
    found = get(server, tmp_path / "new", *paths)
    assert [o.status for o in found] == ["fetched"] * 5
    assert (tmp_path / "new" / "good.jpg").read_bytes() == PICTURE
    assert (tmp_path / "new" / "moved.jpg").read_bytes() == PICTURE
    assert server.seen["flaky.jpg"] == 2
    assert (tmp_path / "new" / "gzip.jpg").read_bytes() == PICTURE  # it was not compressed
    assert len(list((tmp_path / "new").iterdir())) == 5


@pytest.mark.parametrize(
    ("path", "cause", "times"),
    [
        ("none.jpg", "HTTP status 404", 1),
        ("html.jpg", "no image (image/jpeg)", 1),
        ("half.jpg", "no image (image/jpeg)", 1),
        ("truncated.jpg", "the answer broke off", 2),
        ("stalls.jpg", "no answer in time", 2),
        ("drips.jpg", "not there after 1.2 s", 2),
        ("dripsheaders.jpg", "not there after 1.2 s", 2),
        ("huge.jpg", "larger than 0.03 MB", 1),
        ("endless.jpg", "larger than 0.03 MB", 1),
        ("loop.jpg", "more than 3 redirects", 4),
        ("tofile.jpg", "neither http nor https", 1),
        ("toftp.jpg", "neither http nor https", 1),
        ("oddlength.jpg", "no usable address or answer", 1),
        ("garbage.jpg", "the answer broke off", 2),
    ],
)
def test_servers_that_misbehave(
    server: Server, tmp_path: Path, path: str, cause: str, times: int
) -> None:
    start = time.monotonic()
    (outcome,) = get(server, tmp_path, path)
    assert time.monotonic() - start < 10
    assert outcome.status == "dead" and cause in outcome.cause
    assert server.seen[path] == times
    assert not list(tmp_path.iterdir())


def test_going_on_fetches_only_what_is_missing(server: Server, tmp_path: Path) -> None:
    (tmp_path / "good.jpg").write_bytes(b"mine")
    found = get(server, tmp_path, "good.jpg", "none.jpg", "moved.jpg")
    assert [o.status for o in found] == ["there", "dead", "fetched"]
    assert (tmp_path / "good.jpg").read_bytes() == b"mine" and server.seen["good.jpg"] == 1
    about = summary(found)
    assert (about["pictures"], about["fetched"], about["there"], about["dead"]) == (3, 1, 1, 1)
    (dead,) = about["dead_links"]
    assert dead["name"] == "none.jpg" and dead["cause"] == "HTTP status 404"


def test_private_addresses_are_refused_without_a_connection(server: Server, tmp_path: Path) -> None:
    found = get(server, tmp_path, "good.jpg", private=False)
    assert "127.0.0.1, not on the public internet" in found[0].cause
    port = server.server_port
    for host in ("localhost", "[::1]", "[::ffff:127.0.0.1]", "127.1", "0x7f000001", "0.0.0.0"):
        wanted = [Wanted(f"http://{host}:{port}/good.jpg", "a.jpg")]
        (outcome,) = fetch_all(wanted, tmp_path, FAST)
        assert outcome.status == "dead", host
    assert not server.seen


Answers = dict[str, list[list[str]]]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch, server: Server) -> Answers:
    """Host name → the addresses that each look-up gives in turn; 93.184.216.34 is this server."""
    answers: Answers = {}
    resolve, connect = socket.getaddrinfo, socket.socket.connect

    def look_up(host: str, port: int, *args: Any, **more: Any) -> Any:
        if host not in answers:
            return resolve(host, port, *args, **more)
        found = answers[host].pop(0) if len(answers[host]) > 1 else answers[host][0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in found]

    def redirected(self: socket.socket, address: Any) -> None:
        if address[0] == "93.184.216.34":
            address = ("127.0.0.1", server.server_port)
        connect(self, address)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(socket.socket, "connect", redirected)
    return answers


def test_a_public_host_is_reached(names: Answers, server: Server, tmp_path: Path) -> None:
    names["photos.test"] = [["93.184.216.34"]]
    (outcome,) = fetch_all([Wanted("http://photos.test/good.jpg", "a.jpg")], tmp_path, FAST)
    assert outcome.status == "fetched", outcome.cause


def test_a_redirect_to_a_private_address_is_refused(
    names: Answers, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names["photos.test"] = [["93.184.216.34"]]
    target = f"http://127.0.0.1:{server.server_port}/good.jpg"
    monkeypatch.setattr(Handler, "on_moved", lambda self: self.redirect(target))
    (outcome,) = fetch_all([Wanted("http://photos.test/moved.jpg", "a.jpg")], tmp_path, FAST)
    assert "not on the public internet" in outcome.cause
    assert server.seen == {"moved.jpg": 1}


def test_a_name_that_changes_its_meaning_is_looked_up_once(
    names: Answers, server: Server, tmp_path: Path
) -> None:
    """DNS rebinding: public when checked, private a moment later, when connecting."""
    names["rebind.test"] = [["93.184.216.34"], ["127.0.0.1"]]
    wanted = [Wanted(f"http://rebind.test:{server.server_port}/good.jpg", "a.jpg")]
    (outcome,) = fetch_all(wanted, tmp_path, FAST)
    assert outcome.status == "fetched" and names["rebind.test"] == [["127.0.0.1"]]
    names["mixed.test"] = [["93.184.216.34", "10.0.0.1"]]
    (outcome,) = fetch_all([Wanted("http://mixed.test/good.jpg", "b.jpg")], tmp_path, FAST)
    assert "10.0.0.1, not on the public internet" in outcome.cause


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True), ("2606:4700::1111", True), ("64:ff9b::808:808", True),
        ("127.0.0.1", False), ("10.1.2.3", False), ("172.16.0.1", False), ("192.168.1.1", False),
        ("169.254.169.254", False), ("100.64.0.1", False), ("0.0.0.0", False),
        ("224.0.0.1", False), ("255.255.255.255", False), ("::1", False), ("fe80::1", False),
        ("fc00::1", False), ("::ffff:10.0.0.1", False), ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False), ("2001:0:a00:1::", False), ("ff02::1", False), ("::", False),
    ],
)  # fmt: skip
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a\\b", "a\0b", "x" * 300])
def test_names_that_leave_the_folder_are_refused(server: Server, tmp_path: Path, name: str) -> None:
    (outcome,) = fetch_all([Wanted(f"{server.url}/good.jpg", name)], tmp_path, FAST, private=True)
    assert "cannot be used" in outcome.cause and not server.seen
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("ftp://host/a.jpg", "neither http nor https"),
        ("a.jpg", "neither http nor https"),
        ("file:///etc/passwd", "neither http nor https"),
        ("http://", "no usable address"),
        ("http://[::1/a.jpg", "no usable address"),
        ("http://host:99999/a.jpg", "no usable address"),
        ("http://no-such-host.test/a.jpg", "no such host"),
        ("http://" + "x" * 80 + ".test/a.jpg", "no such host"),
    ],
)
def test_addresses_that_are_none(
    tmp_path: Path, url: str, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo

    def look_up(host: str, *args: Any, **more: Any) -> Any:
        if host == "no-such-host.test":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    (outcome,) = fetch_all([Wanted(url, "a.jpg")], tmp_path, FAST)
    assert cause in outcome.cause, outcome.cause


def export(path: Path, *urls: str) -> Path:
    path.write_text("\n".join(json.dumps({"content": u, "annotation": None}) for u in urls))
    return path


def test_the_command(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = export(tmp_path / "f.json", f"{server.url}/good.jpg", f"{server.url}/none.jpg")
    out = tmp_path / "images"
    command = ["download", "--json", str(file), "--out", str(out)]
    assert dataturks.main(command) == 1
    assert "2 links are dead" in capsys.readouterr().out and not server.seen
    assert dataturks.main([*command, "--private"]) == 1
    text = capsys.readouterr().out
    assert "1 of 2 pictures fetched, 0 were there, 1 links are dead" in text
    assert "1 dead: HTTP status 404" in text
    report = json.loads((out / "download.json").read_text())
    assert report["dead_links"][0]["url"].endswith("none.jpg")
    records, _ = dataturks.read_dataturks(file)
    assert len(dataturks.find_images(records, out)[0]) == 1
    export(file, f"{server.url}/good.jpg")
    assert dataturks.main([*command, "--private"]) == 0
    assert "0 of 1 pictures fetched, 1 were there" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = export(tmp_path / "f.json", f"{server.url}/good.jpg")
    (tmp_path / "taken").write_text("")
    command = ["download", "--json", str(file), "--out", str(tmp_path / "taken"), "--private"]
    assert dataturks.main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith("detection.dataturks: ") and "taken" in error and error.count("\n") == 1
