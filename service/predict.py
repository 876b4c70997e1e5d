"""``POST /v1/predict``: images in, faces and emotions out."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter
from numpy.typing import NDArray
from PIL import Image as Pillow
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from faces.command import UserError
from faces.crops import crop_face
from faces.draw import draw_faces, shrink
from faces.images import ImageError
from faces.sinks import result_to_dict
from service import tables
from service.batching import Analyzed, BusyError
from service.database import Kept
from service.models import Choice
from service.reading import FILES, receive
from service.schemas import PredictAnswer, PredictOptions, check, refusals
from service.state import State

router = APIRouter()

LARGEST_CROP = 512
"""Longer side in pixels of a crop in the database and in answers."""

_BUSY = {"Retry-After": "2"}
_FILE_FORM = PredictOptions.model_json_schema()
_FILE_FORM["properties"] = {
    FILES: {
        "type": "array",
        "items": {"type": "string", "format": "binary"},
        "description": "One or several files",
    },
    **_FILE_FORM["properties"],
    "threshold": {"type": "string", "default": "0.3", "examples": ["0.3", "happy=0.5,fear=0.2"]},
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": _FILE_FORM},
            "application/json": {
                "schema": PredictOptions.model_json_schema(),
                "example": {
                    "image_url": "https://upload.wikimedia.org/wikipedia/commons/5/55/Grace_Hopper.jpg",
                    "threshold": 0.3,
                },
            },
        },
    }
}


@router.post(
    "/v1/predict",
    responses={200: {"model": PredictAnswer}, **refusals(400, 408, 413, 415, 422, 503, 504)},
    openapi_extra=_BODY,
    response_class=Response,
)
async def predict(request: Request) -> Response:
    """Find the faces of one or several images and say which emotions they show."""
    state: State = request.app.state.service
    if state.batcher.full:
        raise HTTPException(503, "too many requests are waiting", _BUSY)
    with state.admitted():
        received = await receive(request, state.settings)
        options = check(PredictOptions, received.fields)
        try:
            state.models.check(options.choice())
        except UserError as error:
            raise HTTPException(422, str(error)) from None
        files = received.files
        if bool(files) == bool(options.image_url):
            raise HTTPException(422, f"give either {FILES} or image_url")
        try:
            async with asyncio.timeout(state.settings.seconds):
                if options.image_url:
                    files = [(options.image_url, await state.fetcher.fetch(options.image_url))]
                outcomes = await _analyze(state, request, files, options.choice())
                entries = [
                    await asyncio.to_thread(_entry, state, options, file, outcome)
                    for file, outcome in zip(files, outcomes, strict=True)
                ]
        except TimeoutError:
            raise HTTPException(504, "it took too long; try again later", _BUSY) from None
    if all("error" in entry for entry in entries):
        raise HTTPException(422, "; ".join(entry["error"] for entry in entries)[:1000])
    return json_answer({"results": entries})


async def _analyze(
    state: State, request: Request, files: Sequence[tuple[str, bytes]], choice: Choice
) -> list[Analyzed | ImageError]:
    """Wait for the models; stop waiting, and so cancel, when the client leaves.

    Raises:
        HTTPException: the queue is full, a model cannot be loaded, or the client left.
    """
    try:
        answers = state.batcher.submit(files, choice)
    except BusyError:
        raise HTTPException(503, "too many requests are waiting", _BUSY) from None
    gone = asyncio.create_task(_gone(request))
    try:
        waiting: set[asyncio.Future[Any]] = {gone, *answers}
        while waiting > {gone}:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if gone in done:
                raise HTTPException(499, "the client left")
    finally:
        gone.cancel()
        for answer in answers:
            answer.cancel()
    outcomes: list[Analyzed | ImageError] = []
    for answer in answers:
        try:
            outcomes.append(answer.result())
        except ImageError as error:
            outcomes.append(error)
        except UserError:
            raise HTTPException(422, "this model is not installed here") from None
    return outcomes


async def _gone(request: Request) -> None:
    """Return when the client has left; the body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _entry(
    state: State, options: PredictOptions, file: tuple[str, bytes], outcome: Analyzed | ImageError
) -> dict[str, Any]:
    """Store a result and return what the answer says of it; runs in a thread."""
    name, data = file
    if isinstance(outcome, ImageError):
        return {"source": name, "error": outcome.cause}
    image, result = outcome.image, outcome.result
    plain = result_to_dict(result, options.threshold)
    keeps = state.settings.keep
    crops: list[bytes] = []
    if keeps != "none" or options.crop_image:
        crops = [png(shrink(crop_face(image, f.box), LARGEST_CROP)) for f in result.faces]

    # what is kept
    until = time.time() + state.settings.crop_hours * 3600 if keeps == "feedback" else None
    kept = Kept(data if keeps == "all" else None, crops if keeps != "none" else (), until)
    detector, classifier = state.models.names(options.choice())
    row = tables.Image(
        sha256=hashlib.sha256(data).hexdigest(),
        width=result.width,
        height=result.height,
        detector=detector,
        classifier=classifier,
        weights=state.models.weights(options.choice()),
        options=options.model_dump(exclude={"image_url"}),
        faces=[
            tables.Face(
                number=number,
                **dict(zip(("x1", "y1", "x2", "y2"), map(float, face.box.as_tuple()), strict=True)),
                score=float(face.score),
                probabilities=list(face.emotions.probabilities),
            )
            for number, face in enumerate(result.faces, start=1)
        ],
    )
    image_id = state.database.add(row, kept)

    # what is answered
    for number, face in enumerate(plain["faces"], start=1):
        plain["faces"][number - 1] = {"face_index": number, **face}
        if options.crop_image:
            plain["faces"][number - 1]["crop"] = base64.b64encode(crops[number - 1]).decode()
    entry = {"image_id": image_id, **plain}
    if options.annotate_image:
        order = range(1, len(result.faces) + 1)  # that of face_index
        drawn = png(draw_faces(image, result, options.threshold, order))
        entry["annotated"] = base64.b64encode(drawn).decode()
    return entry


def png(image: NDArray[np.uint8]) -> bytes:
    """Return an image as PNG."""
    out = io.BytesIO()
    Pillow.fromarray(image).save(out, "PNG", compress_level=1)
    return out.getvalue()


def json_answer(content: dict[str, Any]) -> Response:
    """Return strict JSON in UTF-8."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text.encode("utf-8", "backslashreplace"), media_type="application/json")
