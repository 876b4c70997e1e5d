"""What the operator of the service decides, checked once."""

from __future__ import annotations

import ipaddress
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from faces.command import UserError

KEEP = ("none", "feedback", "all")
"""What is kept of images: nothing; crops of faces that people gave feedback on; everything."""

STATIC = Path(__file__).with_name("static")

ENVIRONMENT = "TWOSTAGE_SERVICE"
"""The variable that carries the settings to the processes of ``--processes``."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the service; defaults are for one machine.

    Attributes:
        host: the address to listen at.
        port: the port to listen at.
        database: an address of SQLAlchemy: ``sqlite:///FILE`` or ``postgresql://…``.
        keep: one of ``KEEP``.
        token: what clients must send as ``Authorization: Bearer …``; "" asks for none.
        no_token: nobody needs a token, even if the service listens beyond this machine.
        detector: the default of stage 1, a shipped one or a run folder.
        classifier: the default of stage 2.
        device: as in ``twostage.load_pipeline``.
        processes: how many processes serve, each with models of its own.
        crop_hours: how long ``keep="feedback"`` holds a crop without feedback.
        retain_days: after so many days everything about an image is deleted.
        max_bytes: of one upload, all its files together.
        max_pixels: of one image.
        max_files: in one request.
        max_faces: of one image; the most confident ones stay.
        max_waiting: requests that may wait; further ones get 503.
        max_batch: images that run through the models together.
        seconds: for one request, from its first byte to its answer.
        upload_seconds: for receiving a request.
        per_minute: requests per client and minute; 0 does not limit.
        private_urls: let ``image_url`` name addresses of this network too; for tests.
        live: what ``twostage video SOURCE --show`` was told: ``source``, ``overlay``, ``every``,
            and the ``options`` of the stream; {} for a service.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    database: str = "sqlite:///twostage.sqlite3"
    keep: str = "feedback"
    token: str = ""
    no_token: bool = False
    detector: str = "default"
    classifier: str = "default"
    device: str | None = None
    processes: int = 1
    crop_hours: float = 24.0
    retain_days: float = 90.0
    max_bytes: int = 20_000_000
    max_pixels: int = 40_000_000
    max_files: int = 16
    max_faces: int = 200
    max_waiting: int = 32
    max_batch: int = 8
    seconds: float = 60.0
    upload_seconds: float = 20.0
    per_minute: int = 600
    private_urls: bool = False
    live: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.keep not in KEEP:
            raise UserError(f"--keep {self.keep}: expected one of {', '.join(KEEP)}")
        if not self.is_local() and not self.token and not self.no_token:
            raise UserError(
                f"--host {self.host}: others could reach the service; give --token (or the "
                "variable TWOSTAGE_TOKEN), or say --no-token"
            )
        if self.token and (not self.token.isascii() or len(self.token) < 16):
            raise UserError("--token: expected 16 or more ASCII characters")
        if not 0 <= self.port < 65536:
            raise UserError(f"--port {self.port}: expected 0 to 65535")
        for name in ("processes", "max_bytes", "max_pixels", "max_files", "max_faces"):
            if getattr(self, name) < 1:
                raise UserError(f"{_option(name)} {getattr(self, name)}: expected 1 or more")
        for name in ("crop_hours", "retain_days", "seconds", "upload_seconds", "max_waiting"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"{_option(name)} {getattr(self, name)}: expected more than 0")
        if self.max_batch < 1 or self.per_minute < 0:
            raise UserError("--max-batch is at least 1, --per-minute at least 0")

    def is_local(self) -> bool:
        """Tell whether only this machine can reach the service."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def privacy(self) -> str:
        """Return what answers say, in their header, about what is kept."""
        held = {
            "none": "results",
            "feedback": f"results; crops {self.crop_hours:g} h, with feedback as results",
            "all": "results, images and crops",
        }
        return f"keep={self.keep}: {held[self.keep]}; deleted after {self.retain_days:g} days"

    def to_text(self) -> str:
        """Return the settings for ``from_text``, in another process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Settings:
        """Return what ``to_text`` wrote."""
        return cls(**json.loads(text))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
