"""``twostage serve``, ``feedback export``, ``feedback report``, and ``video SOURCE --show``."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import re
import socket
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from faces.command import UserError, note, run
from service.settings import ENVIRONMENT, KEEP, Settings

if TYPE_CHECKING:
    from service.database import Database

INSTALL = "make setup EXTRAS=service"
_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Settings)}


def serve(args: argparse.Namespace) -> int:
    """Run ``twostage serve`` until Ctrl-C or SIGTERM; requests that run are finished."""
    given = {name: getattr(args, name) for name in _DEFAULTS if hasattr(args, name)}
    given["token"] = args.token or os.environ.get("TWOSTAGE_TOKEN", "")
    settings = Settings(**given)
    if settings.no_token:
        settings = dataclasses.replace(settings, token="")
    return _serve(settings, f"http://{settings.host}:{settings.port} ({settings.privacy()})")


def show(args: argparse.Namespace, threshold: float | dict[str, float]) -> int:
    """Run ``twostage video SOURCE --show``: the live page, until Ctrl-C; nothing is kept."""
    source = args.sources[0]
    if len(args.sources) > 1 or args.out or args.annotated or args.chart or args.detect_every > 1:
        raise UserError("--show takes one source and no output; save from the page")
    if not re.fullmatch(r"camera:\d+", source) and not Path(source).is_file():
        raise UserError(f"{source}: --show takes camera:0 or a video file")
    live = {
        **{"source": source, "overlay": args.overlay},
        "every": args.every if args.fps is None else 1 / args.fps,
        "options": {
            **{"threshold": threshold, "detail": args.detail, "min_face": args.min_face},
        },
    }
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            port=port,
            database=f"sqlite:///{folder}/nothing.sqlite3",
            keep="none",
            detector=args.detector,
            classifier=args.classifier,
            device=args.device,
            per_minute=0,
            live=live,
        )
        return _serve(settings, f"http://127.0.0.1:{port}/live (nothing is kept)")


def _serve(settings: Settings, told: str) -> int:
    """Serve until Ctrl-C or SIGTERM; ``told`` stands on the terminal."""
    _check_installed()
    import uvicorn

    from service.database import Database
    from service.protocol import BoundedHTTP

    Database(settings.database).close()  # migrated once, before several processes open it
    os.environ[ENVIRONMENT] = settings.to_text()
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    note("twostage", f"{told}; Ctrl-C ends it")
    with tempfile.TemporaryDirectory() as counts:
        if settings.processes > 1:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = counts
            cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
            os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // settings.processes)))
        uvicorn.run(
            "service.app:from_environment",
            factory=True,
            host=settings.host,
            port=settings.port,
            workers=settings.processes,
            http=BoundedHTTP,
            ws="websockets-sansio",
            ws_max_size=min(settings.max_bytes, 4_000_000),
            ws_max_queue=2,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            log_level="warning",
            limit_concurrency=512,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=round(settings.seconds),
        )
    return 0


def export(args: argparse.Namespace) -> int:
    """Run ``twostage feedback export``."""
    _check_installed()
    from service.export import export as write

    with _opened(args.database) as database:
        counts = write(database, args.out)
    print(f"{args.out}: {counts.written} crops, {counts.undecided} undecided, "
          f"{counts.not_faces} not a face, {counts.without_crop} without a crop")  # fmt: skip
    return 0


def report(args: argparse.Namespace) -> int:
    """Run ``twostage feedback report``."""
    _check_installed()
    from faces.files import write_json
    from service.report import report as compute
    from service.report import to_text

    with _opened(args.database) as database:
        models = compute(database)
    if args.out:
        write_json(args.out, models)
        print(f"wrote {args.out}")
    print(to_text(models))
    return 0


def _opened(url: str) -> closing[Database]:
    from service.database import Database

    path = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite:///") and not path.is_file():
        raise UserError(f"--database: {path}: no such file; `twostage serve` makes it")
    return closing(Database(url))


def _check_installed() -> None:
    try:
        import fastapi  # noqa: F401
        import sqlalchemy  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(f"{error.name} is not installed; run: {INSTALL}") from error


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of ``serve`` and ``feedback``."""
    parser = argparse.ArgumentParser(prog="twostage")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_serve(commands.add_parser("serve", help="answer over HTTP", description=serve.__doc__))
    command = commands.add_parser("feedback", help="what people said of the service's answers")
    actions = command.add_subparsers(required=True, metavar="ACTION")
    action = actions.add_parser("export", help="write faces with feedback as training data")
    _add_database(action)
    action.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    action.set_defaults(run=export)
    action = actions.add_parser("report", help="how often people agree with each model")
    _add_database(action)
    action.add_argument("--out", type=Path, metavar="FILE", help="also write it as JSON")
    action.set_defaults(run=report)
    return parser


def add_serve(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``twostage serve``."""
    parser.set_defaults(run=serve)
    _add_database(parser)
    parser.add_argument("--host", default=_DEFAULTS["host"], help="address to listen at")
    parser.add_argument("--keep", choices=KEEP, default=_DEFAULTS["keep"],
                        help="what is kept of images")  # fmt: skip
    parser.add_argument("--token", default="", help="what clients must send (or TWOSTAGE_TOKEN)")
    parser.add_argument("--no-token", action="store_true", help="anyone who reaches it may use it")
    parser.add_argument("--detector", default="default", metavar="NAME|RUN")
    parser.add_argument("--classifier", default="default", metavar="NAME|RUN")
    parser.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1")
    whole = {
        "port": "port to listen at",
        "processes": "processes, each with models of its own",
        "max_bytes": "bytes of one upload",
        "max_pixels": "pixels of one image",
        "max_files": "files of one request",
        "max_faces": "faces of one image",
        "max_waiting": "images that may wait; further ones get 503",
        "max_batch": "images that run through the models together",
        "per_minute": "requests per client and minute; 0 does not limit",
    }
    floats = {
        "crop_hours": "hours that a crop without feedback is kept",
        "retain_days": "days after which everything about an image is deleted",
        "seconds": "seconds for one request",
        "upload_seconds": "seconds for receiving a request",
    }
    for options, kind in ((whole, int), (floats, float)):
        for name, about in options.items():
            parser.add_argument(
                f"--{name.replace('_', '-')}", type=kind, default=_DEFAULTS[name], metavar="N",
                help=f"{about} (default {_DEFAULTS[name]:g})",
            )  # fmt: skip


def _add_database(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--database", default=os.environ.get("TWOSTAGE_DATABASE", _DEFAULTS["database"]),
        metavar="URL",
        help="sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME (or TWOSTAGE_DATABASE; "
        f"default {_DEFAULTS['database']})",
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = build_parser().parse_args(argv)
    return run("twostage", lambda: args.run(args), "requests that ran were finished")
