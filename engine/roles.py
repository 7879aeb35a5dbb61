"""What a user may: each role may all that the one before it may."""

from typing import Literal, TypeAlias

from protocol.errors import BadParameter, NotAllowed

Role: TypeAlias = Literal["reader", "operator", "admin"]
ROLES: tuple[Role, ...] = ("reader", "operator", "admin")


def checked_role(role: str) -> Role:
    """Raises BadParameter (1000)."""
    for one in ROLES:
        if role == one:
            return one
    raise BadParameter("role", f"it is none of {', '.join(ROLES)}")


def may(role: str, least: Role) -> bool:
    """A role that we do not know may nothing."""
    return role in ROLES and ROLES.index(checked_role(role)) >= ROLES.index(least)


def allow(role: str, least: Role, action: str) -> None:
    """Raises NotAllowed (4410)."""
    if not may(role, least):
        raise NotAllowed(role, action)
