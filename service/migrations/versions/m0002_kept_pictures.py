"""Images and crops may be kept, crops until a time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns; what is there has no pictures."""
    op.add_column("image", sa.Column("picture", sa.LargeBinary))
    op.add_column("face", sa.Column("crop", sa.LargeBinary))
    op.add_column("face", sa.Column("crop_until", sa.Float(53)))
    op.create_index("ix_face_crop_until", "face", ["crop_until"])


def downgrade() -> None:
    """Drop the columns, and the pictures with them."""
    op.drop_index("ix_face_crop_until", "face")
    op.drop_column("face", "crop_until")
    op.drop_column("face", "crop")
    op.drop_column("image", "picture")
