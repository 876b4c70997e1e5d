"""The tables of the database, as SQLAlchemy maps them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Float, ForeignKey, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

NOT_A_FACE = "not a face"
"""What people say of a box without a face; stands in ``Feedback.emotions`` alone."""


class Table(DeclarativeBase):
    """Base of all tables."""


class Image(Table):
    """One analysed image. Times are seconds since 1970 (UTC).

    Attributes:
        id: random, 32 hex digits; who knows it may delete the image.
        sha256: of the file as it came.
        options: what the request asked for.
        weights: model → sha256 of its weights.
        picture: the file as it came, if it is kept.
    """

    __tablename__ = "image"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64))
    width: Mapped[int]
    height: Mapped[int]
    time: Mapped[float] = mapped_column(Float(53), index=True)
    detector: Mapped[str] = mapped_column(String(200))
    classifier: Mapped[str] = mapped_column(String(200))
    weights: Mapped[dict[str, Any]] = mapped_column(JSON)
    options: Mapped[dict[str, Any]] = mapped_column(JSON)
    picture: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    faces: Mapped[list[Face]] = relationship(
        back_populates="image", cascade="all, delete-orphan", passive_deletes=True
    )


class Face(Table):
    """One face of an image.

    Attributes:
        number: in the image, from 1; the API's ``face_index``.
        probabilities: in the order of ``EMOTIONS``.
        crop: PNG of what the classifier saw, if it is kept.
        crop_until: when the crop is dropped; None while the image is there.
    """

    __tablename__ = "face"
    __table_args__ = (UniqueConstraint("image_id", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    image_id: Mapped[str] = mapped_column(ForeignKey("image.id", ondelete="CASCADE"))
    number: Mapped[int]
    x1: Mapped[float] = mapped_column(Float(53))
    y1: Mapped[float] = mapped_column(Float(53))
    x2: Mapped[float] = mapped_column(Float(53))
    y2: Mapped[float] = mapped_column(Float(53))
    score: Mapped[float] = mapped_column(Float(53))
    probabilities: Mapped[list[float]] = mapped_column(JSON)
    crop: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    crop_until: Mapped[float | None] = mapped_column(Float(53), index=True)
    image: Mapped[Image] = relationship(back_populates="faces")
    feedback: Mapped[list[Feedback]] = relationship(
        cascade="all, delete-orphan", passive_deletes=True
    )


class Feedback(Table):
    """What one sender says of one face; who sends again replaces it.

    Attributes:
        sender: SHA-256 of the sender's name or address, with the database's salt.
        emotions: one or several of ``EMOTIONS``, or ``NOT_A_FACE`` alone.
    """

    __tablename__ = "feedback"
    __table_args__ = (UniqueConstraint("face_id", "sender"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    face_id: Mapped[int] = mapped_column(ForeignKey("face.id", ondelete="CASCADE"))
    sender: Mapped[str] = mapped_column(String(64))
    emotions: Mapped[list[str]] = mapped_column(JSON)
    time: Mapped[float] = mapped_column(Float(53))


class Secret(Table):
    """Values that the database was made with: ``salt``."""

    __tablename__ = "secret"

    name: Mapped[str] = mapped_column(String(50), primary_key=True)
    value: Mapped[str] = mapped_column(String(200))
