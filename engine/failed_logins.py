"""Logins that failed, in the audit log: who tried, and from where.

Whoever can reach the engine can cause these rows, so there are few: one a minute for each address
and name, with the number of its failures, and no more than PAIRS and one for the rest in a minute.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import trio
from sqlalchemy import Connection

from engine.admin import Store
from engine.db import audit
from engine.events import Bus
from engine.names import checked_user
from protocol.errors import BadParameter, Error

log = logging.getLogger(__name__)

CODE = 4903  # of the rows in the audit log
KIND = "login.failed"  # of the events
PAUSE = 60.0  # seconds between two times that rows are written
PAIRS = 10  # of an address and a name that get a row of their own each time
NAME, ADDRESS = 64, 64  # characters that are shown
LAST_TIME = 2.0  # seconds to write what is left when the engine stops
REST = ("", "")  # in the place of a pair


@dataclass(frozen=True)
class Row:
    """user: "" if no user could have that name. text: for people."""

    user: str
    text: str


@dataclass
class FailedLogins:
    """`run` writes what was noted: the first at once, the others when their minute is over.

    It belongs to the trio thread.
    """

    database: Store
    events: Bus
    clock: Callable[[], float] = time.time
    _counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    _noted: trio.Event = field(default_factory=trio.Event)

    def note(self, name: str, address: str) -> None:
        """name: anything at all, as it was given; without oVirt's profile."""
        pair = address[: ADDRESS + 1], name[: NAME + 1]
        if pair not in self._counts and len(self._counts.keys() - {REST}) >= PAIRS:
            pair = REST
        self._counts[pair] += 1
        self._noted.set()

    async def run(self) -> None:
        try:
            while True:
                await self._noted.wait()
                await self._write()
                await trio.sleep(PAUSE)
        finally:
            with trio.move_on_after(LAST_TIME, shield=True):
                await self._write()

    async def _write(self) -> None:
        """What the database does not take now is tried again in a minute."""
        counts, self._counts, self._noted = self._counts, Counter(), trio.Event()
        found = list(_rows(counts))

        def work(c: Connection) -> list[int]:
            return [self._add(c, row) for row in found]

        try:
            ids = await self.database.write(work) if found else []
        except Error as e:
            log.warning("failed logins are not written down: %s", e)
            self._counts.update(counts)
            self._noted.set()
            return
        for row, id in zip(found, ids, strict=True):
            self.events.tell(KIND, row.user, {"text": row.text}, id=id)

    def _add(self, c: Connection, row: Row) -> int:
        return audit.add(
            c,
            at=self.clock(),
            severity="warning",
            code=CODE,
            user="",
            correlation=None,
            kind="user",
            object=row.user,
            text=row.text,
        )


def _rows(counts: Counter[tuple[str, str]]) -> Iterator[Row]:
    for pair, count in counts.items():
        often = "" if count == 1 else f", {count} times"
        if pair == REST:
            yield Row("", f"more logins failed, with other names or from other addresses{often}")
        else:
            address, name = pair
            user = _shown(name, NAME)
            text = f"login of {user} from {_shown(address, ADDRESS)} failed{often}"
            yield Row(_user(name), text)


def _user(name: str) -> str:
    try:
        return checked_user(name)
    except BadParameter:
        return ""


def _shown(text: str, longest: int) -> str:
    """In quotes, without anything that a page or a terminal would obey."""
    return repr(text[:longest]) + ("..." if len(text) > longest else "")
