"""Snapshots that are not left behind when nobody got to know their ids."""

from pathlib import Path
from uuid import uuid4

import pytest

from cli import managed_snapshotting
from cli.managed_known import ManagedDomain
from cli.managed_storage import Opened
from cli.output import Output
from engine.adapter_programs import AdapterPrograms, Driver
from engine.managed_storage import ManagedStorage
from protocol.errors import AdapterStalled
from tests.cli.managed_storage import NAME
from tests.conformance.adapters import TOOLS

pytestmark = pytest.mark.tools(*TOOLS["file"])


class Forgetful(ManagedStorage):
    """The adapter does its work, and nobody hears of it."""

    async def create_snapshot(self, volume: str, snapshot: str | None = None) -> str:
        await super().create_snapshot(volume, snapshot)
        raise AdapterStalled("file", "create_snapshot", 1.0)


async def test_a_snapshot_that_nobody_got_to_know_is_deleted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    domain = ManagedDomain(uuid4(), {"adapter": "file", "path": str(tmp_path / "disks")})
    opened = Opened(NAME, domain, Forgetful(Driver(domain.options), AdapterPrograms()))
    volume, chosen = str(uuid4()), str(uuid4())
    await opened.storage.create_volume(volume, 1)
    with pytest.raises(AdapterStalled):
        await managed_snapshotting.made(opened, volume, None, Output())
    assert (await opened.storage.volume_info(volume)).snapshots == []
    # With an id of its own the command can be repeated: it may have been there before.
    with pytest.raises(AdapterStalled):
        await managed_snapshotting.made(opened, volume, chosen, Output())
    assert (await opened.storage.volume_info(volume)).snapshots == [chosen]
    assert capfd.readouterr().err == ""
