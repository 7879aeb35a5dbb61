"""Where a host is reached: the socket of its agent, or TLS.

unix:/run/leasehold/agent.sock      this host
tls://host1.example.com:54321       any host; the port may be left away
tcp://127.0.0.1:54321               this host, without encryption: only when it was asked to
"""

import ipaddress
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import SplitResult, urlsplit

from protocol.errors import BadParameter

PORT = 54321


@dataclass(frozen=True)
class UnixAddress:
    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True)
class TlsAddress:
    """ca, certificate, key: files in PEM format. The host's certificate must name `host`."""

    host: str
    port: int
    ca: str
    certificate: str
    key: str

    def __str__(self) -> str:
        return f"tls://{_bracketed(self.host)}:{self.port}"


@dataclass(frozen=True)
class PlainAddress:
    """host: a loopback address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"tcp://{_bracketed(self.host)}:{self.port}"


Address: TypeAlias = UnixAddress | TlsAddress | PlainAddress


def parse(url: str, *, ca: str = "", certificate: str = "", key: str = "") -> Address:
    """Read an address; ca, certificate and key are for TLS, which needs them. BadParameter."""
    if url.startswith("unix:"):
        path = url.removeprefix("unix:").removeprefix("//")
        if not path.startswith("/"):
            raise BadParameter("host", f"{url}: the path of the socket does not begin with /")
        return UnixAddress(path)
    host, port, scheme = _split(url)
    if scheme == "tcp":
        if not _is_loopback(host):
            raise BadParameter("host", f"{url}: without TLS only a loopback address, 127.0.0.1")
        return PlainAddress(host, port)
    if not (ca and certificate and key):
        raise BadParameter("host", f"{url}: TLS needs the files of ca, certificate and key")
    return TlsAddress(host, port, ca, certificate, key)


def _split(url: str) -> tuple[str, int, str]:
    try:
        parts: SplitResult = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as e:
        raise BadParameter("host", f"{url}: {e}") from None
    more = parts.path.strip("/") or parts.query or parts.fragment or parts.username is not None
    if parts.scheme not in ("tls", "tcp") or not host or more:
        raise BadParameter("host", f"{url} is none of unix:PATH, tls://HOST:PORT, tcp://HOST:PORT")
    return host, PORT if port is None else port, parts.scheme


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
