"""What the server refuses, limits and frees, without a browser."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartParser
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send
from streamlit import config

from demo import guard
from demo.guard import Guard, free_left, is_own_host
from demo.session import FILE_BYTES, TOO_LARGE, TOO_MANY, Session
from demo.visitors import Visitor

UPLOAD = "/_stcore/upload_file/visitor/file"


class Page:
    """Stands in for Streamlit: remembers the file of each upload."""

    def __init__(self) -> None:
        self.asked = 0
        self.uploads: list[tuple[str | None, bytes]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked += 1
        if scope.get("method") == "PUT":
            for value in (await Request(scope, receive).form()).values():
                assert isinstance(value, UploadFile)
                self.uploads.append((value.filename, await value.read()))
        await PlainTextResponse("ok")(scope, receive, send)


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "visitors", list)


def ask(app: Any, path: str = "/", kind: str = "http", **request: Any) -> list[Message]:
    """Send one request; return what is answered."""
    headers = {"host": "localhost:8501"} | request.get("headers", {})
    scope = {
        "type": kind,
        "path": path,
        "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
    }
    if kind == "http":
        scope["method"] = request.get("method", "GET")
    chunks = request.get("chunks", [b""])
    messages = [{"type": "http.request", "body": c, "more_body": True} for c in chunks]
    messages[-1]["more_body"] = False
    answers: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        answers.append(message)

    asyncio.run(app(scope, receive, send))
    return answers


def upload(app: Any, data: bytes, name: str = "a b.jpg", chunk: int = 37) -> list[Message]:
    """Send a file as browsers do."""
    body = (
        b'--XX\r\nContent-Disposition: form-data; name="x"; filename="' + name.encode() + b'"\r\n'
        b"Content-Type: image/jpeg\r\n\r\n" + data + b"\r\n--XX--\r\n"
    )
    headers = {
        "content-type": "multipart/form-data; boundary=XX",
        "content-length": str(len(body)),
    }
    chunks = [body[start : start + chunk] for start in range(0, len(body), chunk)]
    return ask(app, UPLOAD, method="PUT", headers=headers, chunks=chunks)


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("localhost:8501", True),
        ("LOCALHOST", True),
        ("127.0.0.1:8501", True),
        ("192.168.1.7", True),
        ("[::1]:8501", True),
        ("rebound.example", False),
        ("localhost.rebound.example", False),
        ("127.0.0.1.rebound.example:8501", False),
        ("faces.example.org", False),
        ("", False),
        ("[", False),
    ],
)
def test_only_addresses_and_own_names_are_own_hosts(host: str, own: bool) -> None:
    assert is_own_host(host) == own


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("server.allowedHosts", ["faces.example.org"]),
        ("browser.serverAddress", "faces.example.org"),
    ],
)
def test_a_host_named_in_the_options_is_own(option: str, value: Any) -> None:
    before = config.get_option(option)
    config.set_option(option, value)
    try:
        assert is_own_host("faces.example.org:443")
        assert not is_own_host("other.example.org")
    finally:
        config.set_option(option, before)


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_a_request_under_a_foreign_name_is_refused(kind: str) -> None:
    page = Page()
    answers = ask(Guard(page), kind=kind, headers={"host": "rebound.example"})
    assert page.asked == 0
    assert answers[0].get("status", answers[0].get("code")) in (421, 1008)


def test_every_answer_carries_the_protective_headers() -> None:
    for host in ("localhost", "rebound.example"):
        start = ask(Guard(Page()), headers={"host": host})[0]
        headers = Headers(raw=start["headers"])
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "SAMEORIGIN"
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy and "frame-ancestors 'self'" in policy


def test_an_upload_within_the_limits_passes_unchanged() -> None:
    page = Page()
    upload(Guard(page), b"\xff\xd8 photo \r\n\r\n", "ü :smile:.jpg")
    assert page.uploads == [("ü :smile:.jpg", b"\xff\xd8 photo \r\n\r\n")]


def test_an_upload_over_the_limit_becomes_a_mark_under_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guard, "FILE_BYTES", 100)
    monkeypatch.setattr(guard, "_HEAD_BYTES", 200)
    page = Page()
    app = Guard(page)
    upload(app, bytes(1000), "large.jpg")
    upload(app, bytes(90), "small.jpg")
    assert page.uploads == [("large.jpg", TOO_LARGE), ("small.jpg", bytes(90))]


@pytest.mark.parametrize("bound", ["SESSION_BYTES", "SERVER_BYTES"])
def test_uploads_over_the_total_become_a_mark(monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    name = "visitor" if bound == "SESSION_BYTES" else "another"
    monkeypatch.setattr(guard, "visitors", lambda: [Visitor(name, True, None)])
    monkeypatch.setattr(guard, "photo_bytes", lambda visitor: 5000)
    monkeypatch.setattr(guard, bound, 5600)
    page = Page()
    app = Guard(page)
    upload(app, bytes(1000), "one.jpg")
    upload(app, bytes(100), "two.jpg")
    assert page.uploads == [("one.jpg", TOO_MANY), ("two.jpg", bytes(100))]


def test_an_upload_without_its_length_is_refused() -> None:
    page = Page()
    (start, _) = ask(Guard(page), UPLOAD, method="PUT")
    assert (start["status"], page.asked) == (411, 0)


def test_a_fetched_download_is_removed_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[str] = []
    monkeypatch.setattr(guard, "remove_download", removed.append)
    monkeypatch.setattr(guard, "DOWNLOAD_SECONDS", 0.05)
    page = Guard(Page())

    async def twice_and_wait(scope: Scope, receive: Receive, send: Send) -> None:
        await page(scope, receive, send)
        await page(scope, receive, send)
        assert removed == []
        await asyncio.sleep(0.2)

    ask(twice_and_wait, "/static/media/font.woff2")
    assert removed == []
    ask(twice_and_wait, "/media/0ab.png")
    assert removed == ["0ab.png"]


def test_visitors_who_left_are_closed_after_the_grace_and_others_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, gone = Visitor("here", True, None), Visitor("gone", False, None)
    closed: list[Visitor] = []
    monkeypatch.setattr(guard, "visitors", lambda: [here, gone])
    monkeypatch.setattr(guard, "close", closed.append)
    left = free_left({}, 100.0)
    assert left == {"gone": 100.0}
    left = free_left(left, 99.9 + guard.GRACE)
    assert closed == []
    assert free_left(left, 100.0 + guard.GRACE) == {}
    assert closed == [gone]
    assert guard.GRACE * 9 / 8 < 60  # freed within a minute, as the page says


def test_a_visitor_who_returns_in_time_is_not_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "close", lambda visitor: pytest.fail("closed"))
    monkeypatch.setattr(guard, "visitors", lambda: [Visitor("one", True, None)])
    left = free_left({"one": 0.0}, 1000.0)
    monkeypatch.setattr(guard, "visitors", lambda: [Visitor("one", False, None)])
    assert free_left(left, 1001.0) == {"one": 1001.0}


def test_what_visitors_removed_is_forgotten_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(("sample.png", b""))
    session.add([("a.png", b"photo")])
    session.remove(session.photos)
    monkeypatch.setattr(guard, "visitors", lambda: [Visitor("here", True, session)])
    free_left({}, 0.0)
    assert session.removed and session.photo_bytes == 5
    monkeypatch.setattr(guard, "UNDO_SECONDS", 0.0)
    free_left({}, 0.0)
    assert not session.removed and session.photo_bytes == 0


def test_the_server_s_parser_keeps_whole_uploads_in_memory() -> None:
    from demo import app  # noqa: F401

    assert MultiPartParser.spool_max_size > FILE_BYTES + guard._HEAD_BYTES
