"""Domains and volumes for tests."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import trio

from storage import domain, new_volume
from storage.domain import Domain
from storage.volume import Volume
from storage.volume_request import Request

SD = "99999999-aaaa-4bbb-8ccc-dddddddddddd"
IMG = "66666666-7777-4888-8999-aaaaaaaaaaaa"
BASE = "11111111-0000-4000-8000-000000000001"
MIDDLE = "11111111-0000-4000-8000-000000000002"
TOP = "11111111-0000-4000-8000-000000000003"
MIB = 1 << 20
NOW = 1700000000


def nothing(path: str) -> None:
    """Prepares no lease."""


def write_slot(path: str) -> None:
    """Stands for the slot of a lease."""
    with open(path, "r+b") as file:
        file.write(b"slot")


def new_domain(mount: Path, **options: Any) -> Domain:
    return domain.create(str(mount), **{"sd_id": SD, "leases": 1, "prepare": nothing, **options})


async def make(
    of: Domain,
    vol_id: str = BASE,
    *,
    img_id: str = IMG,
    prepare_lease: Callable[[str], None] = nothing,
    **wanted: Any,
) -> Volume:
    """A new volume: raw, 1 MiB, unless other things are wanted; with a parent qcow2, its size."""
    parent = wanted.get("parent")
    usual = {"format": "qcow2" if parent else "raw", "capacity": None if parent else MIB}
    request = Request(**{**usual, "now": NOW, **wanted})
    create = partial(new_volume.create, of, img_id, vol_id, request, prepare_lease=prepare_lease)
    return await trio.to_thread.run_sync(create)


def files(of: Domain) -> set[str]:
    """Everything in the images of a domain."""
    return {str(path.relative_to(of.images)) for path in Path(of.images).rglob("*")}
