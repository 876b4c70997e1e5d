"""A service with stand-ins for the models, in this process."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

NEEDED = ("alembic", "fastapi", "prometheus_client", "sqlalchemy", "swagger_ui_bundle", "uvicorn")
MISSING = [name for name in NEEDED if find_spec(name) is None]


class Skipped(pytest.Module):
    """A file of tests that is not imported."""

    def collect(self) -> Any:
        reason = f"the extra `service` is not installed ({MISSING[0]}): make setup EXTRAS=service"
        pytest.skip(reason, allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: Any) -> pytest.Module | None:
    """Skip what cannot be imported without the extra; other rooms' tests are not asked."""
    here = module_path.parent == Path(__file__).parent
    return Skipped.from_parent(parent, path=module_path) if MISSING and here else None


@pytest.fixture
def image() -> bytes:
    return png()


def png(width: int = 64, height: int = 48, colour: int = 90) -> bytes:
    out = io.BytesIO()
    noise = np.random.default_rng(colour).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).save(out, "PNG")
    return out.getvalue()


Start = Callable[..., Any]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a function settings → a client of a new service with stand-ins for the models."""
    from starlette.testclient import TestClient

    from service.app import create_app
    from service.models import Models
    from service.settings import Settings
    from tests.stand_ins import ScriptedClassifier, ScriptedDetector

    with ExitStack() as stack:

        def begin(
            detector: Any = None, classifier: Any = None, host: str = "localhost", **given: Any
        ) -> TestClient:
            given.setdefault("database", f"sqlite:///{tmp_path}/service.sqlite3")
            settings = Settings(**given)
            models = Models(
                settings,
                lambda name, device: detector or ScriptedDetector(),
                lambda name, device: classifier or ScriptedClassifier(),
            )
            client = TestClient(
                create_app(settings, models),
                base_url=f"http://{host}",
                raise_server_exceptions=False,
            )
            return stack.enter_context(client)

        yield begin


Listen = Callable[..., str]


@pytest.fixture
def listen(tmp_path: Path) -> Iterator[Listen]:
    """Return a function settings → the address of a new service with stand-ins, in a thread."""
    import uvicorn

    from service.app import create_app
    from service.models import Models
    from service.protocol import BoundedHTTP
    from service.settings import Settings
    from tests.stand_ins import ScriptedClassifier, ScriptedDetector

    with ExitStack() as stack:

        def begin(detector: Any = None, **given: Any) -> str:
            settings = Settings(database=f"sqlite:///{tmp_path}/service.sqlite3", **given)
            models = Models(
                settings,
                lambda name, device: detector or ScriptedDetector(),
                lambda name, device: ScriptedClassifier(),
            )
            app = create_app(settings, models)
            server = uvicorn.Server(
                uvicorn.Config(app, port=0, http=BoundedHTTP, log_level="critical")
            )
            thread = threading.Thread(target=server.run)
            thread.start()

            def end() -> None:
                server.should_exit = True
                thread.join()

            stack.callback(end)
            for _ in range(600):
                if server.started:
                    break
                time.sleep(0.05)
            return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

        yield begin
