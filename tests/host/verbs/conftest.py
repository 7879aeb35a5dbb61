"""A host for each test."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from tests.host.verbs.a_host import SD, AHost, a_host
from tests.sanlock_hosts import IO_TIMEOUT, Hosts


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[AHost]:
    async with a_host(tmp_path) as made:
        yield made


@pytest.fixture
async def shared(hosts: Hosts, tmp_path: Path) -> AsyncIterator[AHost]:
    """This host has joined a domain of sanlock."""
    assert os.environ["SANLOCK_RUN_DIR"] == str(hosts.a.run_dir)
    async with a_host(tmp_path) as made:
        await made.domain(store="sanlock", io_timeout=IO_TIMEOUT)
        member = {"storagedomainID": SD, "path": str(made.mount), "host_id": 1}
        assert await made.call("StorageDomain.activate", **member) is True
        yield made
        with trio.CancelScope(shield=True):
            await made.call("StorageDomain.deactivate", storagedomainID=SD)
