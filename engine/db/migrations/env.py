"""Run by Alembic, with the connection of who called it. All is done in the transaction of that one,
in SQLite too: a kill leaves the tables as they were."""

from alembic import context

from engine.db.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
