"""The application: routes, the guard before them, and what starts and ends with it."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import webbrowser
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import swagger_ui_bundle
from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles

import twostage
from faces.command import UserError
from service import feedback, live, predict
from service.batching import Batcher
from service.database import Database
from service.guard import Guard
from service.metrics import exposition
from service.models import Choice, Models
from service.reading import Fetcher
from service.schemas import Health, ModelsAnswer, refusals
from service.settings import ENVIRONMENT, STATIC, Settings
from service.state import State

SECONDS_BETWEEN_CLEAN_UPS = 300.0
LOG = logging.getLogger("service")

router = APIRouter()


def from_environment() -> FastAPI:
    """Return the application with the settings of the variable ``ENVIRONMENT``; for uvicorn."""
    return create_app(Settings.from_text(os.environ[ENVIRONMENT]))


def create_app(settings: Settings, models: Models | None = None) -> FastAPI:
    """Return the application.

    Args:
        settings: what the operator decides.
        models: for tests; by default those of ``settings``.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with _running(settings, models or Models(settings)) as state:
            app.state.service = state
            yield

    app = FastAPI(
        title="twostage",
        version=twostage.__version__,
        summary="Find every face in an image and say which emotions it shows",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        license_info={"name": "MIT"},
    )
    app.openapi_version = "3.0.3"  # what the bundled page can show
    app.include_router(router)
    app.include_router(predict.router)
    app.include_router(feedback.router)
    app.include_router(live.router)
    app.mount("/static/swagger", StaticFiles(directory=swagger_ui_bundle.swagger_ui_path))
    app.mount("/static", StaticFiles(directory=STATIC))
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_middleware(Guard, settings=settings)
    return app


@asynccontextmanager
async def _running(settings: Settings, models: Models) -> AsyncIterator[State]:
    """Open everything, load the default models beside the first requests, close in the end."""
    database = await asyncio.to_thread(Database, settings.database)
    batcher = Batcher(
        models.pipeline,
        max_waiting=settings.max_waiting,
        max_batch=settings.max_batch,
        max_pixels=settings.max_pixels,
    )
    guard = Guard(FastAPI(), settings)
    state = State(settings, database, models, batcher, Fetcher(settings), guard.is_token)
    tasks = [asyncio.create_task(_load(state)), asyncio.create_task(_clean_up(state))]
    try:
        yield state
    finally:
        state.ready.clear()
        for task in tasks:
            task.cancel()
        await batcher.close()
        database.close()


async def _load(state: State) -> None:
    try:
        await asyncio.to_thread(state.models.pipeline, Choice())
        state.ready.set()
        if state.settings.live and ("DISPLAY" in os.environ or sys.platform == "darwin"):
            await asyncio.to_thread(webbrowser.open, f"http://127.0.0.1:{state.settings.port}/live")
    except UserError as error:
        LOG.error("the default models cannot be loaded: %s", error)


async def _clean_up(state: State) -> None:
    while True:
        with suppress(UserError):
            await asyncio.to_thread(state.database.clean_up, state.settings.retain_days)
        await asyncio.sleep(SECONDS_BETWEEN_CLEAN_UPS)


async def _invalid(request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": "the request is not as the API describes it"}, 422)


@router.get("/", include_in_schema=False)
async def page() -> Response:
    """Return the page."""
    return FileResponse(STATIC / "index.html")


@router.get("/docs", include_in_schema=False)
async def docs() -> Response:
    """Return the page of the API's description."""
    return FileResponse(STATIC / "docs.html")


@router.get("/v1/models", responses={200: {"model": ModelsAnswer}, **refusals()})
async def models_listing(request: Request) -> dict[str, Any]:
    """List the models that requests may name."""
    state: State = request.app.state.service
    return await asyncio.to_thread(state.models.listing)


@router.get("/v1/health/live", responses=refusals())
@router.get("/v1/health", responses={503: {"model": Health}, **refusals()})
@router.get("/v1/health/ready", responses={503: {"model": Health}, **refusals()})
async def health(request: Request) -> Response:
    """Tell whether the service lives; ``/v1/health`` and ``ready``: can analyse and store."""
    state: State = request.app.state.service
    if request.url.path.endswith("/live"):
        return JSONResponse({"status": "live"})
    ready = state.ready.is_set() and await asyncio.to_thread(state.database.ready)
    return JSONResponse({"status": "ready" if ready else "not ready"}, 200 if ready else 503)


@router.get("/metrics", include_in_schema=False)
async def metrics() -> Response:
    """Return the counts in Prometheus's form."""
    text, kind = exposition()
    return Response(text, media_type=kind)
