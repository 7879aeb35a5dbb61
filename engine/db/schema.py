"""The tables. engine/db/migrations makes them; a test compares both.

Ids are UUIDs as text unless said otherwise. Times are seconds since the epoch, by the engine's
clock. Sizes are bytes. `sealed` columns are encrypted (engine/db/secrets.py). A table that names
another without a foreign key outlives what it names: it is history.
"""

from sqlalchemy import (
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    UniqueConstraint,
)

from engine.db.columns import Counter, Json, Sealed, Whole, Words

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

ID = Words(128)
NAME = Words(255)
STATE = Words(32)

# --- what there is ------------------------------------------------------------------------------

# url, ca, certificate, key: how its agent is reached; the last three are paths of files.
# connector, hardware_id: as it told them. seen: when it last did.
hosts = Table(
    "hosts",
    metadata,
    Column("id", ID, primary_key=True),
    Column("name", NAME, nullable=False, unique=True),
    Column("url", Words(), nullable=False),
    Column("maintenance", Boolean, nullable=False),
    Column("added", Double, nullable=False),
    Column("connector", Json, nullable=True),
    Column("hardware_id", NAME, nullable=True),
    Column("seen", Double, nullable=True),
)

# kind: data, managed_block_storage. state: active, maintenance. path: of a data domain, the folder
# on its hosts. options: of the driver; secret: those that nobody may read, sealed JSON.
# limits: {"copies": N or null}.
domains = Table(
    "domains",
    metadata,
    Column("id", ID, primary_key=True),
    Column("name", NAME, nullable=False, unique=True),
    Column("description", Words(), nullable=False),
    Column("kind", STATE, nullable=False),
    Column("state", STATE, nullable=False),
    Column("path", Words(), nullable=True),
    Column("options", Json, nullable=False),
    Column("secret", Sealed, nullable=True),
    Column("limits", Json, nullable=False),
    Column("added", Double, nullable=False),
)

# The host id of each host in the lockspace of a data domain.
domain_hosts = Table(
    "domain_hosts",
    metadata,
    Column("domain", ID, ForeignKey("domains.id", ondelete="CASCADE"), primary_key=True),
    Column("host", ID, ForeignKey("hosts.id", ondelete="CASCADE"), primary_key=True),
    Column("host_id", Integer, nullable=False),
    UniqueConstraint("domain", "host_id"),
)

# volume: the one that it uses. No foreign key: a disk and its first volume are made together, and
# each would have to be there before the other. image: of a disk of a data domain.
disks = Table(
    "disks",
    metadata,
    Column("id", ID, primary_key=True),
    Column("name", NAME, nullable=False, index=True),
    Column("description", Words(), nullable=False),
    Column("size", Whole, nullable=False),
    Column("domain", ID, ForeignKey("domains.id"), nullable=False, index=True),
    Column("kind", STATE, nullable=False),
    Column("format", STATE, nullable=False),
    Column("sparse", Boolean, nullable=False),
    Column("volume", ID, nullable=True),
    Column("image", ID, nullable=True),
    Column("state", STATE, nullable=False),
    Column("locked_by", ID, nullable=True, index=True),
    Column("created", Double, nullable=False),
    Index("ix_disks_created_id", "created", "id"),
)

# disk: none, when the disk is removed and the volume is kept.
volumes = Table(
    "volumes",
    metadata,
    Column("id", ID, primary_key=True),
    Column("disk", ID, ForeignKey("disks.id", ondelete="SET NULL"), nullable=True, index=True),
    Column("domain", ID, ForeignKey("domains.id"), nullable=False, index=True),
    Column("image", ID, nullable=True),
    Column("parent", ID, nullable=True),
    Column("size", Whole, nullable=False),
    Column("format", STATE, nullable=False),
    Column("state", STATE, nullable=False),
    Column("command", ID, nullable=True),
    # Before it was kept, so that it goes on from there when a person has cleared it.
    Column("kept_from", STATE, nullable=True),
)

