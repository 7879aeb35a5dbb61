"""Where a disk is: the url of an external endpoint as a typed union.

Only what is listed here can be said in a url: no option, protocol or secret can be smuggled in.
The forms are those that qemu-img(1) documents; the NBD ones also the NBD project's doc/uri.md.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, unquote, urlsplit

from processes.image_node import SECRET, Node
from processes.nbd_url import unix_uri
from protocol.errors import BadParameter

URL_LIMIT = 4096
NBD_PORT = 10809
ISCSI_PORT = 3260
ISCSI_OPTIONS = ("initiator-name", "user", "password-file")
RBD_OPTIONS = ("id", "conf", "keyring")
RBD_CONF = "/etc/ceph/ceph.conf"  # what librbd reads when nothing is said
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_PORTAL = re.compile(
    r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9_][A-Za-z0-9._-]{0,252}))(?::([0-9]*))?\Z"
)
_IQN = re.compile(r"[A-Za-z0-9.:-]{1,223}\Z")
_CHAP_USER = re.compile(r"[^\x00-\x1f\x7f]{1,255}\Z")
_RBD_NAME = re.compile(r"[^\x00-\x1f/@:=\\]{1,128}\Z")
_RBD_ID = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class PathUrl:
    """A regular file or block device, by absolute path."""

    path: str

    def __str__(self) -> str:
        return self.path

    @property
    def key(self) -> str:
        return f"path:{os.path.realpath(self.path)}"


@dataclass(frozen=True)
class NbdUnixUrl:
    """An export of a server on a unix socket."""

    socket: str
    export: str

    def __str__(self) -> str:
        return self.uri

    @property
    def uri(self) -> str:
        return unix_uri(self.socket, self.export)

    @property
    def key(self) -> str:
        return f"nbd+unix:{os.path.realpath(self.socket)}:{self.export}"

    def node(self) -> Node:
        server = {"type": "unix", "path": self.socket}
        return {"driver": "nbd", "server": server, "export": self.export}


@dataclass(frozen=True)
class NbdUrl:
    """An export of a server on the network."""

    host: str
    port: int
    export: str

    def __str__(self) -> str:
        return self.uri

    @property
    def uri(self) -> str:
        return f"nbd://{_bracketed(self.host)}:{self.port}/{quote(self.export, safe='')}"

    @property
    def key(self) -> str:
        return f"nbd:{self.host.lower()}:{self.port}:{self.export}"

    def node(self) -> Node:
        server = {"type": "inet", "host": self.host, "port": str(self.port)}
        return {"driver": "nbd", "server": server, "export": self.export}


@dataclass(frozen=True)
class IscsiUrl:
    """A logical unit of an iSCSI target.

    options: initiator-name (the IQN to log in as), user (for CHAP) and password-file (the absolute
    path of a file that holds its secret and nothing else).
    """

    host: str
    port: int
    target: str
    lun: int
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        options = "&".join(f"{key}={quote(value, safe='/:')}" for key, value in self.options)
        unit = f"iscsi://{_bracketed(self.host)}:{self.port}/{self.target}/{self.lun}"
        return f"{unit}?{options}" if options else unit

    @property
    def key(self) -> str:
        return f"iscsi:{self.host.lower()}:{self.port}:{self.target.lower()}:{self.lun}"

    def node(self) -> Node:
        portal = f"{_bracketed(self.host)}:{self.port}"
        at = {"transport": "tcp", "portal": portal, "target": self.target, "lun": self.lun}
        # The secret's key has the path of its file: see processes.image_node.secrets.
        known = {SECRET if key == "password-file" else key: value for key, value in self.options}
        return {"driver": "iscsi", **at, **known}


@dataclass(frozen=True)
class RbdUrl:
    """An image of a Ceph pool. options: id (user), conf and keyring (absolute paths)."""

    pool: str
    namespace: str
    image: str
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        space = f"{self.namespace}/" if self.namespace else ""
        options = "".join(f":{key}={_escaped(value)}" for key, value in self.options)
        return f"rbd:{self.pool}/{space}{self.image}{options}"

    @property
    def key(self) -> str:
        conf = dict(self.options).get("conf", RBD_CONF)  # another file is another cluster
        return f"rbd:{conf}:{self.pool}/{self.namespace}/{self.image}"

    def node(self) -> Node:
        # By file name, made anew from checked parts: a node has no option for the keyring.
        return {"driver": "rbd", "filename": str(self)}


NetworkUrl = NbdUnixUrl | NbdUrl | IscsiUrl | RbdUrl
Url = PathUrl | NetworkUrl


def parse(text: str) -> Url:
    """Read a url. Raises BadParameter (1000) that says what is wrong with it."""
    if not text or len(text) > URL_LIMIT or _CONTROL.search(text):
        shown = _without_secrets(text)[:80]
        raise BadParameter("url", f"empty, too long, or with control characters: {shown!r}")
    try:
        text.encode()  # a path that is not UTF-8 cannot be said in JSON
        if text.startswith("/"):
            return PathUrl(text)
        if (scheme := _SCHEME.match(text)) is None:
            raise ValueError("a path must be absolute")
        reader = _READERS.get(scheme[1].lower())
        if reader is None:
            known = ", ".join(f"{name}:" for name in _READERS)
            raise ValueError(f"unknown protocol {scheme[1]!r}; known: an absolute path, {known}")
        return reader(text)
    except ValueError as e:
        raise BadParameter("url", f"{_without_secrets(text)!r}: {e}") from None


def _without_secrets(text: str) -> str:
    """What may stand in a message: no user and password, no value of an option."""
    return re.sub(r"=[^:&]*", "=...", re.sub(r"(?s)//.*@", "//...@", text))


def _nbd_unix(text: str) -> Url:
    parts = urlsplit(text)
    key, _, value = parts.query.partition("=")  # not as in forms: a plus sign is a plus sign
    if parts.netloc or parts.fragment or key != "socket" or "&" in value:
        raise ValueError("must be nbd+unix:///EXPORT?socket=/PATH")
    return NbdUnixUrl(_absolute(_decoded(value)), _decoded(parts.path.removeprefix("/")))


def _nbd(text: str) -> Url:
    if not text[4:].startswith("//"):
        return _legacy_nbd(text[4:])
    parts = urlsplit(text)
    host, port = _server(parts, NBD_PORT)
    return NbdUrl(host, port, _decoded(parts.path.removeprefix("/")))


def _legacy_nbd(rest: str) -> Url:
    """`unix:/PATH` or `HOST:PORT`, then perhaps `:exportname=NAME`."""
    rest, _, export = rest.partition(":exportname=")
    if rest.startswith("unix:"):
        return NbdUnixUrl(_absolute(rest[5:]), export)
    host, port = _portal(rest, None)
    return NbdUrl(host, port, export)


def _iscsi(text: str) -> Url:
    parts = urlsplit(text)
    host, port = _server(parts._replace(query=""), ISCSI_PORT)
    target, _, lun = parts.path.removeprefix("/").partition("/")
    if not _IQN.match(target) or not re.fullmatch(r"[0-9]{1,5}", lun):
        raise ValueError("must be iscsi://HOST[:PORT]/IQN/LUN")
    return IscsiUrl(host, port, target, int(lun), _iscsi_options(parts.query))


def _iscsi_options(query: str) -> tuple[tuple[str, str], ...]:
    pairs: list[tuple[str, str]] = []
    for option in query.split("&") if query else ():
        key, separator, value = option.partition("=")
        if not separator or key not in ISCSI_OPTIONS or key in dict(pairs):
            raise ValueError(f"only the options {', '.join(ISCSI_OPTIONS)} may be given, once")
        pairs.append((key, _iscsi_value(key, _decoded(value))))
    if ("user" in dict(pairs)) != ("password-file" in dict(pairs)):
        raise ValueError("user and password-file belong together")
    return tuple(pairs)


def _iscsi_value(key: str, value: str) -> str:
    if key == "password-file":
        return _absolute(value)
    if not (_IQN if key == "initiator-name" else _CHAP_USER).match(value):
        raise ValueError(f"no valid {key}")
    return value


def _rbd(text: str) -> Url:
    name, *options = re.split(r"(?<!\\):", text[4:])
    names = name.split("/")
    if len(names) not in (2, 3) or not all(_RBD_NAME.match(part) for part in names):
        raise ValueError("must be rbd:POOL/[NAMESPACE/]IMAGE[:OPTION=VALUE]...")
    pairs: list[tuple[str, str]] = []
    for option in options:
        key, separator, value = option.partition("=")
        if not separator or key not in RBD_OPTIONS or key in dict(pairs):
            raise ValueError(f"only the options {', '.join(RBD_OPTIONS)} may be given, once")
        value = re.sub(r"\\(.)", r"\1", value)
        pairs.append((key, _rbd_value(key, value)))
    namespace = names[1] if len(names) == 3 else ""
    return RbdUrl(names[0], namespace, names[-1], tuple(pairs))


_READERS: dict[str, Callable[[str], Url]] = {
    "nbd+unix": _nbd_unix,
    "nbd": _nbd,
    "iscsi": _iscsi,
    "rbd": _rbd,
}


def _server(parts: SplitResult, default: int) -> tuple[str, int]:
    if "@" in parts.netloc:
        raise ValueError("a url must not hold a user or a secret: everybody can read it")
    if parts.query or parts.fragment:
        raise ValueError("no options are taken")
    return _portal(parts.netloc, default)


def _portal(text: str, default: int | None) -> tuple[str, int]:
    """Read `HOST[:PORT]`; an IPv6 address stands in brackets. No default: a port is required."""
    found = _PORTAL.match(text)
    if found is None:
        raise ValueError("no valid host name")
    if not found[3] and default is not None:
        return found[1] or found[2], default
    if not re.fullmatch(r"[0-9]{1,5}", found[3] or "") or not 0 < int(found[3]) < 65536:
        raise ValueError(f"no valid port: {found[3] or ''!r}")
    return found[1] or found[2], int(found[3])


def _rbd_value(key: str, value: str) -> str:
    if key == "id":
        if not _RBD_ID.match(value):
            raise ValueError("no valid id")
        return value
    if "\\" in value:  # then a colon after it would be read differently here and in QEMU
        raise ValueError(f"a backslash in {key!r}")
    return _absolute(value)


def _decoded(text: str) -> str:
    """Without percent signs; what was hidden by them is checked like the rest."""
    plain = unquote(text, errors="strict")
    if _CONTROL.search(plain):
        raise ValueError("control characters")
    return plain


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("an absolute path is needed")
    return path


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _escaped(value: str) -> str:
    return re.sub(r"([:@=/\\])", r"\\\1", value)
