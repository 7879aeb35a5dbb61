"""Which program manages the volumes of a domain, and one call of it.

The driver option `adapter` of a domain names it: the program ADAPTER-adapter, in the first folder
that has one: `managedblock`, `cinderlib`, then our own. Without the option it is cinderlib's
client, where that is installed. Source: oVirt's engine, ManagedBlockExecutor.
"""

import logging
import os
import stat
import sysconfig
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import trio

from processes import adapter_program
from protocol import errors
from protocol.errors import (
    AdapterFailed,
    AdapterGarbage,
    AdapterMissing,
    AdapterStalled,
    BadParameter,
    ToolMissing,
)
from protocol.managed import checked_adapter
from protocol.reported import Reported

log = logging.getLogger(__name__)

PLACE = Path("/usr/share/ovirt-engine")  # where vendors of oVirt's adapters put them
CLIENT = "cinderlib-client.py"
CINDERLIB = "cinderlib"  # the name of an adapter that is not named
SECRETS = "secrets"  # the driver option that says how an adapter gets the others that are secret
STDIN = "stdin"
HIDDEN = "..."
AT_ONCE = 16  # calls of one driver; a process takes some tens of MiB
LEAST = 4  # characters of a secret that is worth hiding: a shorter one is part of any text


@dataclass(frozen=True)
class Driver:
    """The driver options of a domain. secret: those that nobody may see, merged into the others."""

    options: Mapping[str, Any]
    secret: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def adapter(self) -> str | None:
        """Raises BadParameter (1000)."""
        name = self.options.get("adapter")
        if name is None:
            return None
        if not isinstance(name, str):
            raise BadParameter("adapter", "it is no text")
        return checked_adapter(name)


@dataclass(frozen=True)
class Program:
    """ours: it takes what is more than the protocol of oVirt, and reads secrets from stdin."""

    adapter: str
    path: Path
    ours: bool


@dataclass(frozen=True)
class AdapterPrograms:
    """Where adapters are looked for. database: for those that keep something; it may hold a
    password, but their protocol has it among the arguments. Ours do not get it.

    Of each driver a few calls run at once and the others wait, so that a thousand commands do not
    fill the memory, and storage that hangs holds up no other.
    """

    managedblock: Path = PLACE / "managedblock"
    cinderlib: Path = PLACE / "cinderlib"
    ours: Path = Path(sysconfig.get_path("scripts"))
    database: str = field(default="", repr=False)
    at_once: int = AT_ONCE
    _turns: dict[bytes, trio.Semaphore] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def program(self, driver: Driver) -> Program:
        """Raises AdapterMissing, BadParameter (1000)."""
        adapter = driver.adapter
        if adapter is None:
            path = _first(CINDERLIB, (self.cinderlib / CLIENT, self.managedblock / CLIENT))
            return Program(CINDERLIB, path, ours=False)
        name = f"{adapter}-adapter"
        folders = (self.managedblock, self.cinderlib, self.ours)
        path = _first(adapter, [folder / name for folder in folders])
        return Program(adapter, path, ours=path.parent == self.ours)

    async def call(self, driver: Driver, command: str, *arguments: str, seconds: float) -> str:
        """Run one command of an adapter; its answer, which may be empty.

        The status tells whether it succeeded. A vendor's adapter may then print no answer, or only
        lines of its log: cinderlib's client does so where there is nothing to tell. Ours always
        answer: without that it was not our adapter that ended, or not at the end of its work.

        Raises AdapterMissing, AdapterFailed, AdapterGarbage, AdapterStalled, and what an adapter of
        ours reports. Nothing secret is in them.
        """
        program = self.program(driver)
        correlation = str(uuid4())
        options, stdin = _handed(driver, program)
        database = "-" if program.ours else self.database
        words = [command, msgspec.json.encode(options).decode(), database, correlation, *arguments]
        async with self._turn(driver):
            begun = time.monotonic()
            try:
                ended = await adapter_program.call(
                    str(program.path), words, correlation=correlation, seconds=seconds, stdin=stdin
                )
            except ToolMissing:
                raise AdapterMissing(program.adapter, f"{program.path} was removed") from None
            took = time.monotonic() - begun
        log.info("adapter %s: %s ended after %.3f s", program.adapter, command, took)
        if ended.stalled:
            raise AdapterStalled(program.adapter, command, seconds)
        if ended.failure is not None:
            raise _failed(program, command, _without(ended.failure, driver), ended.garbage)
        if ended.answer is None and program.ours:
            raise AdapterGarbage(program.adapter, command, "it has none")
        return ended.answer or ""

    def _turn(self, driver: Driver) -> trio.Semaphore:
        options = msgspec.json.encode(driver.options, order="deterministic")
        return self._turns.setdefault(options, trio.Semaphore(self.at_once))


def _handed(driver: Driver, program: Program) -> tuple[dict[str, Any], bytes]:
    """The options among the arguments, and what is read from stdin.

    The protocol of oVirt knows arguments only. An adapter of a vendor that reads its secrets from
    standard input says so by the option.
    """
    options = {**driver.options}
    if not driver.secret:
        return options, b""
    if program.ours or options.get(SECRETS) == STDIN:
        return options | {SECRETS: STDIN}, msgspec.json.encode(driver.secret)
    return {**options, **driver.secret}, b""


def _failed(program: Program, command: str, reason: str, garbage: bool) -> Exception:
    if garbage:
        return AdapterGarbage(program.adapter, command, reason)
    if program.ours and (told := _told(reason)):
        return told
    return AdapterFailed(program.adapter, command, reason)


def _told(reason: str) -> Exception | None:
    """The error that an adapter of ours reports: one of ours again, if there is such a class."""
    try:
        rpc = msgspec.json.decode(reason, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    kind = getattr(errors, str(rpc.get("kind")), None)
    if isinstance(kind, type) and issubclass(kind, errors.Error):
        try:
            return kind(**rpc["data"])
        except (TypeError, KeyError):
            pass
    return Reported(rpc) if "message" in rpc else None


def _without(text: str, driver: Driver) -> str:
    """The text without the secrets of a driver: programs print what they were given."""
    for secret in sorted(_texts(driver.secret), key=len, reverse=True):
        if len(secret) >= LEAST:
            text = text.replace(secret, HIDDEN)
    return text


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)
    elif value is not None and not isinstance(value, bool):
        yield str(value)
        yield msgspec.json.encode(str(value)).decode()[1:-1]  # as it stands in JSON


def _first(adapter: str, places: list[Path] | tuple[Path, ...]) -> Path:
    """The first of the places where there is something, which must be a program."""
    for place in places:
        if os.path.lexists(place):
            return _usable(adapter, place)
    looked = ", ".join(str(place) for place in places)
    raise AdapterMissing(adapter, f"there is none of {looked}")


def _usable(adapter: str, path: Path) -> Path:
    try:
        status = path.stat()
    except OSError as e:
        raise AdapterMissing(adapter, f"{path}: {e.strerror}") from None
    if not stat.S_ISREG(status.st_mode) or not os.access(path, os.X_OK):
        raise AdapterMissing(adapter, f"{path} is no program that can be executed")
    return path
