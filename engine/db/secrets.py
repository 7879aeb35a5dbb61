"""Secrets at rest: sealed with a key that is not in the database, so that a copy of it tells none.

A sealed value is b"1", the first bytes of a hash of the key, a nonce, and the JSON encrypted by
AES-256 in GCM mode. It is bound to its place, "domains.secret of ID", so that it cannot be moved to
a row that somebody may read. Source: NIST SP 800-38D (GCM), RFC 5116.
"""

import base64
import binascii
import hashlib
import os
import stat
from pathlib import Path
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection

from processes import atomic_file
from protocol.errors import BadParameter

OPTION = "leasehold_key"  # execution option of a connection
_VERSION = b"1"
_BYTES, _HINT, _NONCE = 32, 4, 12


class Key:
    """value: 32 random bytes."""

    def __init__(self, value: bytes) -> None:
        if len(value) != _BYTES:
            raise BadParameter("key", f"it has not {_BYTES} bytes")
        self._cipher = AESGCM(value)
        self._hint = hashlib.sha256(b"leasehold key" + value).digest()[:_HINT]

    @classmethod
    def random(cls) -> "Key":
        return cls(os.urandom(_BYTES))

    @property
    def name(self) -> str:
        """Tells keys apart, and nothing else of them."""
        return self._hint.hex()

    def seal(self, value: Any, place: str) -> bytes:
        """value: what JSON can say. place: where it is kept; the same is needed to unseal it."""
        nonce = os.urandom(_NONCE)
        text = self._cipher.encrypt(nonce, msgspec.json.encode(value), place.encode())
        return _VERSION + self._hint + nonce + text

    def unseal(self, sealed: bytes, place: str) -> Any:
        """Raises BadParameter (1000): sealed by another key, or damaged, or of another place."""
        start = len(_VERSION) + _HINT
        if sealed[:start] != _VERSION + self._hint:
            raise BadParameter("key", f"it is not the one that sealed {place}")
        nonce, text = sealed[start : start + _NONCE], sealed[start + _NONCE :]
        try:
            return msgspec.json.decode(self._cipher.decrypt(nonce, text, place.encode()))
        except (InvalidTag, ValueError):
            raise BadParameter(place, "it is damaged") from None


def key_of(path: Path) -> Key:
    """The key of a file, which is made if it is not there: base64, one line, mode 0600.

    Raises BadParameter (1000): others may read the file, or it holds no key; OSError.
    """
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make(path)
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        text = file.read(1024)
    if stat.S_IMODE(mode) & 0o077:
        raise BadParameter("key", f"others may read {path}: `chmod 600 {path}`")
    try:
        return Key(base64.b64decode(text.strip(), validate=True))
    except (binascii.Error, BadParameter):
        raise BadParameter("key", f"{path} holds no key") from None


def _make(path: Path) -> None:
    """Two that make it at once agree on one: that of the link which came first."""
    own = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    atomic_file.write(own, base64.b64encode(os.urandom(_BYTES)) + b"\n")
    try:
        os.link(own, path)
    except FileExistsError:
        pass
    finally:
        own.unlink()
    atomic_file.sync_folder(path.parent)


def seal(c: Connection, value: Any, place: str) -> bytes | None:
    """With the key of the database; None stays None."""
    return None if value is None else _key(c).seal(value, place)


def unseal(c: Connection, sealed: bytes | None, place: str) -> Any:
    """Raises BadParameter (1000)."""
    return None if sealed is None else _key(c).unseal(bytes(sealed), place)


def _key(c: Connection) -> Key:
    key: Key = c.get_execution_options()[OPTION]
    return key
