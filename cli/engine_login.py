"""The engines that this user has logged in to: `engines.json` in the home, for nobody else to read.

A token stands there until it ends, or until `leasehold engine logout`; a password never does.
"""

import os
from typing import Literal

import msgspec

from cli.home import VARIABLE, home, locked, usable, write_atomically
from protocol.errors import BadParameter

FILE = "engines.json"
URL = "LEASEHOLD_ENGINE"
TOKEN = "LEASEHOLD_ENGINE_TOKEN"


class Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """expires: seconds since the epoch. ca: file of the authority; "": those of the system."""

    user: str
    token: str
    expires: float
    ca: str = ""


class Logins(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """last: the url of the engine that commands talk to unless they are told another."""

    version: Literal[1] = 1
    last: str = ""
    engines: dict[str, Login] = {}


def logins() -> Logins:
    """Raises BadParameter (1000): the file is damaged."""
    path = home() / FILE
    try:
        with usable(path):
            content = path.read_bytes() if path.exists() else None
        return Logins() if content is None else msgspec.json.decode(content, type=Logins)
    except (msgspec.DecodeError, RecursionError) as e:
        reason = f"{path} is damaged ({e}): remove it and log in again"
        raise BadParameter(VARIABLE, reason) from None


async def remember(url: str, login: Login) -> None:
    """It is the engine of the commands from now on."""
    async with locked(home()):
        known = logins()
        _write(Logins(last=url, engines={**known.engines, url: login}))


async def forget(url: str) -> None:
    async with locked(home()):
        known = logins()
        kept = {key: one for key, one in known.engines.items() if key != url}
        _write(Logins(last="" if known.last == url else known.last, engines=kept))


def _write(changed: Logins) -> None:
    path = home() / FILE
    write_atomically(path, msgspec.json.format(msgspec.json.encode(changed)) + b"\n")


def chosen(url: str, ca: str) -> tuple[str, str, str]:
    """Url, authority and token for a command. Raises BadParameter (1000): which engine?"""
    known = logins()
    where = (url or known.last).rstrip("/")
    if not where:
        raise BadParameter(
            "--engine", f"no engine is known: `leasehold engine login`, or set {URL}"
        )
    login = known.engines.get(where)
    token = os.environ.get(TOKEN) or (login.token if login else "")
    return where, ca or (login.ca if login else ""), token
