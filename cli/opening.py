"""What a lease command works on: the store of a known domain, and who writes there."""

import time
from typing import TypedDict

from cli import known
from cli.hardware import hardware_id
from endpoints.domain import StoreKind, open_store
from leases.store import Store


class Writer(TypedDict):
    """What a verb that writes a record is told about its writer."""

    now: int
    hardware_id: str


async def store_of(sd_id: str, kind: StoreKind, *, change_index: bool = False) -> Store:
    """The lease store of the known domain `sd_id`. change_index: to create or delete leases."""
    return await open_store(await known.opened(sd_id), kind, change_index=change_index)


async def writer() -> Writer:
    return {"now": int(time.time()), "hardware_id": await hardware_id()}
