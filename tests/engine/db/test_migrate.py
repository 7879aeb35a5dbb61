"""Tables are what schema.py says, whatever the database was before; there is no way back."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, text

from engine.db import connecting, hosts, migrate
from engine.db.address import parsed
from engine.db.database import Database
from engine.db.schema import metadata
from engine.db.secrets import Key
from protocol.errors import NotSupported, WrongState

NAME = "a database"
ROOT = Path(__file__).parents[3]


@pytest.fixture
def engine(database_url: str, key: Key) -> Iterator[Engine]:
    """Without what opening a database does."""
    url = parsed(database_url)
    if url.get_backend_name() == "sqlite":
        connecting.make_file(Path(str(url.database)))
    made = connecting.writing(url, key)
    yield made
    made.dispose()


def test_an_empty_database_gets_the_tables_of_the_schema(engine: Engine) -> None:
    with engine.begin() as c:
        migrate.up_to_date(c, NAME)
        assert differences(c) == []
        found = set(inspect(c).get_table_names())
        assert found == {*metadata.tables, "alembic_version"}


def test_a_difference_to_the_schema_would_be_seen(engine: Engine) -> None:
    with engine.begin() as c:
        migrate.up_to_date(c, NAME)
        c.execute(text("DROP INDEX ix_commands_created_id"))
        c.execute(text("ALTER TABLE hosts ADD COLUMN colour TEXT"))
        found = [change[0] for change in differences(c)]
        assert sorted(found) == ["add_index", "remove_column"]


def test_keys_are_those_of_the_schema(engine: Engine) -> None:
    """What the comparison of Alembic leaves out."""
    with engine.begin() as c:
        migrate.up_to_date(c, NAME)
        found = inspect(c)
        for name, table in metadata.tables.items():
            primary = found.get_pk_constraint(name)["constrained_columns"]
            assert primary == [column.name for column in table.primary_key.columns], name
            expected = sorted(
                (
                    [one.parent.name for one in key.elements],
                    key.referred_table.name,
                    (key.ondelete or "").upper(),
                )
                for key in table.foreign_key_constraints
            )
            keys = sorted(
                (
                    list(key["constrained_columns"]),
                    key["referred_table"],
                    str(key["options"].get("ondelete", "")).upper(),
                )
                for key in found.get_foreign_keys(name)
            )
            assert keys == expected, name


def test_the_head_is_that_of_the_tree(engine: Engine) -> None:
    with engine.connect() as c:
        tree = ScriptDirectory.from_config(migrate.config(c))
        assert tree.get_heads() == [migrate.HEAD]


def test_an_upgrade_keeps_what_is_in_the_tables(engine: Engine) -> None:
    with engine.begin() as c:
        command.upgrade(migrate.config(c), "0001")
        c.execute(
            text(
                "INSERT INTO hosts (id, name, url, ca, maintenance, added)"
                " VALUES ('one', 'alpha', 'unix:/a', '/ca', false, 7.5)"
            )
        )
    with engine.begin() as c:
        migrate.up_to_date(c, NAME)
        assert migrate.revision(c) == migrate.HEAD
        assert differences(c) == []
        assert hosts.all_hosts(c) == [hosts.Host("one", "alpha", "unix:/a", added=7.5)]


def test_a_database_that_is_up_to_date_is_left_as_it_is(engine: Engine) -> None:
    with engine.begin() as c:
        migrate.up_to_date(c, NAME)
    with engine.begin() as c:
        c.execute(text("DROP TABLE meta"))  # it would be noticed
        migrate.up_to_date(c, NAME)
        assert migrate.revision(c) == migrate.HEAD


def test_what_breaks_in_an_upgrade_leaves_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: Any) -> None:
        upgrade(*_)
        raise RuntimeError("broken")

    upgrade = command.upgrade
    monkeypatch.setattr(command, "upgrade", breaks)
    with pytest.raises(RuntimeError, match="broken"), engine.begin() as c:
        migrate.up_to_date(c, NAME)
    with engine.connect() as c:
        assert inspect(c).get_table_names() == []


def test_there_is_no_way_back(engine: Engine) -> None:
    with engine.begin() as c:
        migrate.up_to_date(c, NAME)
        with pytest.raises(NotSupported):
            command.downgrade(migrate.config(c), "base")
        assert differences(c) == []


def test_a_database_of_a_newer_engine_is_refused(engine: Engine) -> None:
    with engine.begin() as c:
        migrate.up_to_date(c, NAME)
        c.execute(text("UPDATE alembic_version SET version_num = '7777'"))
    with engine.begin() as c, pytest.raises(WrongState, match=r"newer engine \(revision 7777\)"):
        migrate.up_to_date(c, NAME)


def test_a_database_of_something_else_is_refused(engine: Engine) -> None:
    with engine.begin() as c:
        c.execute(text("CREATE TABLE customers (id INTEGER)"))
    with engine.begin() as c, pytest.raises(WrongState, match="in use by something else"):
        migrate.up_to_date(c, NAME)
    with engine.connect() as c:
        assert inspect(c).get_table_names() == ["customers"]


async def test_a_refused_database_is_not_written_to(database_url: str, key: Key) -> None:
    async with Database.opened(database_url, key=key) as db:
        await db.write(lambda c: c.execute(text("UPDATE alembic_version SET version_num = 'x'")))
        owner = await db.read(lambda c: c.execute(text("SELECT engine FROM holder")).scalar())
    with pytest.raises(WrongState, match="newer engine"):
        async with Database.opened(database_url, key=key):
            raise AssertionError
    engine = connecting.reading(parsed(database_url), key, 1)
    with engine.connect() as c:
        assert c.execute(text("SELECT engine FROM holder")).scalar() == owner
    engine.dispose()


def test_an_installed_package_has_all_that_it_needs(tmp_path: Path) -> None:
    """It has no alembic.ini, and its folder is not that of the sources."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    installed = tmp_path / "in stalled 100%"
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(installed)
    code = (
        "import sys, trio; from engine.db import hosts, migrate; "
        "from engine.db.database import Database; from engine.db.secrets import Key\n"
        "async def main():\n"
        "    async with Database.opened('sqlite:///new.sqlite', key=Key.random()) as db:\n"
        "        print(await db.read(migrate.revision), migrate.__file__)\n"
        "trio.run(main)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"{migrate.HEAD} {installed}/engine/db/migrate.py\n"


def differences(c: Connection) -> list[Any]:
    context = MigrationContext.configure(c, opts={"compare_server_default": True})
    return list(compare_metadata(context, metadata))
