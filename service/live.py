"""``WS /v1/stream``, frames in and results out, and ``/live``, the page that uses it."""

from __future__ import annotations

import asyncio
import io
import json
import math
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import APIRouter
from numpy.typing import NDArray
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from faces.command import UserError
from faces.draw import COLOURS
from faces.emotions import EMOTIONS
from faces.images import ImageError
from faces.pipeline import Image
from faces.sinks import Threshold, result_to_dict
from faces.types import Box, Detection
from service.batching import Analyzed, BusyError
from service.schemas import PredictOptions, check, parse_json
from service.settings import STATIC
from service.state import State
from video.analyze import Follower
from video.looks import Looks, describe
from video.mood import SmoothingOptions
from video.render import emoji
from video.tables import ROW_COLUMNS, face_rows
from video.tracking import CutDetector, TrackingOptions

router = APIRouter()

_TIME = struct.Struct(">d")
_EMOJI_PIXELS = 256


class Following:
    """Follows the faces of one stream, as ``twostage video`` does those of a video.

    Detections below the detector's threshold, which there may continue a track, do not come here.

    Args:
        source: what the rows call the stream.
        threshold: probability from which an emotion is a label.
    """

    def __init__(self, source: str, threshold: Threshold) -> None:
        self._source = source
        self._threshold = threshold
        self._start()

    def _start(self) -> None:
        tracking = TrackingOptions(high=0.0)
        self._follower = Follower(self._source, tracking, SmoothingOptions())
        self._cuts = CutDetector()
        self._index, self._time = 0, -math.inf

    def take(self, analyzed: Analyzed, time: float) -> dict[str, Any]:
        """Take in the next frame; returns what the stream answers.

        Args:
            analyzed: the frame.
            time: of the frame in seconds; one that goes back starts over.
        """
        if time <= self._time:
            self._start()
        look = _Look.of(analyzed, self._index, time, self._cuts(analyzed.image))
        frame = self._follower.take(look)
        self._index, self._time = self._index + 1, time
        return {
            **{"time": time, "width": frame.width, "height": frame.height, "cut": frame.cut},
            "seconds": analyzed.result.seconds,
            "faces": face_rows(frame, self._threshold),
        }


@dataclass(slots=True)
class _Look:
    """The networks' answers about one frame, see ``video.analyze.Look``."""

    index: int
    time: float
    width: int
    height: int
    cut: bool
    image: Image | None
    detections: list[Detection] | None
    looks: Looks
    rows: dict[Box, NDArray[np.float32]]

    @classmethod
    def of(cls, analyzed: Analyzed, index: int, time: float, cut: bool) -> _Look:
        result = analyzed.result
        rows = {
            face.box: np.asarray(face.emotions.probabilities, np.float32) for face in result.faces
        }
        detections = [face.detection for face in result.faces]
        image, looks = analyzed.image, describe(analyzed.image, [one.box for one in detections])
        size = result.width, result.height
        return cls(index, time, *size, cut, image, detections, looks, rows)

    def classify(self, boxes: Sequence[Box]) -> NDArray[np.float32]:
        return np.array([self.rows[box] for box in boxes]).reshape(-1, len(EMOTIONS))


@router.websocket("/v1/stream")
async def stream(socket: WebSocket) -> None:
    """Answer each frame, the bytes of an image file, with its result; nothing is kept.

    The first message is JSON: options of ``/v1/predict``, ``token`` where the service wants one,
    and ``follow``. A frame waits for the answer to the one before it. With ``follow``, eight bytes
    come before the image, its time in seconds as a big-endian double; the answer then has
    the rows of ``twostage video``, with tracks and smoothed probabilities.
    """
    state: State = socket.app.state.service
    await socket.accept()
    with suppress(WebSocketDisconnect, RuntimeError):
        try:
            options, following = await _greeting(state, socket)
            with state.streaming():
                while True:
                    async with asyncio.timeout(state.settings.seconds):
                        message = await socket.receive_bytes()
                    await socket.send_bytes(await _answer(state, message, options, following))
        except HTTPException as error:
            await socket.send_text(json.dumps({"detail": error.detail}))
        except (TimeoutError, KeyError):
            pass  # silent for too long, or text where a frame belongs
        await socket.close(1008)


