"""Hosts have no files of their own: those of the configuration count for all of them."""

from alembic import op

from protocol.errors import NotSupported

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    for column in ("ca", "certificate", "key"):
        op.drop_column("hosts", column)


def downgrade() -> None:
    raise NotSupported("going back to an older database: restore a back-up")
