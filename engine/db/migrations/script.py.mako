"""${message}"""

import sqlalchemy as sa
from alembic import op

from protocol.errors import NotSupported

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    raise NotSupported("going back to an older database: restore a back-up")
