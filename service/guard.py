"""What every request passes first: host, origin, rate, token, size, time. What answers carry.

One ASGI middleware, so that the limits hold while a body still comes in.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.metrics import ERRORS, REQUESTS, SECONDS
from service.settings import Settings

LOG = logging.getLogger("service")

OPEN = ("/", "/static/", "/live", "/live/", "/docs", "/openapi.json", "/v1/health")
"""Paths, and what lies below those that end in a slash, that need no token and have no rate."""

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; connect-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_DOCS_POLICY = _POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
_MOST_CLIENTS = 10_000


class Rate:
    """A bucket of tokens per client: ``per_minute`` on average, as many at once.

    Args:
        per_minute: requests; 0 lets all pass.
        clock: for tests.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_minute / 60
        self._most = float(per_minute)
        self._clock = clock
        self._clients: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, client: str) -> float:
        """Count one request; returns 0, or in how many seconds the next one may come."""
        if not self._most:
            return 0.0
        now = self._clock()
        left, since = self._clients.pop(client, (self._most, now))
        left = min(self._most, left + (now - since) * self._per_second)
        allowed = left >= 1
        self._clients[client] = (left - allowed, now)
        if len(self._clients) > _MOST_CLIENTS:
            self._clients.popitem(last=False)
        return 0.0 if allowed else (1 - left) / self._per_second


class Guard:
    """The middleware; see the module.

    Args:
        app: the application behind it.
        settings: the limits.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._rate = Rate(settings.per_minute)
        self._token = hashlib.sha256(settings.token.encode()).digest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._add_headers(MutableHeaders(scope=message), scope["path"])
            await send(message)

        refusal = self.refusal(scope)
        try:
            if refusal is None:
                limited = self._limited(receive) if scope["type"] == "http" else receive
                await self._app(scope, limited, answer)
            elif scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1008})
            else:
                await refusal(scope, receive, answer)
        except Exception as error:  # the type only: a message may hold what a client sent
            ERRORS.inc()
            LOG.error("%s: %s", _route(scope), _whereabouts(error))
            if scope["type"] == "http":
                body = {"detail": "the service failed; try again"}
                await JSONResponse(body, 500)(scope, receive, answer)
        if scope["type"] == "http":
            seconds = time.perf_counter() - start
            REQUESTS.labels(_route(scope), str(status)).inc()
            SECONDS.labels("total").observe(seconds)
            LOG.info("%s %s %d %.0f ms", scope["method"], _route(scope), status, seconds * 1000)

    def refusal(self, scope: Scope) -> JSONResponse | None:
        """Return the answer to a request that goes no further, or None."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        # A page of another site whose name now means this machine (DNS rebinding), or that posts.
        if self._settings.is_local() and not _is_local_name(host):
            return _refused(421, "the service answers under localhost only")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return _refused(403, "other sites may not use the service")
        if _is_open(scope["path"]):
            return None
        wait = self._rate.wait((scope.get("client") or ("",))[0])
        if wait:
            return _refused(429, "too many requests", {"Retry-After": str(int(wait) + 1)})
        if self._settings.token and scope["type"] == "http":
            kind, _, given = headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not self.is_token(given):
                return _refused(401, "a token is needed", {"WWW-Authenticate": "Bearer"})
        return None

    def is_token(self, given: str) -> bool:
        """Compare a token in constant time."""
        digest = hashlib.sha256(given.strip().encode("utf-8", "surrogatepass")).digest()
        return hmac.compare_digest(digest, self._token)

    def _limited(self, receive: Receive) -> Receive:
        """Return ``receive`` with limits of bytes and of time."""
        end = time.monotonic() + self._settings.upload_seconds
        # a multipart body has some text around its files
        most = self._settings.max_bytes + 100_000
        received = 0
        complete = False

        async def limited() -> Message:
            nonlocal received, complete
            if complete:  # from here on only the client's leaving is waited for
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.01, end - time.monotonic()))
            except TimeoutError:
                headers = {"Connection": "close"}
                raise HTTPException(408, "the request came in too slowly", headers) from None
            received += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if received > most:
                headers = {"Connection": "close"}
                raise HTTPException(413, f"larger than {most / 1e6:.3g} MB", headers)
            return message

        return limited

    def _add_headers(self, headers: MutableHeaders, path: str) -> None:
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "no-referrer"
        headers["Content-Security-Policy"] = _DOCS_POLICY if path == "/docs" else _POLICY
        headers["X-Twostage-Privacy"] = self._settings.privacy()
        headers.setdefault("Cache-Control", "no-store")


def _is_open(path: str) -> bool:
    return any(
        path == known or (known.endswith("/") and known != "/" and path.startswith(known))
        for known in OPEN
    ) or path.startswith("/v1/health/")


def _is_local_name(host: str) -> bool:
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    return name.lower() in ("localhost", "127.0.0.1", "[::1]") or name.startswith("127.")


def _refused(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, {**(headers or {}), "Connection": "close"})


def _route(scope: Scope) -> str:
    """Return the pattern of a request's path, never the path itself, which may hold an id."""
    return str(getattr(scope.get("route"), "path", "other"))


def _whereabouts(error: BaseException) -> str:
    """Return an error's type and where it was raised, without its message."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    place = f" at {at.tb_frame.f_globals.get('__name__')}:{at.tb_lineno}" if at else ""
    return f"{type(error).__name__}{place}"
