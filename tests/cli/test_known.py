"""The default lease domain, made once however many want it."""

from pathlib import Path
from typing import Any

import pytest
import trio

import endpoints.domain
from cli import known


async def test_two_who_want_the_default_domain_at_once_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEASEHOLD_HOME", str(tmp_path))
    create = endpoints.domain.create_domain
    begun: list[str] = []
    found: list[str] = []

    async def slow(mount: str, **options: Any) -> Any:
        begun.append(mount)
        await trio.sleep(0.2)  # longer than the other needs to ask for the lock
        return await create(mount, **options)

    async def want() -> None:
        found.append((await known.default_domain()).id)

    monkeypatch.setattr(endpoints.domain, "create_domain", slow)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(want)
        nursery.start_soon(want)
    assert begun == [str(tmp_path / "leases")]
    assert found[0] == found[1]
    assert list(known.known()) == found[:1]
