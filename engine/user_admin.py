"""Users of the REST interface: added, given another password or role, removed."""

import trio
from sqlalchemy import Connection

from engine import passwords
from engine.admin import Admin
from engine.db import accounts
from engine.db.accounts import User
from engine.names import checked_user
from engine.roles import checked_role
from protocol.errors import StillUsed


async def add_user(admin: Admin, name: str, password: str, role: str) -> None:
    """Raises BadParameter (1000), NameTaken (4401)."""
    user = User(
        checked_user(name),
        await trio.to_thread.run_sync(passwords.hashed, password),
        checked_role(role),
    )
    await admin.change(
        "user", name, f"added user {name} as {role}", lambda c: accounts.add_user(c, user)
    )


async def change_user(
    admin: Admin, name: str, *, password: str | None = None, role: str | None = None
) -> None:
    """Every token of the user ends. Raises BadParameter (1000), NoSuchObject (4400), StillUsed
    (4406): it is the last administrator."""
    kept = None if password is None else await trio.to_thread.run_sync(passwords.hashed, password)

    def work(c: Connection) -> None:
        user = accounts.get_user(c, name)
        new = user.role if role is None else checked_role(role)
        if new != "admin":
            _not_the_last(c, user)
        accounts.change_user(c, User(name, kept or user.password, new))
        accounts.remove_tokens(c, name)

    what = " and ".join([*(["password"] if kept else []), *([f"role {role}"] if role else [])])
    await admin.change("user", name, f"changed user {name}: {what}", work)


async def remove_user(admin: Admin, name: str) -> None:
    """With every token. Raises NoSuchObject (4400), StillUsed (4406): the last administrator."""

    def work(c: Connection) -> None:
        _not_the_last(c, accounts.get_user(c, name))
        accounts.remove_tokens(c, name)
        accounts.remove_user(c, name)

    await admin.change("user", name, f"removed user {name}", work)


def _not_the_last(c: Connection, user: User) -> None:
    admins = [one.name for one in accounts.all_users(c) if one.role == "admin"]
    if admins == [user.name]:
        raise StillUsed("user", user.name, "the engine: it is the last administrator")
