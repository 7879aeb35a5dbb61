"""The storage domains that a host knows outlive its agent."""

import os
from pathlib import Path

import pytest

from host.domains import FILE, Domains
from protocol.errors import BadParameter, StorageDomainDoesNotExist
from tests.storage.volumes import SD, new_domain


async def test_a_domain_is_remembered(tmp_path: Path) -> None:
    domain = new_domain(tmp_path / "mnt")
    first = await Domains.opened(tmp_path / "state", ())
    await first.remember(domain)
    again = await Domains.opened(tmp_path / "state", ())
    assert again.folders == {SD: domain.path}
    assert await again.load(SD) == domain


async def test_a_domain_in_another_place_is_known_there_from_then_on(tmp_path: Path) -> None:
    domains = await Domains.opened(tmp_path, ())
    await domains.remember(new_domain(tmp_path / "one"))
    moved = new_domain(tmp_path / "two")
    await domains.remember(moved)
    assert domains.folders == {SD: moved.path}


async def test_a_domain_that_is_gone_is_told_by_its_id(tmp_path: Path) -> None:
    domains = await Domains.opened(tmp_path, (str(tmp_path / "missing"),))
    with pytest.raises(StorageDomainDoesNotExist, match=SD):
        await domains.load(SD)
    await domains.remember(new_domain(tmp_path / "mnt"))
    os.rename(tmp_path / "mnt", tmp_path / "gone")
    with pytest.raises(StorageDomainDoesNotExist, match=f"domain: {SD}$"):
        await domains.load(SD)


async def test_a_damaged_domain_hides_no_other(tmp_path: Path) -> None:
    domain = new_domain(tmp_path / "mnt")
    bad = tmp_path / "mnt" / "00000000-0000-4000-8000-000000000001" / "dom_md"
    bad.mkdir(parents=True)
    found = await Domains.opened(tmp_path / "state", (str(tmp_path / "mnt"),))
    assert found.folders == {SD: domain.path}


@pytest.mark.parametrize("content", [b"{", b'{"domains": {"x": "/y"}}', b'{"version": 2}', b"\xff"])
async def test_a_damaged_file_is_told_and_kept(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(BadParameter, match=FILE):
        await Domains.opened(tmp_path, ())
    assert (tmp_path / FILE).read_bytes() == content
