"""Tables as this engine needs them: made, or brought up to date, when a database is opened."""

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from protocol.errors import WrongState

log = logging.getLogger(__name__)
HEAD = "0002"  # of the tree; a database that has it is not looked at further


def up_to_date(c: Connection, name: str) -> None:
    """Upgrade in the transaction of `c`. name: of the database, for people.

    Raises WrongState (4403): it belongs to a newer engine, or is of something else.
    """
    found = revision(c)
    if found == HEAD:
        return
    _check(c, name, found)
    log.info("database %s: from revision %s to %s", name, found or "none", HEAD)
    command.upgrade(config(c), "head")


def revision(c: Connection) -> str | None:
    """None: it has never had tables of ours."""
    return MigrationContext.configure(c).get_current_revision()


def config(c: Connection) -> Config:
    """Of Alembic: no file, as an installed package has none."""
    made = Config()
    folder = str(Path(__file__).with_name("migrations"))
    made.set_main_option("script_location", folder.replace("%", "%%"))
    made.set_main_option("path_separator", "os")
    made.attributes["connection"] = c
    return made


def _check(c: Connection, name: str, found: str | None) -> None:
    known = [script.revision for script in ScriptDirectory.from_config(config(c)).walk_revisions()]
    if found is not None and found not in known:
        raise WrongState("database", name, f"of a newer engine (revision {found})", f"at {HEAD}")
    if found is None and c.dialect.get_table_names(c):
        raise WrongState("database", name, "in use by something else", "empty")
