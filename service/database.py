"""The database: SQLite beside the service, or PostgreSQL; made and migrated when it is opened."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from alembic import command
from alembic.config import Config
from sqlalchemy import (
    Connection,
    Engine,
    create_engine,
    delete,
    event,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import Session, defer, joinedload, selectinload, undefer

from faces.command import UserError
from service.tables import Face, Feedback, Image, Secret

MIGRATIONS = Path(__file__).with_name("migrations")
_MEASURED = ("number", "x1", "y1", "x2", "y2", "score", "probabilities")
_LOCK = 0x7457_6F53
"""Number of PostgreSQL's advisory lock that migrations hold."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What may be kept of an image beside its result.

    Attributes:
        picture: the file as it came, or None.
        crops: a PNG per face; empty where none is kept.
        crop_until: when the crops are dropped without feedback; None keeps them.
    """

    picture: bytes | None = None
    crops: Sequence[bytes] = ()
    crop_until: float | None = None


class Database:
    """All that the service reads and writes; safe to use from several threads and processes.

    Args:
        url: an address of SQLAlchemy: ``sqlite:///FILE`` or ``postgresql://USER@HOST/NAME``.
        revision: the migration to stop at; for tests.

    Raises:
        UserError: the address is not of that form, or the database cannot be opened.
    """

    def __init__(self, url: str, revision: str = "head") -> None:
        try:
            self._engine = _engine(url)
            self._write = self._engine.execution_options(twostage_writes="FULL")
            self._lazily = self._engine.execution_options(twostage_writes="NORMAL")
            self._migrate(revision)
        except (ArgumentError, NoSuchModuleError) as error:
            raise UserError(
                "--database: expected sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"
            ) from error
        except (SQLAlchemyError, OSError) as error:  # its text may hold the password
            cause = str(getattr(error, "orig", "") or type(error).__name__)[:200]
            raise UserError(f"--database: cannot be opened: {cause}") from error
        self._salt = ""

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def ready(self) -> bool:
        """Tell whether the database answers."""
        try:
            with self._engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except SQLAlchemyError:
            return False
        return True

    def add(self, image: Image, kept: Kept) -> str:
        """Store an image with its faces; returns its id.

        Safe from the end of the process at once, from that of the machine within moments: its
        answer does not wait for the disk.
        """
        image.id = uuid4().hex
        image.time = time.time()
        image.picture = kept.picture
        crops = itertools.chain(kept.crops, itertools.repeat(None))
        faces = [
            {
                **{name: getattr(face, name) for name in _MEASURED},
                **{"image_id": image.id, "crop": crop, "crop_until": crop and kept.crop_until},
            }
            for face, crop in zip(image.faces, crops, strict=False)
        ]
        row = {column.name: getattr(image, column.name) for column in Image.__table__.columns}
        with self._lazily.begin() as connection:
            if self._engine.name == "postgresql":
                connection.execute(text("SET LOCAL synchronous_commit = off"))
            connection.execute(insert(Image), row)
            if faces:
                connection.execute(insert(Face), faces)
        return image.id

    def give_feedback(
        self, image_id: str, number: int, emotions: Sequence[str], sender: str
    ) -> bool:
        """Store what a sender says of a face; it is on the disk when this returns.

        Returns:
            False if there is no such face.
        """
        upsert = postgresql.insert if self._engine.name == "postgresql" else sqlite.insert
        with self._writing() as session:
            # keeping the crop locks the face, so that no clean-up comes in between
            face_id = session.scalar(
                update(Face)
                .where(Face.image_id == image_id, Face.number == number)
                .values(crop_until=None)
                .returning(Face.id)
            )
            if face_id is None:
                return False
            values = {"emotions": list(emotions), "time": time.time()}
            session.execute(
                upsert(Feedback)
                .values(face_id=face_id, sender=self._hashed(session, sender), **values)
                .on_conflict_do_update(index_elements=["face_id", "sender"], set_=values)
            )
        return True

    def delete(self, image_id: str) -> bool:
        """Delete an image and all about it; returns False if there is none."""
        with self._writing() as session:
            return _count(session.execute(delete(Image).where(Image.id == image_id))) > 0

    def clean_up(self, retain_days: float, now: float | None = None) -> int:
        """Drop crops whose time is over, and images older than that; returns how many images."""
        now = time.time() if now is None else now
        with self._writing() as session:
            session.execute(
                update(Face).where(Face.crop_until < now).values(crop=None, crop_until=None)
            )
            old = delete(Image).where(Image.time < now - retain_days * 86400)
            return _count(session.execute(old))

    def stats(self) -> dict[str, Any]:
        """Return the numbers of images, faces, feedback and senders; feedback per emotion."""
        with Session(self._engine) as session:
            counts = {
                name: session.scalar(select(func.count()).select_from(table)) or 0
                for name, table in (("images", Image), ("faces", Face), ("feedback", Feedback))
            }
            senders = session.scalar(select(func.count(Feedback.sender.distinct()))) or 0
            emotions: dict[str, int] = {}
            for said in session.scalars(select(Feedback.emotions)):
                for emotion in said:
                    emotions[emotion] = emotions.get(emotion, 0) + 1
        return {**counts, "senders": senders, "emotions": dict(sorted(emotions.items()))}

    def judged_faces(self, crops: bool = False) -> Iterator[Face]:
        """Yield every face with feedback, with its image, oldest first; one at a time in memory.

        Args:
            crops: with ``crop`` loaded.
        """
        query = (
            select(Face)
            .join(Face.image)
            .where(Face.id.in_(select(Feedback.face_id)))
            .order_by(Image.time, Image.id, Face.number)
            .options(joinedload(Face.image), selectinload(Face.feedback))
            .options(undefer(Face.crop) if crops else defer(Face.crop))
            .execution_options(yield_per=100)
        )
        with Session(self._engine) as session:
            for face in session.scalars(query):
                yield face
                session.expunge(face)

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        with Session(self._write, expire_on_commit=False) as session, session.begin():
            yield session

    def _hashed(self, session: Session, sender: str) -> str:
        self._salt = self._salt or session.scalar(select(Secret.value).where(Secret.name == "salt"))  # type: ignore[assignment]
        return hashlib.sha256(f"{self._salt} {sender}".encode()).hexdigest()

    def _migrate(self, revision: str) -> None:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        with self._write.begin() as connection:
            if self._engine.name == "postgresql":
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            config.attributes["connection"] = connection
            command.upgrade(config, revision)


def _engine(url: str) -> Engine:
    """Return an engine; SQLite's writes wait for each other."""
    address = make_url(url)
    if address.drivername in ("postgres", "postgresql"):
        address = address.set(drivername="postgresql+pg8000")
    if not address.drivername.startswith("sqlite"):
        if address.get_backend_name() != "postgresql":
            raise ArgumentError(address.drivername)
        return create_engine(address, pool_pre_ping=True)
    if not address.database or address.database == ":memory:":
        raise ArgumentError("a file is needed")
    path = Path(address.database)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    engine = create_engine(address, connect_args={"timeout": 30})

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # "begin" below begins
        for pragma in (
            *("journal_mode=WAL", "foreign_keys=ON"),
            *("secure_delete=ON", "busy_timeout=30000"),
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("twostage_writes")
        if writes:
            connection.exec_driver_sql(f"PRAGMA synchronous={writes}")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _count(result: Any) -> int:
    return int(result.rowcount)
