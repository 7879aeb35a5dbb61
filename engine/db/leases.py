"""Leases of jobs, in data domains. The row is there before the lease, and says when it is gone."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from sqlalchemy import Connection

from engine.db import kept, rows
from engine.db.rows import Noun
from engine.db.schema import leases
from protocol.errors import NameTaken

State = Literal["creating", "there", "deleting", "gone", "kept"]
MOVES = {
    "creating": (),
    "there": ("creating", "kept"),
    "deleting": ("creating", "there", "kept"),
    "gone": ("creating", "there", "deleting", "kept"),
    "kept": ("creating", "there", "deleting"),
}
_NOUN = Noun(leases, "lease", MOVES)


@dataclass(frozen=True)
class Lease:
    """id: also of the job. domain: the data domain that it is in."""

    id: str
    domain: str
    command: str
    state: State = "creating"


def get(c: Connection, id: str) -> Lease:
    """Raises NoSuchObject (4400)."""
    return _NOUN.get(c, Lease, id)


def find(c: Connection, id: str) -> Lease | None:
    return _NOUN.find(c, Lease, id)


def search(
    c: Connection,
    *,
    domain: str | None = None,
    command: str | None = None,
    state: str | None = None,
    limit: int = rows.PAGE,
    offset: int = 0,
) -> list[Lease]:
    """state: None: all but "gone". In the order of their ids."""
    wanted = rows.where(leases, domain=domain, command=command, state=state)
    if state is None:
        wanted.append(leases.c.state.in_([one for one in MOVES if one != "gone"]))
    query = rows.columns(leases, Lease).where(*wanted).order_by(leases.c.id)
    return rows.rows(c, Lease, rows.page(query, limit, offset))


def all_leases(c: Connection) -> list[Lease]:
    """All but those that are gone."""
    return search(c, limit=rows.MOST)


def begin(c: Connection, lease: Lease) -> None:
    """It may be there from now on; the same again is no error. Raises NameTaken (4401): there is
    one of that id of another command."""
    found = find(c, lease.id)
    if found is None:
        _NOUN.add(c, asdict(lease))
    elif (found.command, found.domain) != (lease.command, lease.domain):
        raise NameTaken("lease", lease.id)


def move(c: Connection, id: str, state: State, expected: Iterable[str] = ()) -> None:
    """expected: none: any from which the state can be reached, see MOVES.

    Raises NoSuchObject (4400), WrongState (4403).
    """
    _NOUN.move(c, id, state, expected)


def keep(c: Connection, id: str) -> bool:
    """Nobody touches it any more; False: there is no such one. The same again is no error."""
    return kept.keep(c, leases, leases.c.id == id)


def free(c: Connection, id: str) -> bool:
    """Back to the state before `keep`; False: it is not kept."""
    return kept.free(c, leases, leases.c.id == id)


def remove(c: Connection, id: str) -> None:
    """Forget it. Raises NoSuchObject (4400)."""
    _NOUN.remove(c, id)
