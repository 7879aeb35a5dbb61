"""The driver `iscsi`: a unit of an iSCSI target.

Where the kernel has an initiator and multipathd runs, as a multipath device; else by its url, for
the initiator in QEMU. data, as cinder gives it: target_portal, target_iqn and target_lun, or lists
of them by the names in the plural; auth_method, auth_username and auth_password.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from endpoints.url import IscsiUrl, parse
from host.helpers import access as files
from host.helpers import initiator, iscsi_kernel
from host.helpers.failure import Failed
from leases.steps import reached
from processes.iscsiadm import Credentials
from protocol.errors import BadParameter

CONNECT_TIME = 5.0  # seconds in which a portal must take a connection
_NUMBER = re.compile(r"[0-9]{1,5}", re.ASCII)


@dataclass(frozen=True)
class Connection:
    """units: the same unit by each of its paths, at least one."""

    units: tuple[IscsiUrl, ...]
    credentials: Credentials | None


async def attach(data: Mapping[str, Any], access: Path) -> dict[str, Any]:
    connection = read(data)
    if await iscsi_kernel.usable():
        return await iscsi_kernel.attach(connection.units, connection.credentials)
    unit = await _answering(connection.units)
    options = {"initiator-name": initiator.name()}
    if connection.credentials is not None:
        secret = files.write(access, "chap", connection.credentials.password)
        reached("helper-attach", "access")
        options |= {"user": connection.credentials.user, "password-file": str(secret)}
    url = IscsiUrl(unit.host, unit.port, unit.target, unit.lun, tuple(options.items()))
    return {"type": "url", "path": str(url)}


async def detach(
    data: Mapping[str, Any], attachment: Mapping[str, Any] | None, access: Path
) -> None:
    """A session to a url is that of the program which has it open: none of ours."""
    connection = read(data)
    by_url = attachment is not None and attachment.get("type") == "url"
    if not by_url and await iscsi_kernel.usable():
        await iscsi_kernel.detach(connection.units)
    files.clear(access)


async def _answering(units: tuple[IscsiUrl, ...]) -> IscsiUrl:
    """The first whose portal takes connections. Raises Failed."""
    reasons = []
    for unit in units:
        try:
            with trio.fail_after(CONNECT_TIME):
                stream = await trio.open_tcp_stream(unit.host, unit.port)
            await stream.aclose()
        except (OSError, trio.TooSlowError) as e:
            why = str(e) if isinstance(e, OSError) else f"not in {CONNECT_TIME:g} s"
            reasons.append(f"{unit.host}:{unit.port} does not answer ({why})")
        else:
            return unit
    raise Failed("; ".join(reasons))


def read(data: Mapping[str, Any]) -> Connection:
    """Raises Failed."""
    portals, targets, luns = (
        _several(data, name) for name in ("target_portal", "target_iqn", "target_lun")
    )
    if len(luns) == 1:
        luns *= len(portals)
    if not portals or not len(portals) == len(targets) == len(luns):
        raise Failed("the connection needs as many target_portals as target_iqns and target_luns")
    units = map(_unit, portals, targets, luns)
    return Connection(tuple(dict.fromkeys(units)), _credentials(data))


def _several(data: Mapping[str, Any], name: str) -> list[Any]:
    several = data.get(f"{name}s")
    if isinstance(several, list) and several:
        return several
    return [] if data.get(name) is None else [data[name]]


def _unit(portal: Any, target: Any, lun: Any) -> IscsiUrl:
    if isinstance(lun, bool) or not _NUMBER.fullmatch(str(lun)):
        raise Failed(f"{lun!r:.80} is no number of a unit")
    # Cinder may give the group of portals as well: HOST:PORT,GROUP.
    address = str(portal).partition(",")[0]
    try:
        url = parse(f"iscsi://{address}/{target}/{lun}")
    except BadParameter as e:
        raise Failed(e.reason) from None
    if not isinstance(url, IscsiUrl) or url.options:
        raise Failed(f"{target!r:.80} is no name of a target")
    return url


def _credentials(data: Mapping[str, Any]) -> Credentials | None:
    """Raises Failed."""
    method = data.get("auth_method")
    if method in (None, "", "None"):
        return None
    user, password = data.get("auth_username"), data.get("auth_password")
    texts = isinstance(user, str) and isinstance(password, str)
    if method != "CHAP" or not texts or not user or not password:
        raise Failed("of authentications only CHAP is known, with auth_username and auth_password")
    assert isinstance(user, str)
    assert isinstance(password, str)
    if not (user.isprintable() and password.isprintable()):
        raise Failed("auth_username or auth_password has control characters")
    return Credentials(user, password)
