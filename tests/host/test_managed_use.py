"""What copies may use of the attached volumes, and which of them copies do use."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from endpoints import disk
from endpoints.locks import Mode, held
from endpoints.url import NbdUnixUrl, PathUrl, parse
from host.managed_use import NOTHING, Attached, Uses
from protocol.errors import BadParameter, ManagedVolumeInUse

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


def uses(*copies: str) -> Uses:
    async def of_copies() -> Iterable[str]:
        return copies

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
