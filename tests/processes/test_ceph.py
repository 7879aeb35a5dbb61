"""ceph: what it prints is read; the program is played, with the answers of version 16."""

import json
from pathlib import Path
from typing import Any

import pytest

from processes.ceph import Access, Ceph
from protocol.errors import BadOutput

ACCESS = Access("/nowhere/ceph.conf", "admin")


@pytest.fixture
def answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with what `ceph` answers."""
    path = tmp_path / "answer"
    program = tmp_path / "ceph"
    program.write_text(f"#!/bin/sh\necho \"$@\" >'{tmp_path}/words'\ncat '{path}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return path


def monitor(name: str, rank: int) -> dict[str, Any]:
    address = {"type": "v2", "addr": f"10.0.0.{rank}:3300", "nonce": 0}
    return {"rank": rank, "name": name, "public_addrs": {"addrvec": [address]}, "priority": 0}


async def test_a_monitor_that_is_down_is_known_and_not_asked(answer: Path) -> None:
    """It would answer nobody, and no host could be cut off as long as it is down."""
    mons = [monitor(name, rank) for rank, name in enumerate("abc")]
    answer.write_text(json.dumps({"epoch": 3, "mons": mons, "quorum": [0, 2]}))
    ceph = Ceph(ACCESS)
    assert [one.name for one in await ceph.monitors()] == ["a", "b", "c"]
    assert [one.name for one in await ceph.quorum()] == ["a", "c"]


async def test_users_are_found_by_the_beginning_of_their_names(answer: Path) -> None:
    names = ["osd.0", "client.admin", "client.leasehold.v1.a", "client.leasehold.v10.b"]
    users = [{"entity": name, "key": "AQ==", "caps": {"mon": "allow r"}} for name in names]
    answer.write_text(json.dumps({"auth_dump": users}))
    assert await Ceph(ACCESS).users("leasehold.v1.") == ["leasehold.v1.a"]


@pytest.mark.parametrize("text", ["", "{}", "[]", "[" * 100_000, "HEALTH_OK"])
async def test_what_cannot_be_read_is_an_error(answer: Path, text: str) -> None:
    answer.write_text(text)
    with pytest.raises(BadOutput):
        await Ceph(ACCESS).monitors()
