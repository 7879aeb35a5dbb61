"""Where an attached volume is: from what the helper told, to a device or url that can be opened."""

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import trio

from endpoints.url import IscsiUrl, NbdUnixUrl, NbdUrl, NetworkUrl, PathUrl, RbdUrl, parse
from host import looking
from processes import nbd, qemu_img
from protocol.errors import (
    BadOutput,
    BadParameter,
    CannotConnect,
    Error,
    ManagedVolumeUnsupportedDevice,
    ToolFailed,
    ToolMissing,
    ToolStalled,
)

# Drivers of devices that come and go by several paths: only their multipath device is stable.
MULTIPATH = ("iscsi", "fibre_channel")
LOOK = 0.05  # seconds between two looks whether a device has appeared
REACH_TIME = 2.0  # seconds in which a server must take a connection
_MULTIPATH_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)


class Garbage(Exception):
    """What the helper told makes no sense; the text says why."""


class NotThere(Exception):
    """The device or the volume of a server cannot be opened; the text says why."""


@dataclass(frozen=True)
class Place:
    """path: of a device, or a url as the endpoint of a copy takes it."""

    path: str
    multipath_id: str | None = None

    @property
    def is_device(self) -> bool:
        return self.path.startswith("/")


def place(vol_id: str, driver: str, attachment: Mapping[str, Any]) -> Place:
    """Read what a helper told of a volume that it has attached.

    Raises Garbage; ManagedVolumeUnsupportedDevice (928): a device without a multipath id.
    """
    path = attachment.get("path")
    if not isinstance(path, str) or not path:
        raise Garbage("it told no path")
    path = _url(path)
    if not path.startswith("/"):
        return Place(path)
    if ".." in path.split("/"):
        raise Garbage(f"it told the path {path!r:.200}")
    multipath_id = attachment.get("multipath_id")
    if driver not in MULTIPATH:
        return Place(path, multipath_id if isinstance(multipath_id, str) else None)
    if multipath_id in (None, ""):
        reason = f"its device {path} has no multipath id: start multipathd on this host"
        raise ManagedVolumeUnsupportedDevice(vol_id, reason)
    if not isinstance(multipath_id, str) or not _MULTIPATH_ID.fullmatch(multipath_id):
        raise Garbage(f"it told the multipath id {multipath_id!r:.200}")
    return Place(f"/dev/mapper/{multipath_id}", multipath_id)


def _url(text: str) -> str:
    """A path or a url, in our own words. Raises Garbage."""
    try:
        url = parse(text)
    except BadParameter as e:
        raise Garbage(e.reason) from None
    return str(url)


async def appeared(vol_id: str, found: Place, seconds: float) -> None:
    """Wait until a device is there; see that the volume of a url can be opened.

    Raises NotThere; ManagedVolumeUnsupportedDevice (928): what is there is no block device.
    """
    if found.is_device:
        await _device(vol_id, found.path, seconds)
        return
    with trio.move_on_after(seconds):
        await _opened(found.path)
        return
    raise NotThere(f"{found.path} could not be opened in {seconds:g} s")


async def _device(vol_id: str, path: str, seconds: float) -> None:
    deadline = trio.current_time() + seconds
    while (mode := await _looked(path)) is None:
        if trio.current_time() >= deadline:
            raise NotThere(f"the device {path} did not appear in {seconds:g} s")
        await trio.sleep(LOOK)
    if not stat.S_ISBLK(mode):
        raise ManagedVolumeUnsupportedDevice(vol_id, f"{path} is no block device")


async def _opened(text: str) -> None:
    """As a copy opens it, so that a server which refuses us is found out here and now."""
    url = parse(text)
    assert not isinstance(url, PathUrl)
    try:
        if isinstance(url, NbdUnixUrl | NbdUrl):
            await nbd.info(url.uri)
        else:
            await qemu_img.info({"driver": "raw", "file": url.node()})
    except CannotConnect as e:
        raise NotThere(str(e)) from None
    except ToolFailed as e:
        said = e.detail.rpartition("}': ")[2]  # it begins with the url, in QEMU's own form
        raise NotThere(f"{text} cannot be opened: {said}") from None
    except (BadOutput, ToolMissing, ToolStalled) as e:
        raise NotThere(f"{text} cannot be opened: {e}") from None


async def exists(path: str) -> bool:
    """Is the device there, or does the server of the url take connections? A cheap look."""
    if path.startswith("/"):
        return await _looked(path) is not None
    try:
        url = parse(path)
    except Error:
        return False
    assert not isinstance(url, PathUrl)
    return await _reachable(url)


async def _reachable(url: NetworkUrl) -> bool:
    with trio.move_on_after(REACH_TIME):
        try:
            if isinstance(url, NbdUnixUrl):
                stream: trio.SocketStream = await trio.open_unix_socket(url.socket)
            elif isinstance(url, NbdUrl | IscsiUrl):
                stream = await trio.open_tcp_stream(url.host, url.port)
            else:  # its servers are in that file: without it nothing can be opened
                return await _looked(_conf(url)) is not None
        except OSError:
            return False
        await stream.aclose()
        return True
    return False


def _conf(url: RbdUrl) -> str:
    return dict(url.options).get("conf", "/etc/ceph/ceph.conf")


async def _looked(path: str) -> int | None:
    """`_mode`; None too: it does not answer. A path that hangs keeps one thread, and nobody."""
    with trio.move_on_after(REACH_TIME):
        return await looking.look(f"name {path}", _mode, path, at_once=1)
    return None


def _mode(path: str) -> int | None:
    """None: there is nothing at the path, or a link to nothing."""
    try:
        return os.stat(path).st_mode
    except OSError:
        return None
