"""The counter of what is left sees each thing that a command could forget."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest
import sqlalchemy
import trio

from protocol.managed import Connector
from tests.engine_estate import Estate
from tests.engine_hosts import until
from tests.faults.engine_estates import SQLITE, Estates

pytestmark = pytest.mark.tools("sanlock", "qemu-nbd")

ID = "0a0a0a0a-1111-4222-8333-444444444444"


@contextmanager
def volume(made: Estate) -> Iterator[None]:
    storage = made.storages[made.domains["array"]]
    trio.run(storage.create_volume, ID, 1)
    yield
    trio.run(storage.delete_volume, ID)


@contextmanager
def connected(made: Estate) -> Iterator[None]:
    storage = made.storages[made.domains["array"]]
    with disk(made) as volume:
        trio.run(storage.connect_volume, volume, Connector(made.a.name))
        yield
        trio.run(storage.disconnect_volume, volume)


@contextmanager
def attached(made: Estate) -> Iterator[None]:
    domain = made.domains["array"]
    storage = made.storages[domain]
    with disk(made) as volume:
        info = trio.run(storage.connect_volume, volume, Connector(made.a.name))
        told = {"vol_id": volume, "sd_id": domain, "connection_info": msgspec.to_builtins(info)}
        made.a.call("ManagedVolume.attach_volume", **told)
        yield
        made.a.call("ManagedVolume.detach_volume", vol_id=volume)
        trio.run(storage.disconnect_volume, volume)


@contextmanager
def disk(made: Estate) -> Iterator[str]:
    """The id of its volume."""
    one = made.disk()
    yield next(row.volume for row in made.rows.disks if row.id == one)
    made.remove(one)


@contextmanager
def lease(made: Estate) -> Iterator[None]:
    ref = {"sd_id": made.domains["data"], "lease_id": ID}
    made.a.call("Lease.create", lease=ref)
    yield
    made.a.call("Lease.delete", lease=ref)


@contextmanager
def image(made: Estate) -> Iterator[None]:
    folder = made.data / "images" / ID
    folder.mkdir()
    (folder / ID).touch()
    yield
    (folder / ID).unlink()
    folder.rmdir()


@contextmanager
def process(made: Estate) -> Iterator[None]:
    argv = [sys.executable, "-c", "input()"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, env=made.a.command.environment()) as child:
        yield
        child.kill()


STATES = {
    "is locked by": "UPDATE disks SET locked_by = 'nobody' WHERE volume = :volume",
    "is removing": "UPDATE volumes SET state = 'removing' WHERE id = :volume",
    "nobody is told": "UPDATE volumes SET state = 'kept' WHERE id = :volume",
    "is not on storage": "UPDATE volumes SET domain = :other WHERE id = :volume",
}
WELL = (
    "UPDATE disks SET locked_by = NULL WHERE volume = :volume",
    "UPDATE volumes SET state = 'ok', domain = :domain WHERE id = :volume",
)


@pytest.mark.sample(2)
@pytest.mark.parametrize("words", STATES)
def test_what_only_a_row_tells_of_is_seen(estates: Estates, words: str) -> None:
    made = estates.of(SQLITE)
    engine = sqlalchemy.create_engine(made.database, poolclass=sqlalchemy.NullPool)

    def say(*statements: str) -> None:
        names = {"volume": volume, "domain": made.domains["array"], "other": made.domains["array2"]}
        with engine.begin() as c:
            for one in statements:
                c.execute(sqlalchemy.text(one), {k: v for k, v in names.items() if f":{k}" in one})

    with disk(made) as volume:
        say(STATES[words])
        found = made.left()
        say(*WELL)
        assert any(words in one for one in found), found
        until(lambda: not made.left(), made.left)


HARMS = {
    "is on storage and in no row": volume,
    "is connected for host-a": connected,
    "is attached on host-a": attached,
    "is in the lease volume": lease,
    "is in no row": image,
    "lives": process,
}


@pytest.mark.sample(2)
@pytest.mark.parametrize("words", HARMS)
def test_what_no_row_tells_of_is_seen(estates: Estates, words: str) -> None:
    made = estates.of(SQLITE)
    until(lambda: not made.left(), made.left)
    with HARMS[words](made):
        found = made.left()
        assert found
        assert any(words in one for one in found), found
    until(lambda: not made.left(), made.left)  # a disk is gone before its command has ended
