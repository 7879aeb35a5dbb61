"""Attachments: the access of a host to a managed volume. The row is there before the host has it,
and until it has it no more."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, delete, select, update

from engine.db import called, kept, rows, secrets
from engine.db.schema import attachments
from protocol.errors import NoSuchObject, StillUsed, WrongState

State = Literal["attaching", "attached", "detaching", "kept"]


@dataclass(frozen=True)
class Attachment:
    """path: by which the host knows the volume: a path or a url. command: that wanted it.

    shut_out: the storage has cut off the host, which was silent: it has no access any more, but may
    still believe that it has.
    """

    volume: str
    host: str
    state: State
    command: str
    path: str | None = None
    shut_out: bool = False


def get(c: Connection, volume: str, host: str) -> Attachment:
    """Raises NoSuchObject (4400)."""
    found = rows.first(c, Attachment, _ALL.where(_is(volume, host)))
    if found is None:
        raise NoSuchObject("attachment", f"{volume} of host {host}")
    return found


def find(c: Connection, volume: str, command: str) -> Attachment | None:
    """That of a command."""
    table = attachments
    return rows.first(
        c, Attachment, _ALL.where(table.c.volume == volume, table.c.command == command)
    )


def of_volume(c: Connection, volume: str) -> list[Attachment]:
    query = _ALL.where(attachments.c.volume == volume)
    return rows.rows(c, Attachment, query.order_by(attachments.c.host))


def of_host(c: Connection, host: str) -> list[Attachment]:
    query = _ALL.where(attachments.c.host == host)
    return rows.rows(c, Attachment, query.order_by(attachments.c.volume))


def all_attachments(c: Connection) -> list[Attachment]:
    return rows.rows(c, Attachment, _ALL.order_by(attachments.c.volume, attachments.c.host))


def begin(c: Connection, volume: str, host: str, command: str) -> None:
    """The storage may let the host in from now on. The same again of one command is no error, nor
    is a host that was shut out. Raises StillUsed (4406): of another command."""
    found = rows.first(c, Attachment, _ALL.where(_is(volume, host)))
    if found is not None and found.command != command and not found.shut_out:
        raise StillUsed("volume", volume, f"command {found.command} on host {called.host(c, host)}")
    if found is not None:
        _change(c, volume, host, state="attaching", command=command, shut_out=False)
        return
    row = Attachment(volume, host, "attaching", command)
    c.execute(attachments.insert().values(**asdict(row)))


def there(c: Connection, volume: str, host: str, path: str) -> None:
    """Raises NoSuchObject (4400), WrongState (4403)."""
    _move(c, volume, host, "attached", ("attaching", "attached"), path=path)


def leave(c: Connection, volume: str, host: str) -> None:
    """Its access is being ended. Raises NoSuchObject (4400)."""
    _move(c, volume, host, "detaching", ("attaching", "attached", "detaching", "kept"))


def shut_out(c: Connection, volume: str, host: str) -> None:
    """The storage has cut off a host that is silent. Raises NoSuchObject (4400)."""
    _change(c, volume, host, state="detaching", shut_out=True)


def remove(c: Connection, volume: str, host: str, command: str) -> None:
    """The access that a command wanted has ended; the same again is no error."""
    c.execute(delete(attachments).where(_of(volume, host, command)))


def keep(c: Connection, volume: str, host: str, command: str) -> bool:
    """Nobody touches it any more; False: there is no such one. The same again is no error."""
    return kept.keep(c, attachments, _of(volume, host, command))


def free(c: Connection, volume: str, host: str, command: str) -> bool:
    """Back to the state before `keep`; False: it is not kept."""
    return kept.free(c, attachments, _of(volume, host, command))


# --- what the host connects by, which may have passwords ----------------------------------------


def set_connection(c: Connection, volume: str, host: str, value: Mapping[str, Any]) -> None:
    """Raises NoSuchObject (4400)."""
    sealed = secrets.seal(c, dict(value), _place(volume, host))
    _change(c, volume, host, connection=sealed)


def connection(c: Connection, volume: str, host: str) -> dict[str, Any] | None:
    """Raises NoSuchObject (4400)."""
    get(c, volume, host)
    query = select(attachments.c.connection).where(_is(volume, host))
    found: dict[str, Any] | None = secrets.unseal(
        c, c.execute(query).scalar(), _place(volume, host)
    )
    return found


_ALL = rows.columns(attachments, Attachment)


def _is(volume: str, host: str) -> ColumnElement[bool]:
    return (attachments.c.volume == volume) & (attachments.c.host == host)


def _of(volume: str, host: str, command: str) -> ColumnElement[bool]:
    """That of a command: another one may have let the host in again since."""
    return _is(volume, host) & (attachments.c.command == command)


def _change(c: Connection, volume: str, host: str, **values: Any) -> None:
    if not c.execute(update(attachments).where(_is(volume, host)).values(**values)).rowcount:
        raise NoSuchObject("attachment", f"{volume} of host {host}")


def _move(
    c: Connection, volume: str, host: str, state: State, expected: Iterable[str], **values: Any
) -> None:
    guard = update(attachments).where(_is(volume, host), attachments.c.state.in_(expected))
    if not c.execute(guard.values(state=state, **values)).rowcount:
        found = get(c, volume, host)
        raise WrongState("attachment", f"{volume} of {host}", found.state, " or ".join(expected))


def _place(volume: str, host: str) -> str:
    return f"attachments.connection of {volume} {host}"
