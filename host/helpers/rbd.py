"""The driver `rbd`: a Ceph image, as a device of the kernel where that has rbd, else by its url.

data, as cinder's rbd driver gives it: name (POOL/[NAMESPACE/]IMAGE), hosts and ports (of the
monitors), auth_enabled, auth_username, keyring (the content of the file, or the key alone). Ours
gives mon_host as well: the monitors in Ceph's own words, with the protocols that they speak.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from endpoints.url import RbdUrl, parse
from host.helpers import access as files
from host.helpers.failure import Failed, Unsure
from leases.steps import reached
from processes import krbd
from protocol.errors import BadOutput, BadParameter, ToolKilled, ToolStalled

MOUNT_TIME = 20  # seconds for the monitors to answer; librados itself waits for five minutes
_HOST = re.compile(r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_][A-Za-z0-9._-]*|[0-9A-Fa-f:.]+", re.ASCII)
_MON_HOST = re.compile(r"[A-Za-z0-9_.:,\[\]/ -]{1,4096}", re.ASCII)
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)
_KEY = re.compile(r"[A-Za-z0-9+/=]{16,}", re.ASCII)


@dataclass(frozen=True)
class _Image:
    """user: without `client.`; None: no authentication."""

    pool: str
    namespace: str
    name: str
    monitors: str
    user: str | None
    keyring: str | None

    @property
    def spec(self) -> str:
        return "/".join(part for part in (self.pool, self.namespace, self.name) if part)


async def attach(data: Mapping[str, Any], access: Path) -> dict[str, Any]:
    """Raises Failed, Error; Unsure: it may have become a device."""
    image = _image(data)
    conf, keyring = _written(image, access)
    reached("helper-attach", "access")
    if not await krbd.usable():
        return {"type": "url", "path": str(_url(image, conf, keyring))}
    for device in krbd.devices(image.pool, image.namespace, image.name):
        return {"type": "block", "path": device}
    try:
        device = await krbd.map_(image.spec, user=image.user, conf=conf, keyring=keyring)
    except (BadOutput, ToolKilled, ToolStalled) as e:  # the kernel goes on without its program
        raise Unsure(str(e)) from None
    reached("helper-attach", "map")
    return {"type": "block", "path": device}


async def detach(
    data: Mapping[str, Any], attachment: Mapping[str, Any] | None, access: Path
) -> None:
    image = _image(data)
    for device in krbd.devices(image.pool, image.namespace, image.name):
        # By the image as well as by its name: numbers of devices are used again.
        if attachment is None or attachment.get("path") == device:
            await krbd.unmap(device)
            reached("helper-detach", "unmap")
    files.clear(access)


def _written(image: _Image, access: Path) -> tuple[Path, Path | None]:
    """The configuration and the keyring, as files."""
    lines = ["[global]", f"mon host = {image.monitors}", f"client mount timeout = {MOUNT_TIME}"]
    keyring = None
    if image.user is None:
        lines += [f"auth {one} required = none" for one in ("cluster", "service", "client")]
    elif image.keyring is not None:
        keyring = files.write(access, "keyring", image.keyring)
        lines.append(f"keyring = {keyring}")
    return files.write(access, "ceph.conf", "\n".join([*lines, ""])), keyring


def _url(image: _Image, conf: Path, keyring: Path | None) -> RbdUrl:
    options = {"id": image.user, "conf": str(conf), "keyring": str(keyring) if keyring else None}
    given = tuple((key, value) for key, value in options.items() if value is not None)
    return RbdUrl(image.pool, image.namespace, image.name, given)


def _image(data: Mapping[str, Any]) -> _Image:
    """Raises Failed."""
    name = data.get("name")
    user = data.get("auth_username")
    if not isinstance(name, str) or not isinstance(user, str | None):
        raise Failed("the connection has no name of an image, or no valid auth_username")
    try:
        url = parse(f"rbd:{name}" + (f":id={user}" if user else ""))
    except BadParameter as e:
        raise Failed(e.reason) from None
    if not isinstance(url, RbdUrl) or url.options != ((("id", user),) if user else ()):
        raise Failed("the name of the image is none")
    if not data.get("auth_enabled", True):
        user = None
    keyring = _keyring(data.get("keyring"), user or "admin")
    return _Image(url.pool, url.namespace, url.image, _monitors(data), user or None, keyring)


def _keyring(given: Any, user: str) -> str | None:
    if given in (None, ""):
        return None
    if not isinstance(given, str):
        raise Failed("the keyring is no text")
    if _KEY.fullmatch(given.strip()):
        return f"[client.{user}]\n\tkey = {given.strip()}\n"
    return given if given.endswith("\n") else f"{given}\n"


def _monitors(data: Mapping[str, Any]) -> str:
    """Raises Failed."""
    if (given := data.get("mon_host")) is not None:
        if not isinstance(given, str) or not _MON_HOST.fullmatch(given):
            raise Failed(f"{given!r:.80} names no monitors")
        return given
    hosts, ports = data.get("hosts"), data.get("ports") or []
    if not isinstance(hosts, list) or not hosts or not isinstance(ports, list):
        raise Failed("the connection has no list of hosts: the monitors")
    texts = [str(one) for one in ports] or [""] * len(hosts)
    if len(texts) != len(hosts):
        raise Failed("the connection has another number of ports than of hosts")
    return ",".join(map(_monitor, hosts, texts))


def _monitor(host: Any, port: str) -> str:
    if not isinstance(host, str) or not _HOST.fullmatch(host):
        raise Failed(f"{host!r:.80} is no host of a monitor")
    if port and not _PORT.fullmatch(port):
        raise Failed(f"{port!r:.80} is no port of a monitor")
    shown = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"{shown}:{port}" if port else shown
