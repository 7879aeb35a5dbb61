"""Another process that has a database open. Run as `python -m tests.engine.db.child COMMAND ...`.

hold URL KEY: adds a host, says `ready`, and waits until stdin ends.
write URL KEY SEED: says `ready`, then writes pairs for ever, and the number of each after it was
written: an entry of the audit log and, in the same transaction, a host that is named by it.
"""

import sys
from pathlib import Path
from typing import Any

import trio
from sqlalchemy import Connection

from engine.db import audit, hosts
from engine.db.database import Database
from engine.db.hosts import Host
from engine.db.secrets import key_of
from tests.engine.db.things import added_host


def say(word: str) -> None:
    print(word, flush=True)


async def hold(db: Database) -> None:
    await db.write(added_host)
    say("ready")
    await trio.to_thread.run_sync(sys.stdin.buffer.read)


async def write(db: Database) -> None:
    say("ready")
    while True:
        say(str(await db.write(pair)))


def pair(c: Connection) -> int:
    """Of an entry and a host; the number."""
    facts: dict[str, Any] = {"severity": "normal", "code": 1, "user": "", "correlation": None}
    number = audit.last_id(c) + 1
    hosts.add(c, Host(id=f"host-{number}", name=str(number), url="x" * 4000))
    id = audit.add(c, at=1.0, kind="host", object=str(number), text="y" * 8000, **facts)
    assert id >= number
    return number


async def main(*words: str) -> None:
    command, url, key = words
    async with Database.opened(url, key=key_of(Path(key)), standby=True) as db:
        await {"hold": hold, "write": write}[command](db)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
