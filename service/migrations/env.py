"""Alembic runs this: the migrations over the connection that ``service.database`` hands it."""

from __future__ import annotations

from alembic import context

from service.tables import Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
