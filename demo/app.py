"""The server of `make demo`: the page behind its guard; ``streamlit run demo/app.py``."""

from __future__ import annotations

from pathlib import Path

from starlette.formparsers import MultiPartParser
from starlette.middleware import Middleware
from streamlit.starlette import App

from demo.guard import Guard, freeing
from demo.session import FILE_BYTES

# The parser of uploads writes a file to disk from this size on; no photo may be.
MultiPartParser.spool_max_size = 2 * FILE_BYTES

app = App(Path(__file__).with_name("page.py"), middleware=[Middleware(Guard)], lifespan=freeing)
