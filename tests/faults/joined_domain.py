"""A storage domain in the lockspace of the two hosts of a whole test run."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from endpoints.domain import create_domain
from storage.domain import Domain
from tests.sanlock_hosts import Hosts


@contextmanager
def joined_domain(hosts: Hosts, mount: Path, leases: int = 8) -> Iterator[Domain]:
    """A new domain, removed at the end.

    Its `ids` is that of the hosts by another name: nobody has to join it, which takes seconds.
    """

    async def made() -> Domain:
        return await create_domain(str(mount), sd_id=hosts.sd_id, leases=leases)

    domain = trio.run(made)
    link = Path(domain.ids).with_suffix(".new")
    os.link(hosts.ids, link)
    link.replace(domain.ids)
    try:
        yield domain
    finally:
        shutil.rmtree(domain.path)
