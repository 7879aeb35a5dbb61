"""Certificates for tests: of a site, of another one, and some that are no good."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from host import pki
from host.wire.tls import Certificates
from processes import openssl
from protocol.address import TlsAddress


@dataclass(frozen=True)
class Site:
    """The folder of an authority, with certificates for host, engine and monitor."""

    folder: Path

    def server(self) -> Certificates:
        files = self.files("host")
        return Certificates(files[0], *files[1:], names={"engine.example.com": "engine"})

    def files(self, name: str) -> tuple[str, str, str]:
        """ca, certificate, key."""
        place = self.folder / name
        return str(place / "ca.pem"), str(place / "cert.pem"), str(place / "key.pem")

    def client(self, port: int, name: str, host: str = "127.0.0.1") -> TlsAddress:
        return TlsAddress(host, port, *self.files(name))


async def _make(folder: Path) -> Site:
    await pki.init(folder)
    await pki.issue(folder, "host", role="host", names=["127.0.0.1", "host1.example.com"])
    await pki.issue(folder, "engine", role="engine")
    await pki.issue(folder, "monitor", role="monitor")
    return Site(folder)


async def odd(site: Site, name: str, *, days: int, unit: str | None, common: str) -> None:
    """A certificate that the authority would not make."""
    place = site.folder / name
    place.mkdir()
    await openssl.make_certificate(
        place,
        subject=[*([("OU", unit)] if unit else []), ("CN", common)],
        names=(),
        purpose="clientAuth",
        days=days,
        authority=(site.folder / "ca" / "ca.pem", site.folder / "ca" / "key.pem"),
        key=place / "key.pem",
        certificate=place / "cert.pem",
    )
    (place / "ca.pem").write_bytes((site.folder / "ca" / "ca.pem").read_bytes())


@pytest.fixture(scope="session")
def sites(tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, Site]:
    """Two sites that do not trust each other; the first has odd certificates too."""

    async def make() -> tuple[Site, Site]:
        folder = tmp_path_factory.mktemp("sites")
        one, other = await _make(folder / "one"), await _make(folder / "other")
        await odd(one, "expired", days=-1, unit="engine", common="engine")
        await odd(one, "nobody", days=1, unit=None, common="nobody")
        await odd(one, "named", days=1, unit="Sales", common="engine.example.com")
        return one, other

    return trio.run(make)
