"""Attacks on the service: each is refused with a plain sentence, and the service goes on."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import struct
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from starlette.websockets import WebSocketDisconnect

from faces.command import UserError
from service.guard import Guard, Rate
from service.settings import Settings
from tests.service.conftest import Start, png

TOKEN = "correct horse battery staple"


def post(client: Any, **given: Any) -> Any:
    return client.post("/v1/predict", **given)


def bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """Return a small PNG that says it is huge."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(10_000_000), 9)
    chunks = [(b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


NESTED = "[" * 50_000 + "]" * 50_000
JSON = {"Content-Type": "application/json"}
ATTACKS: dict[str, tuple[int, dict[str, Any]]] = {
    "decompression bomb": (422, {"files": {"image_buf": ("a.png", bomb())}}),
    "too many bytes": (413, {"files": {"image_buf": ("a.png", bytes(3_000_000))}}),
    "too many files": (400, {"files": [("image_buf", ("a", b"x"))] * 17}),
    "too many fields": (400, {"files": {"a": ("a", b"")}, "data": {f"f{n}": 1 for n in range(30)}}),
    "file of another name": (422, {"files": {"image": ("a.png", b"x")}}),
    "path as a name": (422, {"files": {"image_buf": ("../../etc/passwd", b"")}}),
    "deep JSON": (400, {"content": f'{{"image_url": {NESTED[:40_000]}}}', "headers": JSON}),
    "nested JSON": (400, {"content": "[" * 20 + "]" * 20, "headers": JSON}),
    "long JSON": (413, {"content": f'{{"image_url": "{"a" * 200_000}"}}', "headers": JSON}),
    "NaN": (400, {"content": '{"min_face": NaN}', "headers": JSON}),
    "JSON that is no object": (422, {"content": "[1]", "headers": JSON}),
    "a huge number": (400, {"content": f'{{"min_face": {"9" * 5000}}}', "headers": JSON}),
    "not UTF-8": (400, {"content": b'{"image_url": "\xff\xfe"}', "headers": JSON}),
    "no image at all": (422, {"json": {}}),
    "image and address": (
        422,
        {"files": {"image_buf": ("a", b"x")}, "data": {"image_url": "http://a.test/"}},
    ),
    "another body": (415, {"content": b"<a/>", "headers": {"Content-Type": "text/xml"}}),
    "compressed body": (
        415,
        {"content": b"x", "headers": {**JSON, "Content-Encoding": "gzip"}},
    ),
    "a boundary that never comes": (
        400,
        {"content": b"x" * 999, "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
    ),
    "no boundary": (400, {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}),
    "a folder as a model": (422, {"json": {"image_url": "http://a.test/", "detector": "/etc"}}),
    "a model out of a folder": (
        422,
        {"json": {"image_url": "http://a.test/", "classifier": "../weights/blend"}},
    ),
    "file address": (422, {"json": {"image_url": "file:///etc/passwd"}}),
    "gopher address": (422, {"json": {"image_url": "gopher://127.0.0.1:6379/_FLUSHALL"}}),
    "this machine": (422, {"json": {"image_url": "http://127.0.0.1:22/"}}),
    "this machine as a number": (422, {"json": {"image_url": "http://2130706433/"}}),
    "this machine in IPv6": (422, {"json": {"image_url": "http://[::ffff:127.0.0.1]/"}}),
    "metadata of a cloud": (422, {"json": {"image_url": "http://169.254.169.254/latest/"}}),
    "a private network": (422, {"json": {"image_url": "http://10.0.0.1/a.jpg"}}),
    "no address": (422, {"json": {"image_url": "http://"}}),
    "an address with a new line": (422, {"json": {"image_url": "http://a\r\nHost: b/"}}),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_and_tells_nothing(start: Start, image: bytes, name: str) -> None:
    client = start(max_bytes=2_000_000)
    status, request = ATTACKS[name]
    answer = post(client, **request)
    assert answer.status_code == status, answer.text
    detail = answer.json()["detail"]
    for word in ("Traceback", "/tmp", "site-packages", ".py", "passwd", "10.0.0.1", "169.254"):
        assert word not in detail
    assert post(client, files={"image_buf": ("a.png", image)}).status_code == 200


class Redirecting(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.seen.append(self.path)  # type: ignore[attr-defined]
        if self.path == "/image.png":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(png())
        else:
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:1/secret")
            self.end_headers()

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Redirecting)
    server.seen = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_image_url_is_fetched_where_the_operator_allows_its_network(
    start: Start, site: str
) -> None:
    client = start(private_urls=True)
    (found,) = post(client, json={"image_url": f"{site}/image.png"}).json()["results"]
    assert len(found["faces"]) == 2 and found["source"] == f"{site}/image.png"


def test_a_name_that_resolves_to_this_machine_is_refused(
    start: Start, site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo

    def rebound(host: str, *rest: Any, **named: Any) -> Any:
        return resolve("127.0.0.1" if host == "photos.test" else host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    url = site.replace("127.0.0.1", "photos.test") + "/image.png"
    answer = post(start(), json={"image_url": url})
    assert answer.status_code == 422
    assert answer.json()["detail"] == "image_url: the address is not on the public internet"


def test_without_the_token_only_the_page_and_health_answer(start: Start, image: bytes) -> None:
    client = start(token=TOKEN)
    for path in ("/v1/models", "/v1/feedback/stats", "/metrics"):
        for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
            answer = client.get(path, headers=given)
            assert answer.status_code == 401 and answer.headers["WWW-Authenticate"] == "Bearer"
    assert post(client, files={"image_buf": ("a", image)}).status_code == 401
    assert client.get("/v1/health/live").status_code == client.get("/").status_code == 200
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert client.get("/v1/models", headers=right).status_code == 200
    assert post(client, files={"image_buf": ("a", image)}, headers=right).status_code == 200


def test_a_stream_needs_the_token_in_its_first_message(start: Start, image: bytes) -> None:
    client = start(token=TOKEN)
    for first, key in (({"token": "wrong"}, "detail"), ({"token": TOKEN}, "faces")):
        with client.websocket_connect("/v1/stream", headers={"host": "localhost"}) as stream:
            stream.send_text(json.dumps(first))
            stream.send_bytes(image)
            assert key in json.loads(stream.receive()[("bytes", "text")[key == "detail"]])


@pytest.mark.parametrize("origin", ["https://evil.test", "null", "http://localhost:9999"])
def test_pages_of_other_sites_cannot_use_the_service(
    start: Start, image: bytes, origin: str
) -> None:
    client = start()
    headers = {"Origin": origin}
    assert post(client, files={"image_buf": ("a", image)}, headers=headers).status_code == 403
    assert client.options("/v1/predict", headers=headers).status_code == 403
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect("/v1/stream", headers={"host": "localhost", **headers}),
    ):
        pass
    own = {"Origin": "http://localhost"}
    answer = post(client, files={"image_buf": ("a", image)}, headers=own)
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


def test_a_name_that_means_this_machine_by_rebinding_is_refused(start: Start) -> None:
    assert start(host="evil.test").get("/v1/models").status_code == 421
    settings = {"host": "0.0.0.0", "no_token": True}
    assert Guard(None, Settings(**settings)).refusal(scope("evil.test")) is None  # type: ignore[arg-type]


def scope(host: str) -> dict[str, Any]:
    return {"type": "http", "path": "/v1/models", "headers": [(b"host", host.encode())]}


def test_a_client_beyond_its_rate_waits(start: Start) -> None:
    client = start(per_minute=3)
    statuses = [client.get("/v1/models") for _ in range(4)]
    assert [answer.status_code for answer in statuses] == [200, 200, 200, 429]
    assert 1 <= int(statuses[-1].headers["Retry-After"]) <= 21
    assert client.get("/v1/health/live").status_code == 200


def test_the_rate_refills_per_client() -> None:
    now = 0.0
    rate = Rate(60, lambda: now)
    assert [rate.wait("a") > 0 for _ in range(61)] == [False] * 60 + [True]
    assert rate.wait("b") == 0
    now = 2.0
    assert [rate.wait("a") > 0 for _ in range(3)] == [False, False, True]


def test_a_slow_sender_gets_408() -> None:
    sent: list[dict[str, Any]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        from starlette.exceptions import HTTPException

        try:
            while (await receive()).get("more_body"):
                pass
        except HTTPException as error:
            sent.append({"status": error.status_code})

    async def slowly() -> dict[str, Any]:
        await asyncio.sleep(0.05)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(message: Any) -> None:
        pass

    guard = Guard(application, Settings(upload_seconds=0.3))
    asyncio.run(guard(scope("localhost") | {"method": "POST"}, slowly, send))
    assert sent == [{"status": 408}]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"host": "0.0.0.0"}, "--no-token"),
        ({"host": "192.168.1.4"}, "--token"),
        ({"host": "example.org"}, "--token"),
        ({"token": "short"}, "16 or more"),
        ({"keep": "some"}, "none, feedback, all"),
        ({"port": 70000}, "65535"),
        ({"seconds": 0.0}, "--seconds"),
        ({"processes": 0}, "--processes"),
    ],
)
def test_settings_that_are_not_safe_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Settings(**given)


def test_settings_reach_other_processes() -> None:
    settings = Settings(host="::1", token=TOKEN, per_minute=7)
    assert Settings.from_text(settings.to_text()) == settings
    assert settings.is_local()


def test_answers_forbid_what_pages_do_not_need(start: Start) -> None:
    headers = start().get("/").headers
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"


def test_nothing_personal_is_logged(
    start: Start, image: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "service")
    client = start()
    found = post(client, files={"image_buf": ("anna.png", image)}).json()["results"][0]
    client.delete(f"/v1/images/{found['image_id']}")
    client.get("/v1/nothing/anna")
    text = caplog.text
    assert "POST /v1/predict 200" in text and "DELETE /v1/images/{image_id} 204" in text
    assert "anna" not in text and found["image_id"] not in text and "testclient" not in text


def test_file_names_lose_folders_and_control_characters(start: Start, image: bytes) -> None:
    name = "..\\..\\a/b\x07c.png"
    from service.reading import file_name

    assert file_name(name) == "bc.png"
    assert file_name(None) == file_name("/") == "image"
    assert len(io.BytesIO(file_name("x" * 999).encode()).getvalue()) == 255
