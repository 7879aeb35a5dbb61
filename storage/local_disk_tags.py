"""The tags of the logical volume of a local disk: all that is known of it, beside its size.

| tag | meaning |
|---|---|
| UPDATING | it is being filled, or was when its copy ended: its content is not to be used |
| IU_<image id> | the image that it is a copy of |
| PU_<uuid> | the parent of the volume: always the blank one, as the copy is flat |
| VM_<VM id> | whose disk it is |
| JOB_<job id> | the job that fills it, or has |
| GEN_<generation> | of the source volume, when it was copied |
| AT_<seconds since the epoch> | when it was prepared the last time |
| STARTED | it was handed to a VM, whose own writes may be in it |

UPDATING, VM_, IU_ and PU_ are those of oVirt's hook. Source: docs/localdisk.md.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

UPDATING = "UPDATING"
STARTED = "STARTED"
BLANK = "00000000-0000-0000-0000-000000000000"
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_FORM = re.compile(rf"(VM|IU|PU|JOB)_({_UUID})|(GEN)_([0-9]{{1,3}})|(AT)_([0-9]{{1,12}})")


@dataclass(frozen=True)
class Tags:
    """None: there is no such tag. prepared: seconds since the epoch. foreign: those of others,
    which stay as they are; two tags of one kind are foreign too, as nobody can say which is true.
    Of several times the last one is true: an LVM command that outlived its caller comes late.
    """

    image_id: str | None = None
    parent_id: str | None = None
    vm_id: str | None = None
    job_id: str | None = None
    generation: int | None = None
    prepared: int | None = None
    filling: bool = False
    started: bool = False
    foreign: frozenset[str] = frozenset()

    @property
    def ours(self) -> bool:
        """Did we make the volume, or oVirt's hook? Both say of which image it is a copy."""
        return self.image_id is not None

    def words(self) -> tuple[str, ...]:
        """As LVM gets them, in the order of the table."""
        found = [UPDATING] if self.filling else []
        for kind, value in (
            ("IU", self.image_id),
            ("PU", self.parent_id),
            ("VM", self.vm_id),
            ("JOB", self.job_id),
            ("GEN", self.generation),
            ("AT", self.prepared),
        ):
            found += [] if value is None else [f"{kind}_{value}"]
        return (*found, *([STARTED] if self.started else []), *sorted(self.foreign))


_FIELDS = {
    "IU": "image_id",
    "PU": "parent_id",
    "VM": "vm_id",
    "JOB": "job_id",
    "GEN": "generation",
    "AT": "prepared",
}


def parsed(words: Iterable[str]) -> Tags:
    """Read them; any text may be among them."""
    kinds: dict[str, list[tuple[str, str]]] = {}
    given = set(words)
    for word in given - {UPDATING, STARTED}:
        kind, value = _split(word)
        kinds.setdefault(kind, []).append((word, value))
    foreign = {word for word, _ in kinds.pop("", [])}
    fields: dict[str, Any] = {}
    for kind, found in kinds.items():
        if kind == "AT":
            found.sort(key=lambda one: int(one[1]), reverse=True)
            foreign |= {word for word, _ in found[1:]}
        elif len(found) > 1:
            foreign |= {word for word, _ in found}
            continue
        value = found[0][1]
        fields[_FIELDS[kind]] = int(value) if kind in ("GEN", "AT") else value
    return Tags(
        **fields,
        filling=UPDATING in given,
        started=STARTED in given,
        foreign=frozenset(foreign),
    )


def _split(word: str) -> tuple[str, str]:
    """Kind and value; the kind of a foreign one is empty."""
    if not _FORM.fullmatch(word):
        return "", word
    kind, _, value = word.partition("_")
    return kind, value
