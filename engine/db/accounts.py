"""Users, and the tokens that they got when they logged in."""

from dataclasses import asdict, dataclass

from sqlalchemy import Connection, delete, select, update

from engine.db import rows
from engine.db.schema import tokens, users
from protocol.errors import NoSuchObject


@dataclass(frozen=True)
class User:
    """password: as engine.passwords has hashed it. role: admin, operator, reader."""

    name: str
    password: str
    role: str


@dataclass(frozen=True)
class Token:
    """hash: of the token, which is not kept. role: that of the user now; to be left empty."""

    hash: str
    user: str
    expires: float
    role: str = ""


def find_user(c: Connection, name: str) -> User | None:
    return rows.first(c, User, rows.columns(users, User).where(users.c.name == name))


def get_user(c: Connection, name: str) -> User:
    """Raises NoSuchObject (4400)."""
    if (found := find_user(c, name)) is None:
        raise NoSuchObject("user", name)
    return found


def all_users(c: Connection) -> list[User]:
    """In the order of their names."""
    return rows.rows(c, User, rows.columns(users, User).order_by(users.c.name))


def add_user(c: Connection, user: User) -> None:
    """Raises NameTaken (4401)."""
    with rows.taken("user", user.name):
        c.execute(users.insert().values(**asdict(user)))


def change_user(c: Connection, user: User) -> None:
    """Its password and role. Raises NoSuchObject (4400)."""
    values = {"password": user.password, "role": user.role}
    if not c.execute(update(users).where(users.c.name == user.name).values(**values)).rowcount:
        raise NoSuchObject("user", user.name)


def remove_user(c: Connection, name: str) -> None:
    """With all tokens. Raises NoSuchObject (4400)."""
    if not c.execute(delete(users).where(users.c.name == name)).rowcount:
        raise NoSuchObject("user", name)


def find_token(c: Connection, hash: str) -> Token | None:
    """Also one that has expired."""
    query = select(tokens.c.hash, tokens.c.user, tokens.c.expires, users.c.role)
    query = query.join(users, users.c.name == tokens.c.user)
    return rows.first(c, Token, query.where(tokens.c.hash == hash))


def add_token(c: Connection, token: Token) -> None:
    """Raises NoSuchObject (4400): the user was removed meanwhile."""
    get_user(c, token.user)
    values = {"hash": token.hash, "user": token.user, "expires": token.expires}
    with rows.taken("token", "of this hash"):
        c.execute(tokens.insert().values(**values))


def remove_token(c: Connection, hash: str) -> None:
    """Nothing, if there is none."""
    c.execute(delete(tokens).where(tokens.c.hash == hash))


def remove_tokens(c: Connection, user: str) -> None:
    """All of a user."""
    c.execute(delete(tokens).where(tokens.c.user == user))


def forget_expired(c: Connection, now: float) -> None:
    c.execute(delete(tokens).where(tokens.c.expires <= now))
