"""``/v1/feedback`` and ``/v1/images``: what people say of faces, and what they want deleted."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from fastapi import Path as PathParameter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from service.predict import json_answer
from service.reading import receive
from service.schemas import FeedbackAnswer, FeedbackRequest, Stats, check, refusals
from service.state import State

router = APIRouter()

_SCHEMA = FeedbackRequest.model_json_schema()
_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": _SCHEMA}}}}


@router.post(
    "/v1/feedback",
    responses={200: {"model": FeedbackAnswer}, **refusals(400, 404, 408, 413, 415, 422)},
    openapi_extra=_BODY,
    response_class=Response,
)
async def give_feedback(request: Request) -> Response:
    """Say what a face really shows; again by the same sender replaces what was said."""
    state: State = request.app.state.service
    received = await receive(request, state.settings, files=False)
    said = check(FeedbackRequest, received.fields)
    client = request.client.host if request.client else ""
    stored = await asyncio.to_thread(
        state.database.give_feedback,
        said.image_id,
        said.face_index,
        said.feedback,
        f"name {said.sender}" if said.sender else f"address {client}",
    )
    if not stored:
        raise HTTPException(404, "there is no such face, or it was deleted")
    return json_answer(
        {"image_id": said.image_id, "face_index": said.face_index, "feedback": said.feedback}
    )


@router.get("/v1/feedback/stats", responses={200: {"model": Stats}, **refusals()})
async def feedback_stats(request: Request) -> Stats:
    """Tell how much feedback there is."""
    state: State = request.app.state.service
    return Stats(**await asyncio.to_thread(state.database.stats))


@router.delete(
    "/v1/images/{image_id}", status_code=204, responses=refusals(404), response_class=Response
)
async def delete_image(
    request: Request,
    image_id: str = PathParameter(description="As /v1/predict answered", max_length=64),
) -> Response:
    """Delete an image, its faces and their feedback."""
    state: State = request.app.state.service
    if not await asyncio.to_thread(state.database.delete, image_id):
        raise HTTPException(404, "there is no such image, or it was deleted")
    return Response(status_code=204)
