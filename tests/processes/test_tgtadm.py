"""What tgtadm shows, and accounts, which it is not asked for."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from processes.tgtadm import Nexus, Tgtd, busy, missing, parse, taken
from protocol.errors import BadOutput, ToolFailed
from tests.servers import raw_image
from tests.tgt_server import TgtServer, tgt_server

SHOWN = """\
Target 1: iqn.2026-01.org.example:one
    System information:
        Driver: iscsi
        State: ready
    I_T nexus information:
        I_T nexus: 7
            Initiator: iqn.a:host1 alias: none
            Connection: 0
                IP Address: 127.0.0.1
        I_T nexus: 12
            Initiator: iqn.a:host2
            Connection: 1
                IP Address: 127.0.0.1
            Connection: 2
                RDMA IP Address: 127.0.0.2
    LUN information:
        LUN: 0
            Type: controller
            SCSI ID: IET     00010000
        LUN: 1
            Type: disk
            Backing store path: /tmp/Target 3: iqn.2026-01.org.example:evil
    Account information:
        one
        two (outgoing)
    ACL information:
        iqn.a:host1
        iqn.a:host2
        ALL
Target 23: iqn.2026-01.org.example:two
    System information:
        Driver: iscsi
    I_T nexus information:
    LUN information:
        LUN: 0
            Type: controller
    Account information:
    ACL information:
"""


def test_all_of_a_target_is_read() -> None:
    found = parse(SHOWN)
    assert list(found) == ["iqn.2026-01.org.example:one", "iqn.2026-01.org.example:two"]
    one, two = found.values()
    assert (one.tid, one.luns, one.accounts) == (1, [0, 1], ["one", "two"])
    assert one.acl == ["iqn.a:host1", "iqn.a:host2", "ALL"]
    assert one.nexuses == [Nexus(7, "iqn.a:host1", [0]), Nexus(12, "iqn.a:host2", [1, 2])]
    assert (two.tid, two.luns, two.acl, two.accounts, two.nexuses) == (23, [0], [], [], [])


def test_without_targets_nothing_is_shown() -> None:
    assert parse("") == {}


def test_the_words_of_tgtadm_are_told_apart() -> None:
    def said(detail: str) -> list[bool]:
        error = ToolFailed("tgtadm", 22, detail)
        return [missing(error), taken(error), busy(error)]

    assert said("tgtadm: can't find the target") == [True, False, False]
    assert said("tgtadm: this access control rule does not exist") == [True, False, False]
    assert said("tgtadm: this target already exists") == [False, True, False]
    assert said("tgtadm: this target is still active") == [False, False, True]
    assert said("tgtadm: this logical unit is still active") == [False, False, True]
    assert said("tgtadm: invalid request") == [False, False, False]


@pytest.fixture
def server() -> Iterator[TgtServer]:
    with tgt_server() as found:
        yield found


@pytest.mark.tools("tgtd", "tgtadm")
async def test_a_target_is_made_shown_and_removed(server: TgtServer, tmp_path: Path) -> None:
    tgtd = Tgtd(server.socket)
    assert await tgtd.targets() == {}
    disk = raw_image(tmp_path / "disk", 1 << 20)
    await tgtd.new_target(3, "iqn.2026-01.org.example:one")
    with pytest.raises(ToolFailed) as caught:
        await tgtd.new_target(3, "iqn.2026-01.org.example:two")
    assert taken(caught.value)
    await tgtd.new_unit(3, str(disk), {"scsi_sn": "abc"})
    await tgtd.bind(3, "iqn.a:host1")
    await tgtd.new_account("one", "secret-secret")
    await tgtd.bind_account(3, "one")
    [target] = (await tgtd.targets()).values()
    assert (target.tid, target.luns) == (3, [0, 1])
    assert (target.acl, target.accounts) == (["iqn.a:host1"], ["one"])
    await tgtd.unbind(3, "iqn.a:host1")
    await tgtd.delete_unit(3)
    await tgtd.delete_target(3)
    await tgtd.delete_account("one")
    assert await tgtd.targets() == {}
    with pytest.raises(ToolFailed) as gone:
        await tgtd.delete_target(3)
    assert missing(gone.value)


@pytest.mark.tools("tgtd", "tgtadm")
async def test_an_account_that_is_there_is_not_made_again(server: TgtServer) -> None:
    tgtd = Tgtd(server.socket)
    await tgtd.new_account("one", "secret-secret")
    with pytest.raises(ToolFailed, match="no account"):
        await tgtd.new_account("one", "secret-secret")


@pytest.mark.tools("tgtadm")
async def test_a_daemon_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    tgtd = Tgtd(str(tmp_path / "ipc"))
    with pytest.raises(ToolFailed):
        await tgtd.targets()
    with pytest.raises(ToolFailed):
        await tgtd.new_account("one", "secret-secret")


async def test_what_cannot_be_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tgtadm").write_text("#!/bin/sh\necho 'Target one'\n")
    (tmp_path / "tgtadm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(BadOutput):
        await Tgtd("x").targets()
