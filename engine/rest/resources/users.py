"""Users, by administrators; and who one is oneself. Passwords go in and never come out."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from engine.db import accounts
from engine.names import checked_user
from engine.passwords import LEAST, LONGEST
from engine.rest.api import Api
from engine.rest.operation import OURS, Answer, Call, Operation
from engine.user_admin import add_user, change_user, remove_user
from protocol.errors import BadParameter, NoSuchObject

RoleName = Literal["reader", "operator", "admin"]
_Password = Annotated[str, Meta(min_length=LEAST, max_length=LONGEST)]


class UserTold(msgspec.Struct, frozen=True):
    name: str
    role: str


class UsersTold(msgspec.Struct, frozen=True):
    users: list[UserTold]


class NewUser(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    password: _Password
    role: RoleName


class ChangedUser(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    password: _Password | None = None
    role: RoleName | None = None


async def me(api: Api, call: Call) -> Answer:
    return Answer(UserTold(call.user.name, call.user.role))


async def list_users(api: Api, call: Call) -> Answer:
    rows = await api.database.read(accounts.all_users)
    return Answer(UsersTold([UserTold(row.name, row.role) for row in rows]))


async def add(api: Api, call: Call) -> Answer:
    new = call.struct(NewUser)
    await add_user(api.admin(call), new.name, new.password, new.role)
    return Answer(UserTold(new.name, new.role), 201)


def _name(call: Call) -> str:
    try:
        return checked_user(call.path["name"])
    except BadParameter:
        raise NoSuchObject("user", call.path["name"][:255]) from None


async def change(api: Api, call: Call) -> Answer:
    name, new = _name(call), call.struct(ChangedUser)
    await change_user(api.admin(call), name, password=new.password, role=new.role)
    row = await api.database.read(lambda c: accounts.get_user(c, name))
    return Answer(UserTold(row.name, row.role))


async def remove(api: Api, call: Call) -> Answer:
    await remove_user(api.admin(call), _name(call))
    return Answer({})


_ALL = f"{OURS}/users"
_ONE = f"{_ALL}/{{name}}"

OPERATIONS = (
    Operation("GET", f"{OURS}/me", me, "Who is logged in with this token.", gives=UserTold),
    Operation("GET", _ALL, list_users, "All users.", "admin", gives=UsersTold),
    Operation(
        "POST", _ALL, add, "Add a user.", "admin", takes=NewUser, gives=UserTold, status=(201,)
    ),
    Operation(
        "PUT",
        _ONE,
        change,
        "Another password or role; the tokens of the user end.",
        "admin",
        takes=ChangedUser,
        gives=UserTold,
    ),
    Operation("DELETE", _ONE, remove, "Remove a user, with the tokens.", "admin", gives=dict),
)
