"""The authority: whole folders, keys that nobody else reads, nothing overwritten unasked."""

import ssl
import stat
from pathlib import Path
from typing import Any

import pytest

from host import pki
from host.wire import tls
from protocol.errors import BadParameter
from tests.host.authority import Site, sites

pytestmark = pytest.mark.tools("openssl")
__all__ = ["sites"]


def decoded(path: str) -> dict[str, Any]:
    """What the standard library makes of a certificate."""
    found: dict[str, Any] = ssl._ssl._test_decode_cert(path)  # type: ignore[attr-defined]
    return found


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_keys_are_for_their_owner_alone_and_nothing_else_is_left(
    sites: tuple[Site, Site],
) -> None:
    folder = sites[1].folder
    found = {name.split("/")[0] for name in content(folder)}
    assert found == {"ca", "host", "engine", "monitor"}
    for file in folder.rglob("*.pem"):
        mode = stat.S_IMODE(file.stat().st_mode)
        assert mode == (0o600 if file.name == "key.pem" else 0o644), file
    assert {file.name for file in (folder / "engine").iterdir()} == {
        "ca.pem",
        "cert.pem",
        "key.pem",
    }


def test_a_certificate_names_role_and_hosts(sites: tuple[Site, Site]) -> None:
    engine = decoded(sites[0].files("engine")[1])
    assert tls.peer(engine, {}).role == "engine"
    host = decoded(sites[0].files("host")[1])
    assert host["subjectAltName"] == (
        ("IP Address", "127.0.0.1"),
        ("DNS", "host1.example.com"),
    )
    with pytest.raises(tls.NotAdmitted):
        tls.peer(host, {})


async def test_a_host_without_names_has_its_own(tmp_path: Path) -> None:
    await pki.init(tmp_path)
    issued = await pki.issue(tmp_path, "host2.example.com", role="host", days=3)
    found = decoded(issued.certificate)
    assert found["subjectAltName"] == (("DNS", "host2.example.com"),)
    days = (
        ssl.cert_time_to_seconds(found["notAfter"]) - ssl.cert_time_to_seconds(found["notBefore"])
    ) / 86400
    assert days == 3


async def test_nothing_is_replaced_unless_that_was_asked_for(tmp_path: Path) -> None:
    await pki.init(tmp_path)
    await pki.issue(tmp_path, "a", role="engine")
    before = content(tmp_path)
    with pytest.raises(BadParameter, match="there already"):
        await pki.init(tmp_path)
    with pytest.raises(BadParameter, match="there already"):
        await pki.issue(tmp_path, "a", role="engine")
    assert content(tmp_path) == before
    await pki.issue(tmp_path, "a", role="engine", replace=True)
    after = content(tmp_path)
    assert after["a/key.pem"] != before["a/key.pem"]
    assert after["a.old-1/key.pem"] == before["a/key.pem"]


@pytest.mark.parametrize(
    ("name", "names", "days", "what"),
    [
        ("ca", [], 1, "authority itself"),
        ("../x", [], 1, "name"),
        ("", [], 1, "name"),
        ("a\nb", [], 1, "name"),
        ("a" * 65, [], 1, "name"),
        ("-a", [], 1, "name"),
        ("a", ["a b"], 1, "names"),
        ("a", ["x, DNS:evil"], 1, "names"),
        ("a", ["-x"], 1, "names"),
        ("a", [], 0, "days"),
        ("a", [], 36501, "days"),
    ],
)
async def test_what_is_no_name_or_time_is_refused_before_anything_is_made(
    tmp_path: Path, name: str, names: list[str], days: int, what: str
) -> None:
    await pki.init(tmp_path)
    before = content(tmp_path)
    with pytest.raises(BadParameter, match=what):
        await pki.issue(tmp_path, name, role="host", names=names, days=days)
    assert content(tmp_path) == before


async def test_without_an_authority_nothing_is_issued(tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="pki init"):
        await pki.issue(tmp_path, "a", role="engine")
    assert not any(tmp_path.iterdir())


async def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    await pki.init(tmp_path)
    (tmp_path / "ca" / "key.pem").write_text("damaged")
    before = content(tmp_path)
    with pytest.raises(Exception, match="openssl"):
        await pki.issue(tmp_path, "a", role="engine")
    assert content(tmp_path) == before
