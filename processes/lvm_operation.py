"""One operation on the volume group of local disks, as it is written in words: for the privileged
helper, and from there into a command of LVM.

    volumes | volume NAME | group | pool NAME
    create NAME SIZE POOL|- TAG...
    change NAME =TAG... +TAG... -TAG...
    activate NAME =TAG... | deactivate NAME =TAG... | remove NAME =TAG...
    wake NAME

A volume is changed only if it has every =TAG, one of which says of which image it is a copy (IU_):
nothing that others have made is ever touched, whatever its name. The group and its devices are no
part of it: who runs LVM knows them.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from processes import lvm_names
from protocol.errors import BadParameter

Verb = Literal[
    "volumes",
    "volume",
    "group",
    "pool",
    "create",
    "change",
    "activate",
    "deactivate",
    "remove",
    "wake",
]
CHANGES: frozenset[Verb] = frozenset({"change", "activate", "deactivate", "remove"})
READS: frozenset[Verb] = frozenset({"volumes", "volume", "group", "pool"})
READ_TIME = 50.0  # seconds for LVM to answer the helper; less than who runs that waits
STALLED = os.EX_TEMPFAIL  # with this status the helper ends when it has not
WORDS_LIMIT = 64
IMAGE = "IU_"
_OF_POOL = ("pool", "wake")
_OF_NOBODY = ("volumes", "group")


@dataclass(frozen=True)
class Operation:
    """name: of a logical volume, or of a pool for `pool` and `wake`, which activates it. size: in
    bytes, pool: None for a linear volume; of `create`. having: the tags without which a volume is
    left as it is; of all verbs that change one. add, remove: tags, of `create` and `change`.

    Raises BadParameter when it is made of anything that may not be said to LVM.
    """

    verb: Verb
    name: str = ""
    size: int = 0
    pool: str | None = None
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    having: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.verb in _OF_POOL:
            lvm_names.pool(self.name)
        elif self.verb not in _OF_NOBODY:
            lvm_names.disk(self.name)
        if self.verb == "create":
            lvm_names.size(self.size)
        if self.pool is not None:
            lvm_names.pool(self.pool)
        for tag in (*self.add, *self.remove, *self.having):
            lvm_names.tag(tag)
        if self.verb in CHANGES and not any(tag.startswith(IMAGE) for tag in self.having):
            raise BadParameter("tag", "it is not said of which image the volume is a copy")
        if self.verb == "change" and not (self.add or self.remove):
            raise BadParameter("tag", "none is given")

    def words(self) -> list[str]:
        """`parsed` reads them again."""
        words: list[str] = [self.verb]
        if self.verb not in _OF_NOBODY:
            words.append(self.name)
        if self.verb == "create":
            words += [str(self.size), self.pool or "-", *self.add]
        else:
            words += [f"={tag}" for tag in self.having]
            words += [*(f"+{tag}" for tag in self.add), *(f"-{tag}" for tag in self.remove)]
        return words


def parsed(words: Sequence[str]) -> Operation:
    """Raises BadParameter."""
    if not words or words[0] not in get_args(Verb) or len(words) > WORDS_LIMIT:
        raise BadParameter("operation", f"one of {', '.join(get_args(Verb))}")
    verb: Verb = words[0]  # type: ignore[assignment] # looked up just now
    rest = list(words[1:])
    name = rest.pop(0) if verb not in _OF_NOBODY and rest else ""
    if verb == "create" and len(rest) >= 2:
        size, pool, *tags = rest
        return Operation(verb, name, _number(size), None if pool == "-" else pool, tuple(tags))
    having, add, remove = _signed(rest, "="), _signed(rest, "+"), _signed(rest, "-")
    if verb == "change" and len(having) + len(add) + len(remove) == len(rest):
        return Operation(verb, name, add=add, remove=remove, having=having)
    if verb in CHANGES - {"change"} and len(having) == len(rest):
        return Operation(verb, name, having=having)
    if not rest and verb not in CHANGES and verb != "create":
        return Operation(verb, name)
    raise BadParameter("operation", f"{verb} does not take these words")


def _signed(words: list[str], sign: str) -> tuple[str, ...]:
    return tuple(word[1:] for word in words if word.startswith(sign))


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise BadParameter("size", f"{text!r:.40} is not a number")
    return int(text)
