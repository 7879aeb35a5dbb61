"""An agent that may not ask LVM, on a host without local disks, does all that others do."""

import os
from collections.abc import Iterator

import pytest
import trio

from protocol.address import UnixAddress
from protocol.client import connected
from protocol.errors import ConnectionLost, Error
from tests.agent_service import agent_folder
from tests.faults.command import Command, command, until
from tests.host.verbs.a_host import IMG, MIB, SD, VOL
from tests.servers import LOOK, WAIT

NOBODY = 65534
AS_NOBODY = f"import os; os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})"

pytestmark = [
    pytest.mark.tools("lvm"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it becomes another user"),
]


@pytest.fixture
def run() -> Iterator[Command]:
    """All of it belongs to nobody, in a folder that nobody can reach."""
    with agent_folder() as folder, command(folder) as made:
        (folder / "mnt").mkdir()
        for path in (folder, made.temporary, folder / "mnt"):
            os.chown(path, NOBODY, NOBODY)
        yield made


async def until_it_listens(address: UnixAddress) -> None:
    with trio.fail_after(WAIT):
        while True:
            try:
                async with connected(address) as client:
                    await client.call("Host.ping2", {}, timeout=WAIT)
                return
            except (Error, OSError, ConnectionLost):
                await trio.sleep(LOOK)


async def test_an_image_is_deleted_and_a_domain_left_without_rights(run: Command) -> None:
    """LVM answers such a user with an error, also where there is no volume group."""
    mount, address = run.folder / "mnt", UnixAddress(str(run.folder / "agent"))
    settings = [
        f"listen.socket={run.folder / 'agent'}",
        f"storage.directories={mount}",
        f"folders.state={run.folder / 'state'}",
        "localdisk.volume_group=no-such-group",
        "log.format=json",
        "log.level=debug",
    ]
    options = [word for one in settings for word in ("--set", one)]
    closed = run.folder / "sanlock"
    closed.mkdir(mode=0o700)  # root's: a daemon that this user may not ask
    sanlock = {"SANLOCK_RUN_DIR": str(closed)}
    served = run.started("host", "serve", *options, before=AS_NOBODY, environment=sanlock)
    with served as running:
        await until_it_listens(address)
        async with connected(address) as client:

            async def call(method: str, /, **params: object) -> object:
                return await client.call(method, params, timeout=WAIT)

            async def done(method: str, /, **params: object) -> None:
                task = await call(method, **params)
                told = await call("Task.getStatus", taskID=task)
                assert isinstance(told, dict)
                assert (told["taskResult"], told["code"]) == ("success", 0), told

            told = await call("Host.getCapabilities")
            assert isinstance(told, dict)
            assert told["local_disk"]["backends"] == []
            member = {"storagedomainID": SD}
            await call("StorageDomain.create", **member, path=str(mount), leases=3)
            volume = {"imageID": IMG, "volumeID": VOL, "size": MIB, "volFormat": "RAW"}
            await done("Volume.create", **member, **volume)
            await done("Image.delete", **member, imageID=IMG)
            await call("StorageDomain.deactivate", **member)
        await until(lambda: "local disks" in running.err.read_text(), running.err.read_text)
        assert "local disks not looked at" not in running.err.read_text()
