"""Which disks outside of storage domains a client may name.

A client is trusted to copy, not to read or write any file of the host: a path counts by where it
really leads. What is allowed is told to the worker by its real name, so that a link which is
changed afterwards leads nowhere else; and a name that becomes a link afterwards is refused.
"""

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from endpoints.external import local_name
from endpoints.url import IscsiUrl, NbdUnixUrl, NbdUrl, PathUrl, RbdUrl, Url, parse
from host.config import Endpoints
from host.managed_use import NOTHING, Attached
from protocol.errors import BadParameter
from protocol.messages import Endpoint, ExternalEndpoint

_SCHEMES: dict[type, str] = {
    PathUrl: "path",
    NbdUnixUrl: "nbd+unix",
    NbdUrl: "nbd",
    IscsiUrl: "iscsi",
    RbdUrl: "rbd",
}


@dataclass(frozen=True)
class Allowed:
    """rules: of the configuration. attached: what is allowed beside them, for as long as it is.

    Its calls block: links are followed.
    """

    rules: Endpoints
    attached: Attached = NOTHING

    def checked(self, message: ExternalEndpoint) -> ExternalEndpoint:
        """The endpoint with the real name of a file. Raises BadParameter (1000)."""
        url = parse(message.url)
        if (attached := self.attached.found(url)) is not None:
            return msgspec.structs.replace(message, url=str(attached))
        scheme = _SCHEMES[type(url)]
        if scheme not in self.rules.schemes:
            known = ", ".join(self.rules.schemes) or "none"
            raise BadParameter("url", f"{scheme} is not allowed on this host; allowed: {known}")
        return msgspec.structs.replace(message, url=str(self._checked(url)))

    def real_names(self, *checked: Endpoint) -> tuple[str, ...]:
        """The files and sockets among them, whose names had no link in them when they were checked.

        Not devices: their names are links as a rule, in folders where only root makes some.
        """
        urls = [parse(end.url) for end in checked if isinstance(end, ExternalEndpoint)]
        names = [local_name(url) for url in urls if not self._is_device(url)]
        return tuple(name for name in names if name is not None)

    def _is_device(self, url: Url) -> bool:
        if not isinstance(url, PathUrl):
            return False
        return self.attached.is_device(url) or any(
            _below(os.path.normpath(url.path), one) for one in self.rules.devices
        )

    def _checked(self, url: Url) -> Url:
        if isinstance(url, PathUrl):
            return self._path(url)
        if isinstance(url, NbdUnixUrl):
            return NbdUnixUrl(_real(url.socket, self.rules.directories), url.export)
        if isinstance(url, IscsiUrl) and "password-file" in dict(url.options):
            raise BadParameter("url", "a password-file is named by attached volumes alone")
        if isinstance(url, RbdUrl):
            # librbd does what its conf says, down to where it writes its log.
            for key, value in url.options:
                if key in ("conf", "keyring"):
                    _real(value, self.rules.ceph)
        return url

    def _path(self, url: PathUrl) -> PathUrl:
        if self._is_device(url):
            return _device(url)
        return PathUrl(_real(url.path, self.rules.directories))


def _device(url: PathUrl) -> PathUrl:
    """A device keeps its name, which is a link as a rule; but it leads to a block device."""
    _check_plain(url.path)
    real = os.path.realpath(url.path)
    try:
        is_block = stat.S_ISBLK(os.stat(real).st_mode)
    except OSError:
        is_block = True  # it is missing, which the job says
    if not is_block or not (_below(real, "/dev") or real == url.path):
        raise BadParameter("url", f"{url.path} leads to {real}, which is no block device in /dev")
    return url


def _real(path: str, directories: Iterable[str]) -> str:
    """Where a path really leads, if that is in one of the directories."""
    _check_plain(path)
    real = os.path.realpath(path)
    if any(_below(real, os.path.realpath(one)) for one in directories):
        return real
    shown = path if real == path else f"{path}, which leads to {real},"
    raise BadParameter("url", f"{shown} is not in a directory that is allowed on this host")


def _check_plain(path: str) -> None:
    if ".." in path.split("/"):
        raise BadParameter("url", f"{path} has a component `..`")


def _below(path: str, directory: str) -> bool:
    """By whole components."""
    return path != directory and os.path.commonpath((path, directory)) == directory