# volume: that it was taken of. preview_of: the volume that the disk used before the preview.
snapshots = Table(
    "snapshots",
    metadata,
    Column("id", ID, primary_key=True),
    Column("disk", ID, ForeignKey("disks.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("volume", ID, nullable=False),
    Column("adapter_id", NAME, nullable=True),
    Column("description", Words(), nullable=False),
    Column("state", STATE, nullable=False),
    Column("created", Double, nullable=False),
    Column("preview_of", ID, nullable=True),
    Column("size", Whole, nullable=False),
    Column("kept_from", STATE, nullable=True),
)

# connection: what the storage told the host to connect by, sealed JSON. shut_out: the storage cut
# the host off by force while it was silent, so that its own row may still say "attached".
attachments = Table(
    "attachments",
    metadata,
    Column("volume", ID, primary_key=True),
    Column("host", ID, ForeignKey("hosts.id"), primary_key=True, index=True),
    Column("state", STATE, nullable=False),
    Column("path", Words(), nullable=True),
    Column("connection", Sealed, nullable=True),
    Column("command", ID, nullable=False),
    Column("shut_out", Boolean, nullable=False),
    Column("kept_from", STATE, nullable=True),
)

leases = Table(
    "leases",
    metadata,
    Column("id", ID, primary_key=True),
    Column("domain", ID, ForeignKey("domains.id"), nullable=False, index=True),
    Column("command", ID, nullable=False, index=True),
    Column("state", STATE, nullable=False, index=True),
    Column("kept_from", STATE, nullable=True),
)

# --- what is done -------------------------------------------------------------------------------

commands = Table(
    "commands",
    metadata,
    Column("id", ID, primary_key=True),
    Column("type", NAME, nullable=False),
    Column("state", STATE, nullable=False),
    Column("stage", NAME, nullable=True),
    Column("spec", Json, nullable=False),
    Column("facts", Json, nullable=False),
    Column("host", ID, nullable=True),
    Column("user", NAME, nullable=False),
    Column("correlation", NAME, nullable=True),
    Column("abort_asked", Boolean, nullable=False),
    Column("error", Json, nullable=True),
    Column("verdict", Json, nullable=True),
    Column("created", Double, nullable=False),
    Column("changed", Double, nullable=False),
    Column("ended", Double, nullable=True),
    Index("ix_commands_created_id", "created", "id"),
    Index("ix_commands_state_created_id", "state", "created", "id"),
    Index("ix_commands_type_created_id", "type", "created", "id"),
    Index("ix_commands_user_correlation", "user", "correlation"),
)

# The journal: rows are added, never changed. n counts those of one command from 1.
stages = Table(
    "stages",
    metadata,
    Column("command", ID, ForeignKey("commands.id", ondelete="CASCADE"), primary_key=True),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("name", NAME, nullable=False),
    Column("event", STATE, nullable=False),
    Column("at", Double, nullable=False),
    Column("data", Json, nullable=True),
)

# progress: percent. rate: bytes per second.
jobs = Table(
    "jobs",
    metadata,
    Column("id", ID, primary_key=True),
    Column(
        "command", ID, ForeignKey("commands.id", ondelete="CASCADE"), nullable=False, index=True
    ),
    Column("host", ID, nullable=False),
    Column("lease_domain", ID, nullable=True),
    Column("kind", STATE, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("state", STATE, nullable=False),
    Column("progress", Double, nullable=True),
    Column("bytes", Whole, nullable=True),
    Column("rate", Double, nullable=True),
    Column("verdict", Json, nullable=True),
    Column("begun", Double, nullable=False),
    Column("ended", Double, nullable=True),
    Index("ix_jobs_state_host", "state", "host"),
    Index("ix_jobs_begun_id", "begun", "id"),
)

# kind: volume, attachment, lease, snapshot. object: its id; of an attachment the volume's.
quarantine = Table(
    "quarantine",
    metadata,
    Column("id", Words(512), primary_key=True),
    Column("kind", STATE, nullable=False),
    Column("object", ID, nullable=False, index=True),
    Column("domain", ID, nullable=False),
    Column("host", ID, nullable=True),
    Column("command", ID, nullable=False, index=True),
    Column("reason", Words(16384), nullable=False),
    Column("action", Words(16384), nullable=False),
    Column("at", Double, nullable=False),
    Column("cleared", Double, nullable=True),
    Index("ix_quarantine_cleared_at", "cleared", "at"),
)

# kind, object: what it is about. id: also of the event that is sent of it; a number is given once.
audit = Table(
    "audit",
    metadata,
    Column("id", Counter, primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False),
    Column("severity", STATE, nullable=False),
    Column("code", Integer, nullable=False),
    Column("user", NAME, nullable=False),
    Column("correlation", NAME, nullable=True),
    Column("kind", STATE, nullable=False),
    Column("object", NAME, nullable=False),
    Column("text", Words(16384), nullable=False),
    Index("ix_audit_object_id", "object", "id"),
    Index("ix_audit_at", "at"),
    sqlite_autoincrement=True,
)

# --- who uses it --------------------------------------------------------------------------------

# password: a hash of engine/passwords.py.
users = Table(
    "users",
    metadata,
    Column("name", NAME, primary_key=True),
    Column("password", Words(), nullable=False),
    Column("role", STATE, nullable=False),
)

# hash: of the token, as its reader makes it. The role is the user's.
tokens = Table(
    "tokens",
    metadata,
    Column("hash", NAME, primary_key=True),
    Column("user", NAME, ForeignKey("users.name", ondelete="CASCADE"), nullable=False, index=True),
    Column("expires", Double, nullable=False, index=True),
)

# events: the kinds that it is told of.
webhooks = Table(
    "webhooks",
    metadata,
    Column("id", ID, primary_key=True),
    Column("url", Words(), nullable=False),
    Column("secret", Sealed, nullable=True),
    Column("events", Json, nullable=False),
    Column("active", Boolean, nullable=False),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Counter, primary_key=True, autoincrement=True),
    Column(
        "webhook", ID, ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False, index=True
    ),
    Column("event", Json, nullable=False),
    Column("state", STATE, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("next_at", Double, nullable=False),
    Column("last_error", Words(16384), nullable=True),
    Index("ix_deliveries_state_next_at", "state", "next_at"),
    sqlite_autoincrement=True,
)

# --- the engine itself --------------------------------------------------------------------------

meta = Table(
    "meta",
    metadata,
    Column("key", NAME, primary_key=True),
    Column("value", Words(), nullable=False),
)

# One row. engine: the one that may write, by an id that it took when it was started; owner: which
# that is, for people. write: the last transaction of it, so that it can be told whether a commit
# was done whose answer was lost.
holder = Table(
    "holder",
    metadata,
    Column("one", Integer, primary_key=True, autoincrement=False),
    Column("engine", ID, nullable=False),
    Column("owner", NAME, nullable=False),
    Column("write", ID, nullable=False),
)
