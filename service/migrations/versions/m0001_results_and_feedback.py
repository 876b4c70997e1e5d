"""The first schema: images, faces and feedback, without any picture."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "image",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("time", sa.Float(53), nullable=False),
        sa.Column("detector", sa.String(200), nullable=False),
        sa.Column("classifier", sa.String(200), nullable=False),
        sa.Column("weights", sa.JSON, nullable=False),
        sa.Column("options", sa.JSON, nullable=False),
    )
    op.create_index("ix_image_time", "image", ["time"])
    op.create_table(
        "face",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column(
            "image_id", sa.String(32), sa.ForeignKey("image.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("number", sa.Integer, nullable=False),
        *(sa.Column(name, sa.Float(53), nullable=False) for name in ("x1", "y1", "x2", "y2")),
        sa.Column("score", sa.Float(53), nullable=False),
        sa.Column("probabilities", sa.JSON, nullable=False),
        sa.UniqueConstraint("image_id", "number"),
    )
    op.create_table(
        "feedback",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column(
            "face_id", sa.Integer, sa.ForeignKey("face.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("sender", sa.String(64), nullable=False),
        sa.Column("emotions", sa.JSON, nullable=False),
        sa.Column("time", sa.Float(53), nullable=False),
        sa.UniqueConstraint("face_id", "sender"),
    )
    secret = op.create_table(
        "secret",
        sa.Column("name", sa.String(50), primary_key=True),
        sa.Column("value", sa.String(200), nullable=False),
    )
    op.bulk_insert(secret, [{"name": "salt", "value": secrets.token_hex(32)}])


def downgrade() -> None:
    """Drop the tables."""
    for name in ("secret", "feedback", "face", "image"):
        op.drop_table(name)
