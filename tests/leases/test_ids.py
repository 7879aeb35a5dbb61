"""The lockspace file of a domain."""

from pathlib import Path

import pytest

from leases import daemon, ids
from leases.delta import Delta, InvalidDelta
from leases.geometry import MIB, Geometry
from leases.sector import Sectors
from protocol.errors import BadParameter
from tests.leases.conftest import SD_ID
from tests.sanlock_hosts import Hosts, write_lockspace

SMALL, LARGE = Geometry.of(512), Geometry.of(4096)


@pytest.fixture
def path(tmp_path: Path) -> str:
    (tmp_path / "ids").touch()
    return str(tmp_path / "ids")


@pytest.mark.parametrize("io_timeout", [1, 10, 120])
def test_it_is_formatted_byte_for_byte_as_by_the_daemon(
    hosts: Hosts, path: str, tmp_path: Path, io_timeout: int
) -> None:
    ids.format_ids(path, SD_ID, io_timeout, SMALL)
    write_lockspace(hosts.a, SD_ID, tmp_path / "theirs", io_timeout)
    assert Path(path).read_bytes() == (tmp_path / "theirs").read_bytes()


@pytest.mark.parametrize("geometry", [SMALL, LARGE], ids=str)
def test_the_daemon_reads_what_we_format(hosts: Hosts, path: str, geometry: Geometry) -> None:
    ids.format_ids(path, SD_ID, 7, geometry)
    assert Path(path).stat().st_size == geometry.alignment
    assert daemon.lockspace_io_timeout(path, geometry) == (SD_ID, 7)
    assert ids.lockspace(path, geometry) == Delta(SD_ID, io_timeout=7)
    assert ids.members(path, geometry) == {}


@pytest.mark.parametrize("seconds", [-1, 0, 121, 65536])
def test_an_io_timeout_out_of_range_is_refused(path: str, seconds: int) -> None:
    with pytest.raises(BadParameter, match="1 to 120"):
        ids.format_ids(path, SD_ID, seconds, SMALL)
    assert Path(path).read_bytes() == b""


@pytest.mark.parametrize("content", [b"", b"\0" * 100, bytes(MIB)], ids=len)
def test_zeros_are_unformatted(path: str, content: bytes) -> None:
    Path(path).write_bytes(content)
    assert ids.lockspace(path, SMALL) is None


def test_what_is_neither_formatted_nor_zero_is_damaged(path: str) -> None:
    Path(path).write_bytes(b"x" * 4096)
    with pytest.raises(InvalidDelta):
        ids.lockspace(path, SMALL)


def test_a_format_that_was_interrupted_shows(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was written, host 1 has no delta lease: to us and to the daemon it is none."""

    def interrupted(self: Sectors, offset: int, data: bytes) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Sectors, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ids.format_ids(path, SD_ID, 1, SMALL)
    assert ids.lockspace(path, SMALL) is None
    ids.format_ids(path, SD_ID, 1, SMALL)
    assert ids.lockspace(path, SMALL) is not None


def test_all_who_ever_joined_are_listed(hosts: Hosts) -> None:
    found = ids.members(str(hosts.ids), SMALL)
    assert {host_id: one.name for host_id, one in found.items()} == {1: "a", 2: "b"}
