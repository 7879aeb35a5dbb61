"""Where webhooks may go: a url is checked when it is taken, its addresses at each delivery.

A url comes from whoever may add a webhook; the request comes from inside. So it must not reach what
only this machine or its network can, unless the configuration says so.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import trio

from protocol.errors import BadParameter

LONGEST = 2000  # characters
SCHEMES = {"https": 443, "http": 80}


@dataclass(frozen=True)
class Rules:
    """plain: http is allowed. private: so are loopback, link-local and private addresses."""

    plain: bool = False
    private: bool = False


@dataclass(frozen=True)
class Place:
    """url: with the address in the place of the name. host: the name, for TLS and for the header
    Host, which has the port where it is not the usual one."""

    url: str
    host: str
    header: str


def checked(url: str, rules: Rules) -> str:
    """The url, if it may be one. Raises BadParameter (1000)."""
    if len(url) > LONGEST or not url.isascii() or not url.isprintable() or " " in url:
        raise BadParameter("url", f"at most {LONGEST} printable characters of ASCII")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as e:
        raise BadParameter("url", str(e)) from None
    if parts.scheme not in SCHEMES or (parts.scheme == "http" and not rules.plain):
        raise BadParameter("url", "it does not begin with https://")
    if parts.username is not None or parts.password is not None:
        raise BadParameter("url", "no name and no password may stand in it")
    if not parts.hostname or port == 0:
        raise BadParameter("url", "it names no host, or no port")
    if parts.fragment:
        raise BadParameter("url", "what follows # is not sent")
    if (address := _address(parts.hostname)) is not None:
        _allow(address, rules)
    return url


async def place(url: str, rules: Rules) -> Place:
    """Where to connect to, looked up now: what a name means may have changed since it was checked.

    Raises BadParameter (1000): it leads where it may not; OSError: there is no such name.
    """
    parts = urlsplit(checked(url, rules))
    host = parts.hostname or ""
    port = parts.port or SCHEMES[parts.scheme]
    found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
    addresses = [ipaddress.ip_address(str(info[4][0]).partition("%")[0]) for info in found]
    chosen = _first(addresses, rules)
    named = f"[{chosen}]" if chosen.version == 6 else str(chosen)
    header = host if port == SCHEMES[parts.scheme] else f"{host}:{port}"
    if ":" in host:
        header = header.replace(host, f"[{host}]", 1)
    target = (parts.scheme, f"{named}:{port}", parts.path or "/", parts.query, "")
    return Place(urlunsplit(target), host, header)


Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _first(addresses: Sequence[Address], rules: Rules) -> Address:
    """All must be allowed: else a name could have one of each."""
    for one in addresses:
        _allow(one, rules)
    return addresses[0]


def _allow(address: Address, rules: Rules) -> None:
    mapped = getattr(address, "ipv4_mapped", None) or address
    if not rules.private and (not mapped.is_global or mapped.is_multicast):
        raise BadParameter("url", f"{address} is an address of this machine or its network")


def _address(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
