"""Units of iSCSI targets, by their urls: kernels without an initiator have no other way."""

from pathlib import Path
from typing import Any

import pytest

from endpoints.url import IscsiUrl, parse
from host.helpers import initiator
from host.helpers.failure import Failed
from host.helpers.iscsi import read
from processes.iscsiadm import Credentials
from tests.host.helpers.calls import HARDWARE_ID, attach, detach
from tests.tgt import tgt
from tests.tgt_server import free_port

IQN = "iqn.2026-01.org.example:volumes"
ONE = {"target_portal": "10.0.0.1:3260", "target_iqn": IQN, "target_lun": 1}
CHAP = {"auth_method": "CHAP", "auth_username": "joe", "auth_password": "TOPSECRET"}
NO_KERNEL = {"PATH": "/usr/bin"}  # where no iscsiadm is


@pytest.mark.parametrize(
    ("data", "units"),
    [
        (ONE, [("10.0.0.1", 3260, 1)]),
        ({**ONE, "target_portal": "10.0.0.1:3260,1", "target_lun": "7"}, [("10.0.0.1", 3260, 7)]),
        ({**ONE, "target_portal": "[fd00::1]:860"}, [("fd00::1", 860, 1)]),
        ({**ONE, "target_portal": "array"}, [("array", 3260, 1)]),
        (
            {
                "target_portals": ["a:1", "b:2"],
                "target_iqns": [IQN, IQN],
                "target_luns": [3, 4],
                **ONE,
            },
            [("a", 1, 3), ("b", 2, 4)],
        ),
        (
            {"target_portals": ["a:1", "a:1"], "target_iqns": [IQN, IQN], "target_lun": 3},
            [("a", 1, 3)],
        ),
    ],
)
def test_cinders_words_are_understood(data: dict[str, Any], units: list[Any]) -> None:
    found = read(data)
    assert [(unit.host, unit.port, unit.lun) for unit in found.units] == units
    assert {unit.target for unit in found.units} == {IQN}
    assert found.credentials is None


def test_the_secret_of_chap_is_not_printed_by_chance() -> None:
    found = read({**ONE, **CHAP})
    assert found.credentials == Credentials("joe", "TOPSECRET")
    assert "TOPSECRET" not in repr(found)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {**ONE, "target_portal": None},
        {**ONE, "target_portal": "user%secret@host:1"},
        {**ONE, "target_portal": "host:1/x"},
        {**ONE, "target_iqn": "-o new"},
        {**ONE, "target_iqn": f"{IQN}?initiator-name=x"},
        {**ONE, "target_iqn": f"{IQN}/5"},
        {**ONE, "target_lun": -1},
        {**ONE, "target_lun": True},
        {**ONE, "target_lun": "1/2"},
        {**ONE, "target_lun": "9" * 5000},
        {"target_portals": ["a:1"], "target_iqns": [IQN, IQN], "target_luns": [1]},
        {**ONE, "auth_method": "KERBEROS"},
        {**ONE, "auth_method": "CHAP"},
        {**ONE, **CHAP, "auth_password": 7},
        {**ONE, **CHAP, "auth_password": "x\nnode.startup = automatic"},
    ],
    ids=lambda data: str(data)[:80],
)
def test_what_cannot_be_understood_is_told(data: dict[str, Any]) -> None:
    with pytest.raises(Failed):
        read(data)


def test_the_url_says_who_logs_in_and_where_the_secret_is(tmp_path: Path) -> None:
    access = tmp_path / "access"
    with tgt(tmp_path, 1 << 20) as target:
        told = target.connection("joe, it's me", "TOPSECRET,1")
        found = attach(told, access, environment=NO_KERNEL).answer
        url = parse(found["path"])
        assert isinstance(url, IscsiUrl)
        assert (url.host, url.port, url.lun) == ("127.0.0.1", target.port, 1)
        secret = access / "chap"
        assert dict(url.options) == {
            "initiator-name": initiator.name_of(HARDWARE_ID),
            "user": "joe, it's me",
            "password-file": str(secret),
        }
        assert "TOPSECRET" not in found["path"]
        assert secret.read_text() == "TOPSECRET,1"
        assert secret.stat().st_mode & 0o777 == 0o600
        assert attach(told, access, environment=NO_KERNEL).answer == found
        assert detach(told, found, access, environment=NO_KERNEL).answer == {}
        assert not access.exists()
        assert detach(told, None, access, environment=NO_KERNEL).answer == {}


def test_a_portal_that_does_not_answer_is_passed_over(tmp_path: Path) -> None:
    gone = f"127.0.0.1:{free_port()}"
    with tgt(tmp_path, 1 << 20) as target:
        data = {
            "target_portals": [gone, target.portal],
            "target_iqns": [IQN, IQN],
            "target_luns": [1, 1],
        }
        told = {"driver_volume_type": "iscsi", "data": data}
        found = attach(told, tmp_path / "access", environment=NO_KERNEL).answer
        assert found["path"].startswith(f"iscsi://{target.portal}/")
    failure = attach(told, tmp_path / "access", environment=NO_KERNEL).failure
    for portal in (gone, target.portal):
        assert f"{portal} does not answer" in failure
    assert detach(told, found, tmp_path / "access", environment=NO_KERNEL).answer == {}


def test_the_name_of_open_iscsi_is_that_of_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "initiatorname.iscsi"
    monkeypatch.setattr(initiator, "FILE", file)
    monkeypatch.setenv("LEASEHOLD_IDENTITY_HARDWARE_ID", HARDWARE_ID)
    own = f"iqn.2008-11.org.linux-kvm:{HARDWARE_ID.lower()}"
    assert initiator.name() == own
    file.write_text("## made by the package\nInitiatorName=iqn.1993-08.org.debian:01:abc\n")
    assert initiator.name() == "iqn.1993-08.org.debian:01:abc"
    for nonsense in (b"GenerateName=yes\n", b"InitiatorName=\n", b"\xff", b"InitiatorName=a b\n"):
        file.write_bytes(nonsense)
        assert initiator.name() == own
    file.write_text("InitiatorName=iqn.1993-08.org.debian:01:abc\n")
    with monkeypatch.context() as said:
        said.setenv("LEASEHOLD_IDENTITY_INITIATOR", "iqn.2026-11.test:a")
        assert initiator.name() == "iqn.2026-11.test:a"
    file.unlink()
    monkeypatch.delenv("LEASEHOLD_IDENTITY_HARDWARE_ID")
    assert initiator.name().startswith("iqn.2008-11.org.linux-kvm:")
