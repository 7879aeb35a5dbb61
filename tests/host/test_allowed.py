"""What a client may name: a path counts by where it leads."""

import os
from pathlib import Path
from uuid import UUID

import pytest

from endpoints.external import CopyDataExternalEndpoint
from endpoints.url import parse
from host.allowed import Allowed
from host.config import Endpoints
from host.managed_use import Attached
from protocol.errors import BadParameter, ImageRefused
from protocol.messages import DivEndpoint, Endpoint, ExternalEndpoint
from storage.image import Policy
from tests.servers import MIB, raw_image


def checked(url: str, **rules: tuple[str, ...]) -> str:
    message = ExternalEndpoint(url=url, format="raw")
    return Allowed(Endpoints(**rules)).checked(message).url  # type: ignore[arg-type]


def test_a_device_keeps_its_name_and_must_be_one(tmp_path: Path) -> None:
    devices = (str(tmp_path),)
    os.symlink("/dev/null", tmp_path / "null")
    os.symlink("/etc/passwd", tmp_path / "file")
    (tmp_path / "plain").touch()
    for name in ("null", "file", "plain"):
        with pytest.raises(BadParameter, match="no block device"):
            checked(str(tmp_path / name), devices=devices)
    os.symlink("/dev/missing", tmp_path / "missing")
    assert checked(str(tmp_path / "missing"), devices=devices) == str(tmp_path / "missing")
    os.symlink("/srv/missing", tmp_path / "outside")
    with pytest.raises(BadParameter):
        checked(str(tmp_path / "outside"), devices=devices)


def test_a_block_device_behind_a_link_is_allowed(tmp_path: Path) -> None:
    found = [path for path in Path("/dev").iterdir() if path.is_block_device()]
    if not found:
        pytest.skip("this machine has no block device")
    os.symlink(found[0], tmp_path / "disk")
    assert checked(str(tmp_path / "disk"), devices=(str(tmp_path),)) == str(tmp_path / "disk")
    with pytest.raises(BadParameter):
        checked(str(tmp_path / "disk"), directories=(str(tmp_path),))


def test_a_file_gets_its_real_name(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    os.symlink("real", tmp_path / "link")
    directories = (f"{tmp_path}/link",)
    for url in (f"{tmp_path}/link/new", f"{tmp_path}//real/./new"):
        assert checked(url, directories=directories) == f"{tmp_path}/real/new"


def test_a_folder_that_begins_like_an_allowed_one_is_another(tmp_path: Path) -> None:
    with pytest.raises(BadParameter):
        checked(f"{tmp_path}/images2/x", directories=(f"{tmp_path}/images",))
    assert checked("/x", directories=("/",)) == "/x"


def test_the_socket_of_a_server_counts_like_a_file(tmp_path: Path) -> None:
    directories = (str(tmp_path),)
    url = f"nbd+unix:///disk?socket={tmp_path}/socket"
    assert checked(url, directories=directories) == url
    assert checked(f"nbd:unix:{tmp_path}/socket:exportname=disk", directories=directories) == url
    with pytest.raises(BadParameter):
        checked("nbd+unix:///disk?socket=/run/other/socket", directories=directories)


def test_network_urls_are_as_they_are() -> None:
    for url in ("nbd://host:10809/x", "iscsi://host:3260/iqn.2001-04.com.example:x/1"):
        assert checked(url) == url
    assert checked("rbd:pool/image:id=x:conf=/etc/ceph/other.conf").startswith("rbd:pool/image")
    for option in ("conf=/tmp/x.conf", "keyring=/etc/ceph/../passwd"):
        with pytest.raises(BadParameter):
            checked(f"rbd:pool/image:{option}")


def test_files_and_sockets_must_stay_real_and_devices_need_not(tmp_path: Path) -> None:
    rules = Endpoints(directories=(str(tmp_path),), devices=("/dev/mapper",))
    sd_id = UUID(int=1)
    ends: list[Endpoint] = [
        ExternalEndpoint(url=f"{tmp_path}/file", format="raw"),
        ExternalEndpoint(url=f"nbd+unix:///x?socket={tmp_path}/socket", format="raw"),
        ExternalEndpoint(url="/dev/mapper/disk", format="raw"),
        ExternalEndpoint(url="nbd://host/x", format="raw"),
        DivEndpoint(sd_id=sd_id, img_id=sd_id, vol_id=sd_id),
    ]
    names = f"{tmp_path}/file", f"{tmp_path}/socket"
    assert Allowed(rules).real_names(*ends) == names


async def test_a_name_that_has_become_a_link_is_refused(tmp_path: Path) -> None:
    file, other = raw_image(tmp_path / "file", MIB), raw_image(tmp_path / "other", MIB)
    message = ExternalEndpoint(url=str(file), format="raw")
    real = CopyDataExternalEndpoint.read(message, real=True)
    assert (await real.source(Policy())).size == MIB
    assert (await real.target(MIB, ())).format == "raw"
    file.unlink()
    file.symlink_to(other)
    for use in (real.source(Policy()), real.target(MIB, ())):
        with pytest.raises(ImageRefused, match=str(other)):
            await use
    by_user = CopyDataExternalEndpoint.read(message)  # who names a link of his own means it
    assert (await by_user.source(Policy())).size == MIB


def test_a_password_file_is_named_by_attached_volumes_alone() -> None:
    iqn = "iqn.2026-01.org.example:disk"
    assert checked(f"iscsi://host/{iqn}/1?initiator-name=iqn.x")
    with pytest.raises(BadParameter, match="attached"):
        checked(f"iscsi://host/{iqn}/1?user=joe&password-file=/etc/shadow")


def test_what_is_attached_is_allowed_beside_the_rules(tmp_path: Path) -> None:
    url = "iscsi://host:3260/iqn.2026-01.org.example:disk/1?user=joe&password-file=/run/x"
    link = f"{tmp_path}/sd_vol"
    attached = Attached(str(tmp_path), frozenset({link}), frozenset({parse(url)}))
    strict = Endpoints(schemes=(), directories=(), devices=())
    for one in (url, link):
        assert Allowed(strict, attached).checked(external(one)).url == one
        with pytest.raises(BadParameter, match="not allowed"):
            Allowed(strict).checked(external(one))
    loose = Endpoints(directories=(str(tmp_path),), devices=(str(tmp_path),))
    with pytest.raises(BadParameter, match="not attached"):
        Allowed(loose, attached).checked(external(f"{tmp_path}/sd_other"))
    names = Allowed(strict, attached).real_names(external(link), external(url))
    assert names == ()  # the link is to a device: it leads where the agent made it lead


def external(url: str) -> ExternalEndpoint:
    return ExternalEndpoint(url=url, format="raw")
