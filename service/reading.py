"""Requests → fields and files; what was not asked for stays in memory, never on a disk."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Any

from python_multipart.exceptions import FormParserError
from starlette.exceptions import HTTPException
from starlette.formparsers import FormParser, MultiPartException, MultiPartParser
from starlette.requests import Request

from faces.fetch import DeadLinkError, ForbiddenLinkError, Limits, fetch_image
from service.schemas import parse_json
from service.settings import Settings

FILES = "image_buf"
_FIELDS = 20
_TEXT = 100_000
"""Bytes of a body without files, and of one field beside files."""


@dataclass(frozen=True, slots=True)
class Received:
    """What a request holds.

    Attributes:
        fields: name → value, as sent.
        files: name and content of each image.
    """

    fields: dict[str, Any]
    files: list[tuple[str, bytes]]


async def receive(request: Request, settings: Settings, files: bool = True) -> Received:
    """Read a request: JSON, a form, or a form with files.

    Args:
        request: its body not yet read.
        settings: the limits.
        files: whether files may come.

    Raises:
        HTTPException: it is of another kind, or not as its header says.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise HTTPException(415, "compressed bodies are not read")
    if kind == "application/json":
        fields = parse_json(await _body(request))
        if not isinstance(fields, dict):
            raise HTTPException(422, "expected an object")
        return Received(fields, [])
    if kind not in ("multipart/form-data", "application/x-www-form-urlencoded"):
        raise HTTPException(415, "expected application/json or multipart/form-data")
    if kind != "multipart/form-data":
        await _body(request)
    elif not files:
        raise HTTPException(415, "expected application/json, or a form without files")
    try:
        if kind == "multipart/form-data":
            parser = MultiPartParser(
                request.headers,
                request.stream(),
                max_files=settings.max_files,
                max_fields=_FIELDS,
                max_part_size=_TEXT,
            )
            parser.spool_max_size = settings.max_bytes + _TEXT  # in memory
            form = await parser.parse()
        else:
            form = await FormParser(request.headers, request.stream()).parse()
    except (MultiPartException, FormParserError, UnicodeError, KeyError, ValueError):
        raise HTTPException(
            400, f"not a form as its header says, or more than {settings.max_files} files"
        ) from None
    received = Received({}, [])
    try:
        for name, value in form.multi_items():
            if not isinstance(value, str):
                if name != FILES:
                    raise HTTPException(422, f"files are called {FILES}")
                received.files.append((file_name(value.filename), await value.read()))
            elif name in received.fields:
                before = received.fields[name]
                received.fields[name] = [*(before if isinstance(before, list) else [before]), value]
            elif len(received.fields) < _FIELDS:
                received.fields[name] = value
            else:
                raise HTTPException(422, "too many fields")
    finally:
        await form.close()
    return received


async def _body(request: Request) -> bytes:
    """Return a body without files, which stays there to be parsed."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _TEXT:
            raise HTTPException(413, f"larger than {_TEXT // 1000} kB")
    request._body = bytes(body)
    request._stream_consumed = False
    return bytes(body)


def file_name(name: str | None) -> str:
    """Return the plain name of a file, as the answer calls the image."""
    plain = re.split(r"[/\\]", name or "")[-1]
    return re.sub(r"[\x00-\x1f\x7f]", "", plain)[:255] or "image"


class Fetcher:
    """Fetches the images that ``image_url`` names, a few at a time."""

    def __init__(self, settings: Settings) -> None:
        seconds = settings.seconds / 3
        self._limits = Limits(
            bytes=settings.max_bytes,
            connect=min(5.0, seconds),
            read=min(5.0, seconds),
            total=seconds,
            attempts=1,
        )
        self._private = settings.private_urls
        self._free = asyncio.Semaphore(4)

    async def fetch(self, url: str) -> bytes:
        """Return the file at an address.

        Raises:
            HTTPException: there is no image, or the address is not on the public internet.
        """
        async with self._free:
            try:
                return await asyncio.to_thread(fetch_image, url, self._limits, self._private)
            except ForbiddenLinkError:
                cause = "the address is not on the public internet"
            except DeadLinkError as error:
                cause = str(error).removeprefix(f"{url[:80]}: ")
            except (OSError, ValueError):
                cause = "no usable address"
        raise HTTPException(422, f"image_url: {cause[:200]}")
