"""What a client may name: a path counts by where it leads."""

import os
from pathlib import Path

import pytest

from host.allowed import Allowed
from host.config import Endpoints
from protocol.errors import BadParameter
from protocol.messages import ExternalEndpoint


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
