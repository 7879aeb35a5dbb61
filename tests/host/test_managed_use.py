"""What copies may use of the attached volumes, and which of them copies do use."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from endpoints import disk
from endpoints.locks import Mode, held
from endpoints.url import NbdUnixUrl, PathUrl, parse
from host import managed_use
from host.managed_use import NOTHING, Attached, Named, Uses
from protocol.errors import BadParameter, ManagedVolumeInUse
from tests.servers import LOOK, WAIT

JOB = "44444444-5555-4666-8777-888888888888"
URL = "nbd+unix:///vol?socket=/run/x"
ISCSI = "iscsi://host/iqn.2026-01.org.example:disk/1?initiator-name=iqn.x&user=u&password-file=/p"


def attached(*urls: str, links: tuple[str, ...] = ()) -> Attached:
    return Attached("/run/volumes", frozenset(links), frozenset(map(parse, urls)))


def test_what_is_attached_is_found_by_its_url() -> None:
    found = attached(URL, ISCSI, "/dev/mapper/x")
    for url in (URL, ISCSI, "/dev/mapper/x"):
        assert found.found(parse(url)) == parse(url)
    for url in (URL + "y", ISCSI.replace("/p", "/q"), ISCSI.partition("?")[0], "/dev/mapper/y"):
        assert found.found(parse(url)) is None
    assert NOTHING.found(parse(URL)) is None


def test_a_link_is_found_only_while_it_is_attached() -> None:
    found = attached(links=("/run/volumes/sd_vol",))
    for path in ("/run/volumes/sd_vol", "/run/volumes//./sd_vol"):
        assert found.found(PathUrl(path)) == PathUrl("/run/volumes/sd_vol")
    for path in ("/run/volumes/sd_other", "/run/volumes/../volumes/x"):
        with pytest.raises(BadParameter, match="not attached"):
            found.found(PathUrl(path))
    assert found.found(PathUrl("/run/volumes")) is None
    assert found.found(PathUrl("/run/volumes/deep/sd_vol")) is None
    assert found.is_device(PathUrl("/run/volumes/sd_vol"))
    assert not found.is_device(PathUrl("/run/other"))
    assert attached("/dev/x").is_device(PathUrl("/dev/x"))


def test_a_socket_gets_its_real_name(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    url = NbdUnixUrl(str(tmp_path / "link"), "vol")
    assert attached(str(url)).found(url) == NbdUnixUrl(str(tmp_path / "real"), "vol")


# --- uses -------------------------------------------------------------------------------------


def uses(*copies: str | Named) -> Uses:
    async def of_copies() -> Iterable[Named]:
        return [one if isinstance(one, Named) else Named(one, JOB) for one in copies]

    return Uses(of_copies)


@pytest.mark.parametrize(
    "named", [URL, "nbd:unix:/run/x:exportname=vol", "nbd+unix:///vol?socket=/run//x"]
)
async def test_a_volume_that_a_copy_names_is_in_use(named: str) -> None:
    with pytest.raises(ManagedVolumeInUse, match="has not ended"):
        async with uses(named).none("vol", URL):
            pass
    one = uses()
    with one.named(named, None, 7):
        with pytest.raises(ManagedVolumeInUse):
            async with one.none("vol", URL):
                pass
        assert one.leaving == set()
    async with one.none("vol", URL):
        assert one.leaving == {"vol"}
    assert one.leaving == set()


async def test_a_copy_of_something_else_is_in_nobodys_way(tmp_path: Path) -> None:
    async with uses("/x", "not a url", URL.replace("vol", "other")).none("vol", URL):
        pass


async def test_a_device_is_the_same_by_whatever_name(tmp_path: Path) -> None:
    (tmp_path / "device").touch()
    (tmp_path / "link").symlink_to("device")
    with pytest.raises(ManagedVolumeInUse):
        async with uses(str(tmp_path / "link")).none("vol", str(tmp_path / "device")):
            pass


async def test_a_volume_that_is_locked_by_a_copy_is_in_use(tmp_path: Path) -> None:
    url = parse(f"nbd+unix:///vol?socket={tmp_path}/x")
    for mode in Mode:
        async with held(disk.locks(url, mode)):
            with pytest.raises(ManagedVolumeInUse, match="a process of this host"):
                async with uses().none("vol", str(url)):
                    pass
    async with uses().none("vol", str(url)):
        with pytest.raises(ManagedVolumeInUse):
            async with uses().none("vol", str(url)):
                pass


async def test_urls_that_are_named_twice_are_in_use_until_both_are_done() -> None:
    one = uses()
    with one.named(URL, URL):
        with one.named(URL):
            pass
        with pytest.raises(ManagedVolumeInUse):
            async with one.none("vol", URL):
                pass
    async with one.none("vol", URL):
        pass


# --- storage that hangs -----------------------------------------------------------------------


@pytest.fixture
def hangs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], list[str]]]:
    """Let a folder hang; the looks at what is in it, each of which keeps its thread to the end."""
    answers, looks, real = threading.Event(), list[str](), os.lstat

    def hanging(folder: Path) -> list[str]:
        def lstat(path: Any, **options: Any) -> os.stat_result:
            if os.fspath(path).startswith(f"{folder}/"):
                looks.append(path)
                assert answers.wait(WAIT), "nobody else could go on meanwhile"
            return real(path, **options)

        monkeypatch.setattr(os, "lstat", lstat)
        return looks

    yield hanging
    answers.set()


async def test_a_copy_whose_path_hangs_stops_nobody_and_may_use_the_device(
    tmp_path: Path, hangs: Callable[[Path], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(managed_use, "ANSWER_TIME", 1.0)
    (tmp_path / "device").touch()
    looks = hangs(tmp_path / "nfs")
    one, beats = uses(str(tmp_path / "nfs" / "disk")), 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await trio.sleep(LOOK)
            beats += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(beat)
        for _ in range(2):
            with pytest.raises(ManagedVolumeInUse, match=f"nfs/disk of job {JOB} has not answered"):
                async with one.none("vol", str(tmp_path / "device")):
                    raise AssertionError("it is not known whether it is used")
        nursery.cancel_scope.cancel()
    assert beats > 1
    assert len(looks) == 1, "each attempt to detach keeps a thread"
    assert one.leaving == set()


async def test_a_path_that_hangs_is_in_the_way_of_none_to_which_it_cannot_lead(
    tmp_path: Path, hangs: Callable[[Path], list[str]]
) -> None:
    device, path = tmp_path / "device", str(tmp_path / "nfs" / "disk")
    device.touch()
    looks = hangs(tmp_path / "nfs")
    socket = f"nbd+unix:///vol?socket={tmp_path}/nfs/socket"
    async with uses(path, socket.replace("vol", "other")).none("vol", URL):
        pass  # it is no file, or another export
    async with uses(Named(path, JOB, (path,))).none("vol", str(device)):
        pass  # its name had no link in it
    assert looks == []
    with pytest.raises(ManagedVolumeInUse, match="has not ended"):
        async with uses(Named(str(device), JOB, (str(device),))).none("vol", str(device)):
            pass


async def test_a_name_without_a_link_is_compared_with_where_the_volume_leads(
    tmp_path: Path,
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "device")
    device = str(tmp_path / "device")
    with pytest.raises(ManagedVolumeInUse):
        async with uses(Named(device, JOB, (device,))).none("vol", str(tmp_path / "link")):
            pass


async def test_a_volume_whose_own_path_hangs_is_not_let_go(
    tmp_path: Path, hangs: Callable[[Path], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(managed_use, "ANSWER_TIME", 0.3)
    hangs(tmp_path)
    with pytest.raises(ManagedVolumeInUse, match=f"{tmp_path}/device has not answered"):
        async with uses().none("vol", str(tmp_path / "device")):
            pass
