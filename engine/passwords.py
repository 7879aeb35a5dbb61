"""Passwords at rest: scrypt, each with a salt of its own. Work for a worker thread: 0.1 s each."""

import base64
import hashlib
import hmac
import os

from protocol.errors import BadParameter

LEAST = 8
LONGEST = 1024  # characters
COST = 1 << 15  # with blocks of 8: 32 MiB and about 0.1 s. Source: RFC 7914
_BLOCK, _PARALLEL, _MEMORY, _SALT = 8, 1, 64 << 20, 16


def hashed(password: str, *, cost: int = COST) -> str:
    """What is kept: scrypt$COST$SALT$HASH. Raises BadParameter (1000): too short, or too long."""
    if not LEAST <= len(password) <= LONGEST:
        raise BadParameter("password", f"{LEAST} to {LONGEST} characters")
    salt = os.urandom(_SALT)
    return "$".join(("scrypt", str(cost), _text(salt), _text(_derived(password, salt, cost))))


def matches(password: str, kept: str | None) -> bool:
    """Is it the one? kept: of `hashed`; None: there is no such user, which takes as long."""
    if len(password) > LONGEST:
        return False
    _, cost, salt, wanted = (kept or _NOBODY).split("$")
    found = _derived(password, base64.b64decode(salt), int(cost))
    return hmac.compare_digest(found, base64.b64decode(wanted)) and kept is not None


def _derived(password: str, salt: bytes, cost: int) -> bytes:
    # surrogatepass: any text of a form has bytes.
    secret = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(secret, salt=salt, n=cost, r=_BLOCK, p=_PARALLEL, maxmem=_MEMORY)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


_NOBODY = "$".join(("scrypt", str(COST), _text(bytes(_SALT)), _text(bytes(64))))