async def _greeting(state: State, socket: WebSocket) -> tuple[PredictOptions, Following | None]:
    async with asyncio.timeout(state.settings.upload_seconds):
        fields = parse_json((await socket.receive_text()).encode("utf-8", "replace"))
    own = fields if isinstance(fields, dict) else {}
    token, follow, source = (own.pop(key, None) for key in ("token", "follow", "source"))
    if state.settings.token and not (isinstance(token, str) and state.guards_token(token)):
        raise HTTPException(401, "a token is needed")
    options = check(PredictOptions, fields)
    try:
        state.models.check(options.choice())
    except UserError as error:
        raise HTTPException(422, str(error)) from None
    if follow not in (None, True, False) or not isinstance(source, str | None):
        raise HTTPException(422, "follow: expected true or false; source: text")
    name = (source or "stream")[:200]
    return options, Following(name, options.threshold) if follow else None


async def _answer(
    state: State, message: bytes, options: PredictOptions, following: Following | None
) -> bytes:
    """Return the JSON of a frame's result, or of what went wrong with it."""
    time = 0.0
    if following is not None:
        if len(message) < _TIME.size:
            return b'{"detail":"expected the time, 8 bytes, and an image"}'
        (time,), message = _TIME.unpack_from(message), message[_TIME.size :]
        if not 0 <= time < 1e8:
            return b'{"detail":"expected a time in seconds, of 0 or more"}'
    if len(message) > state.settings.max_bytes:
        return b'{"detail":"the frame is too large"}'
    try:
        (answer,) = state.batcher.submit([("frame", message)], options.choice())
        analyzed = await asyncio.wait_for(answer, state.settings.seconds)
    except BusyError:
        return b'{"detail":"too many requests are waiting"}'
    except TimeoutError:
        return b'{"detail":"it took too long"}'
    except ImageError as error:
        return json.dumps({"detail": error.cause}).encode()
    except UserError:
        return b'{"detail":"this model is not installed here"}'
    plain = (
        result_to_dict(analyzed.result, options.threshold)
        if following is None
        else await asyncio.to_thread(following.take, analyzed, time)
    )
    return json.dumps(plain, allow_nan=False, separators=(",", ":")).encode()


@router.get("/live", include_in_schema=False)
async def page() -> Response:
    """Return the page."""
    return FileResponse(STATIC / "live.html")


@router.get("/live/settings", include_in_schema=False)
async def settings(request: Request) -> Response:
    """Return what the page shows, as ``twostage video SOURCE --show`` was told.

    ``source`` is "" where the page may choose a camera, ``camera:N``, or a file's name.
    """
    live = request.app.state.service.settings.live
    return JSONResponse(
        {
            "source": Path(live.get("source", "")).name,
            "overlay": live.get("overlay", "boxes"),
            "every": live.get("every") or 0.0,
            "options": live.get("options", {}),
            "columns": list(ROW_COLUMNS),
            "colours": {name: f"rgb{COLOURS[name]}" for name in EMOTIONS},
        }
    )


@router.get("/live/source", include_in_schema=False)
async def source(request: Request) -> Response:
    """Return the file that ``--show`` was given, in the pieces that a browser asks for."""
    path = Path(request.app.state.service.settings.live.get("source", ""))
    if not path.is_file():
        raise HTTPException(404, "there is no file to show")
    return FileResponse(path)


@router.get("/live/emoji/{emotion}.png", include_in_schema=False)
async def glyph(emotion: str) -> Response:
    """Return the drawing of an emotion."""
    if emotion not in EMOTIONS:
        raise HTTPException(404, "there is no such emotion")
    out = io.BytesIO()
    emoji(emotion, _EMOJI_PIXELS).save(out, "PNG")
    return Response(out.getvalue(), media_type="image/png")
