"""What every helper program does: one command, JSON from standard input, JSON to standard output.

Run it as root, as the agent does; by hand, `managedvolume-helper connector_info` shows what the
host tells of itself. Source: docs/managed.md, "Helpers".
"""

import hashlib
import os
import signal
import sys
from collections.abc import Coroutine, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import msgspec

from host.helpers.failure import Failed, Unsure
from leases.steps import reached
from protocol.errors import Error
from protocol.managed import ConnectionInfo

INPUT_LIMIT = 1 << 20
ACCESS = "LEASEHOLD_MANAGED_ACCESS"
DEFAULT_ACCESS = "/run/leasehold/managedvolumes"  # for callers that name no folder
_T = TypeVar("_T")
USAGE = "one of connector_info, attach, detach; the latter two read JSON from standard input"


class Helper(Protocol):
    """The part of a driver. data: of the connection; access: a folder of its own, which only root
    enters, and which is there from before the attach until after the detach."""

    async def attach(self, data: Mapping[str, Any], access: Path) -> dict[str, Any]:
        """The attachment: `path`, of a device or a url, and what the detach wants to know.

        Attaching what is attached already gives the same. Raises Failed, Error: what was done
        is undone; Unsure: it is not.
        """
        ...

    async def detach(
        self, data: Mapping[str, Any], attachment: Mapping[str, Any] | None, access: Path
    ) -> None:
        """attachment: None, the attach was cut off. What is detached already is no error."""
        ...


class _Detach(msgspec.Struct, frozen=True):
    connection_info: ConnectionInfo
    attachment: dict[str, Any] | None = None


# A copy starts four helpers: each imports what it needs and no more. The modules of our drivers:
_OURS = {name: f"host.helpers.{name}" for name in ("file", "iscsi", "rbd", "local")}
_AT_ONCE = ("file", "local")  # wait for nothing, so that they need no trio
if TYPE_CHECKING:
    from host.helpers import file, iscsi, local, rbd

    _HELPERS: tuple[Helper, ...] = (file, iscsi, rbd, local)


def default() -> None:
    """The entry point of `managedvolume-helper`: every driver, with os-brick where it is needed."""
    sys.exit(_ended(None))


def for_file() -> None:
    """The entry point of `managedvolume-helper-file`."""
    sys.exit(_ended("file"))


def for_iscsi() -> None:
    """The entry point of `managedvolume-helper-iscsi`."""
    sys.exit(_ended("iscsi"))


def for_rbd() -> None:
    """The entry point of `managedvolume-helper-rbd`."""
    sys.exit(_ended("rbd"))


def _ended(only: str | None) -> int:
    """Do what the command line says; the exit status. only: the one driver of this program."""
    try:
        answer = _done(sys.argv[1:], only)
        sys.stdout.write(msgspec.json.encode(answer).decode())
        sys.stdout.flush()
    except (Failed, Error, OSError) as e:
        print(e, file=sys.stderr)
        if isinstance(e, Unsure):
            # A status says that nothing is attached; of one that was killed nobody knows.
            os.kill(os.getpid(), signal.SIGKILL)
        return 1
    except Exception as e:  # no traceback: it is a program of the agent, which tells the first line
        print(f"{type(e).__name__}: {e}", file=sys.stderr)
        return 1
    return 0


def _done(arguments: list[str], only: str | None) -> dict[str, Any]:
    if arguments == ["connector_info"]:
        told: dict[str, Any] = _waited_for(import_module("host.helpers.connector").info())
        return told
    if arguments == ["attach"]:
        connection = _read(ConnectionInfo)
        helper, access = _helper(connection, only), _access(connection)
        reached("helper-attach", "begun")
        answer = _finished(helper.attach(connection.data, access), connection)
        reached("helper-attach", "done")
        return answer
    if arguments == ["detach"]:
        message = _read(_Detach)
        connection = message.connection_info
        helper, access = _helper(connection, only), _access(connection)
        reached("helper-detach", "begun")
        _finished(helper.detach(connection.data, message.attachment, access), connection)
        reached("helper-detach", "done")
        return {}
    raise Failed(f"what is to be done? {USAGE}")


def _finished(work: Coroutine[Any, Any, _T], connection: ConnectionInfo) -> _T:
    if connection.driver_volume_type not in _AT_ONCE:
        return _waited_for(work)
    try:
        work.send(None)
    except StopIteration as e:
        found: _T = e.value
        return found
    raise RuntimeError("it waits for something")


def _waited_for(work: Coroutine[Any, Any, _T]) -> _T:
    async def wait() -> _T:
        return await work

    found: _T = import_module("trio").run(wait)
    return found


def _read(kind: Any) -> Any:
    try:
        return msgspec.json.decode(sys.stdin.buffer.read(INPUT_LIMIT), type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as e:
        raise Failed(f"standard input: {e}") from None


def _helper(connection: ConnectionInfo, only: str | None) -> Helper:
    driver = connection.driver_volume_type
    if only is not None and driver != only:
        raise Failed(f"this helper attaches volumes of the driver {only}, not {driver!r:.80}")
    if driver in _OURS:
        return cast(Helper, import_module(_OURS[driver]))
    return cast(Helper, import_module("host.helpers.os_brick").Driver(driver))


def _access(connection: ConnectionInfo) -> Path:
    """The folder of this attachment; for a caller that names none, always the same one."""
    if named := os.environ.get(ACCESS):
        return Path(named)
    digest = hashlib.sha256(msgspec.json.encode(connection, order="sorted")).hexdigest()
    return Path(DEFAULT_ACCESS, f".{digest[:32]}.access")
