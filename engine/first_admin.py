"""What an engine needs before it serves for the first time: its key, its tables, somebody to log
in."""

import time

import trio
from sqlalchemy import Connection

from engine import passwords, state_folder
from engine.config import Config
from engine.db import accounts, audit
from engine.db.accounts import User
from engine.db.database import Database
from engine.names import checked_user

CODE = 4901  # of the row in the audit log


async def prepare(config: Config, name: str, password: str) -> None:
    """Make database and key where they are not there, and `name` an administrator.

    Raises BadParameter (1000): the name or the password is no good; EngineBusy (4408): the engine
    runs; DatabaseGone (4407); OSError.
    """
    checked_user(name)
    kept = await trio.to_thread.run_sync(passwords.hashed, password)
    await trio.to_thread.run_sync(state_folder.make, config)
    key = await trio.to_thread.run_sync(state_folder.key, config)

    def work(c: Connection) -> None:
        user = User(name, kept, "admin")
        if accounts.find_user(c, name) is None:
            accounts.add_user(c, user)
        else:
            accounts.change_user(c, user)
            accounts.remove_tokens(c, name)
        audit.add(
            c,
            at=time.time(),
            severity="normal",
            code=CODE,
            user=name,
            correlation=None,
            kind="user",
            object=name,
            text=f"{name} was made an administrator, on the machine of the engine",
        )

    place = config.database
    async with Database.opened(config.database_url, key=key, patience=place.patience) as database:
        await database.write(work)
