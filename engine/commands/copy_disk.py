"""copy_disk: a new disk with the content of another one, in any domain.

On storage: a volume is made with an id of ours, and filled by a job of one host, which holds a
lease while it can write. Done is what that lease says, and nobody else; see docs/judgement.md. When
the copy failed, the access of the host to the target is cut, then the lease is deleted, then the
target. When nobody can tell, everything is kept, and only the source is free again.
"""

import time
from dataclasses import replace
from typing import Literal

import msgspec
from sqlalchemy import Connection

from engine.commands import copy_rows, managed_volumes
from engine.commands.copy_stages import (
    cut_source,
    cut_target,
    delete_lease,
    kept_lease,
    kept_source_access,
    kept_target_access,
    road,
)
from engine.commands.run import Run
from engine.commands.specs import new_id
from engine.commands.stage import CommandType, Stage
from engine.db import disks, volumes
from engine.names import checked_name, checked_text
from protocol.errors import BadParameter


class CopyDisk(msgspec.Struct, frozen=True, kw_only=True):
    """disk, domain: ids of the source, and of where the copy will be. name: of the copy.

    format, sparse: of the copy; null: as the source, as far as its domain can. verify: compare both
    afterwards. limit: bytes per second. copy, volume, job: ids, chosen here.
    """

    disk: str
    domain: str
    name: str
    description: str = ""
    format: Literal["raw", "cow"] | None = None
    sparse: bool | None = None
    verify: bool = False
    limit: int | None = None
    copy: str = msgspec.field(default_factory=new_id)
    volume: str = msgspec.field(default_factory=new_id)
    job: str = msgspec.field(default_factory=new_id)

    @property
    def target(self) -> str:
        return self.copy


def begin(c: Connection, spec: CopyDisk, command: str) -> None:
    """Raises NoSuchObject (4400), DiskLocked (4402), WrongState (4403), InQuarantine (4412),
    BadParameter (1000)."""
    checked_name("name", spec.name)
    checked_text("description", spec.description)
    checked_limit(spec.limit)
    source = copy_rows.begin_source(c, spec, command)
    target = replace(
        copy_rows.begin_target(c, spec, source),
        name=spec.name,
        description=spec.description,
        state="locked",
        locked_by=command,
        created=time.time(),
    )
    disks.add(c, target)
    copy_rows.begin_volume(c, target, command, disk=target.id)


def checked_limit(limit: int | None) -> None:
    """Raises BadParameter (1000)."""
    if limit is not None and not 0 < limit <= 1 << 62:
        raise BadParameter("limit", "bytes per second, at least 1")


async def finish(run: Run) -> None:
    run.together(lambda c: volumes.move(c, run.spec.volume, "ok"))


def withdraw(c: Connection, run: Run) -> None:
    managed_volumes.forget(c, run.spec.volume)
    disks.remove(c, run.spec.copy)


COPY_DISK = CommandType(
    "copy_disk",
    CopyDisk,
    (
        *road(final=True),
        Stage(
            "quiesce",
            cut_target,
            needs=(),
            kept=kept_target_access,
            title="ending the access to the target",
        ),
        Stage(
            "unlease",
            delete_lease,
            needs=("quiesce",),
            kept=kept_lease,
            title="deleting the lease",
        ),
        Stage(
            "detach_source",
            cut_source,
            needs=(),
            kept=kept_source_access,
            title="ending the access to the source",
        ),
        Stage("finish", finish, needs=("quiesce",), title="the copy is ready"),
    ),
    begin,
    withdraw,
    title="copying a disk",
)
