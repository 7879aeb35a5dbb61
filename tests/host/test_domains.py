"""The storage domains that a host knows outlive its agent."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest
import trio

from host import domains as module
from host.domains import FILE, Domains
from processes import atomic_file
from protocol.errors import BadParameter, StorageDomainDoesNotExist
from storage import domain as domain_module
from tests.servers import WAIT
from tests.storage.volumes import SD, new_domain

HOST_0 = b'{"domains": {}, "host_ids": {"%s": 0}}' % SD.encode()


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


async def test_as_which_host_a_domain_is_joined_is_remembered_until_it_is_left(
    tmp_path: Path,
) -> None:
    domain = new_domain(tmp_path / "mnt")
    first = await Domains.opened(tmp_path / "state", ())
    await first.remember(domain, 7)
    await first.remember(domain)  # it is known already
    again = await Domains.opened(tmp_path / "state", ())
    assert (again.folders, again.host_ids) == ({SD: domain.path}, {SD: 7})
    await again.remember(domain, 8)
    await again.forget_host_id(SD)
    await again.forget_host_id(SD)
    last = await Domains.opened(tmp_path / "state", ())
    assert (last.folders, last.host_ids) == ({SD: domain.path}, {})


async def test_what_could_not_be_written_down_is_not_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    domains = await Domains.opened(tmp_path / "state", ())
    await domains.remember(new_domain(tmp_path / "mnt"), 7)
    monkeypatch.setattr(atomic_file, "write", full)
    with pytest.raises(OSError, match="No space"):
        await domains.forget_host_id(SD)
    assert domains.host_ids == {SD: 7}


async def test_a_mount_that_hangs_does_not_keep_the_agent_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain, answers, real = new_domain(tmp_path / "mnt"), threading.Event(), domain_module.find

    def find(mount: str, **options: Any) -> Any:
        if mount == "/hanging":
            answers.wait()
        return real(mount, **options)

    monkeypatch.setattr(domain_module, "find", find)
    monkeypatch.setattr(module, "MOUNT_TIME", 0.2)
    try:
        with trio.fail_after(WAIT):
            found = await Domains.opened(tmp_path / "s", ("/hanging", str(tmp_path / "mnt")))
    finally:
        answers.set()
    assert found.folders == {SD: domain.path}


@pytest.mark.parametrize(
    "content", [b"{", b'{"domains": {"x": "/y"}}', b'{"version": 2}', b"\xff", HOST_0]
)
async def test_a_damaged_file_is_told_and_kept(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(BadParameter, match=FILE):
        await Domains.opened(tmp_path, ())
    assert (tmp_path / FILE).read_bytes() == content
