"""What every hook is: a program whose words go to vdsm's log, and whose exit status vdsm reads."""

import contextlib
import os
import re
import sys
from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

DONE = 0  # also when there was nothing to do
FAILED = 1
# The VM does not start or migrate, and no further hook is run.
REFUSED = 2
Backend: TypeAlias = Literal["lvm", "lvmthin"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
PROPERTY = "localdisk"  # the custom property of the VM; vdsm gives it in the environment
VM_ID = "vmId"  # and this is its id
LINE = 2000  # characters
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class Refused(Exception):
    """The text says in one line what is not taken, and why."""


def run(body: Callable[[], int | None]) -> None:
    """Exit with what `body` returns; an error is told in one line, in vdsm's log."""
    try:
        status = body() or DONE
    except Refused as e:
        say(str(e))
        status = REFUSED
    except (Exception, KeyboardInterrupt) as e:  # no traceback: vdsm shows all of it to the user
        from protocol.errors import BadParameter, Error, to_rpc  # noqa: PLC0415 - lazy, see above

        say(str(e) if isinstance(e, Error) else f"{type(e).__name__}: {to_rpc(e)['message']}")
        status = REFUSED if isinstance(e, BadParameter) else FAILED
    sys.exit(status)


def say(text: str) -> None:
    """One line to vdsm's log; names come from the environment, and from hostile images."""
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    with contextlib.suppress(OSError):  # nobody reads it
        os.write(2, f"leasehold: {plain[:LINE]}\n".encode(errors="backslashreplace"))


def backend() -> Backend | None:
    """What the VM has chosen; None: it has no local disks. Raises Refused: there is none such.

    A VM that silently began on shared storage would lose what local disks are for.
    """
    chosen = os.environ.get(PROPERTY, "")
    for known in BACKENDS:
        if chosen == known:
            return known
    if chosen:
        raise Refused(f"{PROPERTY}={chosen!r:.80} is none of {', '.join(BACKENDS)}")
    return None


def uuid(value: object, name: str) -> str:
    """Raises Refused: it is none as oVirt writes them."""
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise Refused(f"{name} is no UUID: {value!r:.200}")
    return value
