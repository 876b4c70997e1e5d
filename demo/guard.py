"""What the server refuses, limits and frees, before and beside Streamlit."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit import config
from streamlit.starlette import App

from demo.session import FILE_BYTES, PHOTO_BYTES, TOO_LARGE, TOO_MANY, UNDO_SECONDS
from demo.visitors import close, photo_bytes, remove_download, visitors

GRACE = 40.0
"""Seconds after which the photos of a browser that has left are freed; until then it may return."""

DOWNLOAD_SECONDS = 20.0
"""Seconds for which a download's address answers after it was fetched."""

SESSION_BYTES = 2 * PHOTO_BYTES
"""Maximum of one visitor's photos, those included that still wait for their analysis."""

SERVER_BYTES = 2 << 30
"""Maximum of all visitors' photos together."""

HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "SAMEORIGIN",
    "referrer-policy": "no-referrer",
    # Streamlit's own scripts need inline code, evaluation and workers from blobs.
    "content-security-policy": "; ".join(
        (
            "default-src 'self'",
            "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
            "worker-src 'self' blob:",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "media-src 'self' data: blob:",
            "font-src 'self' data:",
            "connect-src 'self'",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'self'",
        )
    ),
}
"""Sent with every answer."""

_UPLOAD = re.compile(r"/_stcore/upload_file/([^/]+)/[^/]+$")
_DOWNLOAD = re.compile(r"(?<!/static)/media/([^/]+)$")
_HEAD_BYTES = 1 << 16


class Guard:
    """Middleware around the whole page.

    It answers only under names that are this server's (against DNS rebinding), and removes each
    download soon after it was fetched. An upload over a limit is replaced by a short mark, so that
    the page can name the file.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._arriving: Counter[str] = Counter()
        self._removals: dict[str, asyncio.TimerHandle] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if not is_own_host(headers.get("host", "")):
            await _refuse(scope, receive, send, 421, "This server has another name.")
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        upload = _UPLOAD.search(scope["path"]) if scope.get("method") == "PUT" else None
        if upload:
            await self._pass_upload(upload[1], scope, receive, send_guarded)
        else:
            await self.app(scope, receive, send_guarded)
        if (download := _DOWNLOAD.search(scope["path"])) and scope.get("method") == "GET":
            self._remove_later(download[1])

    def _remove_later(self, file: str) -> None:
        """Remove a download that was just fetched; browsers fetch it twice."""
        if file in self._removals:
            self._removals[file].cancel()

        def remove() -> None:
            del self._removals[file]
            remove_download(file)

        loop = asyncio.get_running_loop()
        self._removals[file] = loop.call_later(DOWNLOAD_SECONDS, remove)

    async def _pass_upload(self, visitor: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an upload on, or a mark in its place if it is over a limit."""
        length = Headers(scope=scope).get("content-length", "")
        if not length.isdecimal():
            await _refuse(scope, receive, send, 411, "The length is missing.")
            return
        size = int(length)
        mark = self._mark(visitor, size)
        if mark is not None:
            scope, receive = await _replaced(scope, receive, mark)
            size = 0
        self._arriving[visitor] += size
        try:
            await self.app(scope, receive, send)
        finally:
            self._arriving[visitor] -= size

    def _mark(self, visitor: str, size: int) -> bytes | None:
        """Return what takes the place of an upload of a visitor, if it is over a limit."""
        if size > FILE_BYTES + _HEAD_BYTES:
            return TOO_LARGE
        held = Counter({one.name: photo_bytes(one) for one in visitors()}) + self._arriving
        if held[visitor] + size > SESSION_BYTES or held.total() + size > SERVER_BYTES:
            return TOO_MANY
        return None


def is_own_host(host: str) -> bool:
    """Tell whether a ``Host`` header names this server.

    A page of another site can reach this server under that site's name (DNS rebinding), but neither
    under an address nor under ``localhost``. Other names come from Streamlit's options
    ``server.allowedHosts``, ``server.address`` and ``browser.serverAddress``.
    """
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return False
    with suppress(ValueError):
        ipaddress.ip_address(name)
        return True
    allowed = {"localhost", *(config.get_option("server.allowedHosts") or ())}
    allowed |= {config.get_option(o) for o in ("server.address", "browser.serverAddress")}
    return name in allowed or "*" in allowed


@asynccontextmanager
async def freeing(app: App) -> AsyncIterator[None]:
    """Free, while the server runs, what is kept for browsers that have left."""
    task = asyncio.create_task(_free_forever())
    yield
    task.cancel()


async def _free_forever() -> None:
    left: dict[str, float] = {}
    while True:
        await asyncio.sleep(GRACE / 8)
        left = free_left(left, time.monotonic())


def free_left(left: Mapping[str, float], now: float) -> dict[str, float]:
    """Close the visitors who left ``GRACE`` seconds ago or earlier; forget what was removed.

    ``left`` says when those who had left at the last call were first seen to have; the same for the
    next call is returned.
    """
    still: dict[str, float] = {}
    for visitor in visitors():
        if visitor.session is not None:
            visitor.session.forget_removed(UNDO_SECONDS)
        if not visitor.connected:
            since = left.get(visitor.name, now)
            if now - since >= GRACE:
                close(visitor)
            else:
                still[visitor.name] = since
    return still


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, text: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": text})
    else:
        await PlainTextResponse(text, status, HEADERS)(scope, receive, send)


async def _replaced(scope: Scope, receive: Receive, mark: bytes) -> tuple[Scope, Receive]:
    """Read an upload to its end; return the same request with a mark in place of the content."""
    head, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            break
        if b"\r\n\r\n" not in head and len(head) < _HEAD_BYTES:
            head += message.get("body", b"")
        more = message.get("more_body", False)
    boundary = head.partition(b"\r\n")[0]
    body = b"\r\n".join((head.partition(b"\r\n\r\n")[0], b"", mark, boundary + b"--", b""))
    sent = False

    async def receive_mark() -> Message:
        nonlocal sent
        if sent:
            return {"type": "http.disconnect"}
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(k, v) for k, v in scope["headers"] if k.lower() != b"content-length"]
    headers.append((b"content-length", str(len(body)).encode()))
    return {**scope, "headers": headers}, receive_mark
