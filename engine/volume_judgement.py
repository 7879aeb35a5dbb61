"""What a volume of a storage domain says about the job that copies to it, as one table. Pure.

Such a job has no external lease. It holds the lease of the volume as long as a process of it can
write; its end stands in the metadata of the volume, as a generation and a legality. With g for the
generation that the job began with, and mod 1000:

    row  lease      generation   legality      as if the record of a lease said
    v1   held       any          any           that it is held
    v2   not told   any          any           nothing: this host cannot tell, another one may
    v3   free       g + 1        LEGAL         SUCCEEDED: the job writes both in one write, last
    v4   free       g + 3        any           FENCED: SDM.update_volume wrote it
    v5   free       g            any           PENDING: the job did not end well, or never began
    v6   free       g + 1        not LEGAL     that it is of another job: nobody wrote this for ours
                    any other    any           likewise

So the table of engine/decide.py judges volumes too, and all that is known of it holds. There is no
FAILED: a job that failed leaves g, so it is fenced, and is failed when g + 3 is there.

Two things keep a success from being mistaken. The volume is made ILLEGAL, so that no change of its
description leads to v3; and a fence is refused, 911, when another generation is there than g.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from itertools import product
from typing import Annotated, Any

import msgspec

from engine.answers import MOST_OWNERS, Free, LeaseView, LookFailed, Owned
from protocol.errors import (
    BadOutput,
    Error,
    GenerationMismatch,
    ImageDoesNotExistInSD,
    InvalidRecord,
    InvalidVolumeMetadata,
    JobStatusMismatch,
    NoSuchLease,
    VolumeDoesNotExist,
)
from protocol.messages import Generation
from protocol.record import GENERATIONS, JOB_TYPE, Expectation, JobStatus, next_generation

FENCE = 3  # generations that a fence moves on: no success does


class Hold(Enum):
    """Who holds the lease of the volume."""

    HELD = auto()
    FREE = auto()
    UNTOLD = auto()


class Moved(Enum):
    """How far the generation is from the one that the job began with."""

    NOT = auto()
    ONCE = auto()
    FENCED = auto()
    OTHERWISE = auto()


class Legality(Enum):
    LEGAL = auto()
    OTHER = auto()  # ILLEGAL, FAKE, or what nobody knows


class Says(Enum):
    """What the record of a lease would say in its place."""

    HELD = auto()
    NOTHING = auto()
    SUCCEEDED = auto()
    FENCED = auto()
    PENDING = auto()
    OTHER = auto()


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    number: str
    holds: Iterable[Hold]
    moves: Iterable[Moved]
    legalities: Iterable[Legality]
    says: Says

    @property
    def cells(self) -> Iterable["Cell"]:
        return product(self.holds, self.moves, self.legalities)


Cell = tuple[Hold, Moved, Legality]

_FREE = (Hold.FREE,)

ROWS: tuple[Row, ...] = (
    Row("v1", (Hold.HELD,), Moved, Legality, Says.HELD),
    Row("v2", (Hold.UNTOLD,), Moved, Legality, Says.NOTHING),
    Row("v3", _FREE, (Moved.ONCE,), (Legality.LEGAL,), Says.SUCCEEDED),
    Row("v4", _FREE, (Moved.FENCED,), Legality, Says.FENCED),
    Row("v5", _FREE, (Moved.NOT,), Legality, Says.PENDING),
    Row("v6", _FREE, (Moved.ONCE,), (Legality.OTHER,), Says.OTHER),
    Row("v6", _FREE, (Moved.OTHERWISE,), Legality, Says.OTHER),
)

TABLE: Mapping[Cell, Row] = {cell: row for row in ROWS for cell in row.cells}


HostId = Annotated[int, msgspec.Meta(ge=1)]


class VolumeLease(msgspec.Struct, frozen=True):
    """owners: host ids; None: the host that was asked cannot tell."""

    owners: Annotated[list[HostId], msgspec.Meta(max_length=MOST_OWNERS)] | None = None


class VolumeInfo(msgspec.Struct, frozen=True):
    """Volume.getInfo, as far as it is used."""

    generation: Generation
    legality: str
    lease: VolumeLease = VolumeLease()


@dataclass(frozen=True)
class VolumeFree(Free):
    """A free volume; metadata: what the record of a lease would say in its place."""

    generation: int
    legality: str

    def __str__(self) -> str:
        return f"the volume is free: {self.legality:.40}, generation {self.generation}"


def fence_generation(generation: int) -> int:
    """The generation that a fence writes for a job that began with `generation`."""
    return (generation + FENCE) % GENERATIONS


def cell(info: VolumeInfo, generation: int) -> Cell:
    """What a volume says of a job that began with `generation`."""
    owners = info.lease.owners
    hold = Hold.UNTOLD if owners is None else Hold.HELD if owners else Hold.FREE
    moves = {
        generation: Moved.NOT,
        next_generation(generation): Moved.ONCE,
        fence_generation(generation): Moved.FENCED,
    }
    legality = Legality.LEGAL if info.legality == "LEGAL" else Legality.OTHER
    return hold, moves.get(info.generation, Moved.OTHERWISE), legality


_STATUS: Mapping[Says, JobStatus] = {
    Says.SUCCEEDED: JobStatus.SUCCEEDED,
    Says.FENCED: JobStatus.FENCED,
    Says.PENDING: JobStatus.PENDING,
}


def volume_view(answer: object, expected: Expectation) -> LeaseView:
    """The result of Volume.getInfo in the words of a lease. Nonsense is a look that failed."""
    try:
        info = msgspec.convert(answer, VolumeInfo)
    except (msgspec.ValidationError, RecursionError, UnicodeEncodeError) as e:
        return LookFailed(BadOutput.code, f"the answer is no volume: {e}")
    says = TABLE[cell(info, expected.generation)].says
    if says is Says.HELD:
        return Owned(tuple(info.lease.owners or ()))
    if says is Says.NOTHING:
        return LookFailed(Error.code, "the host cannot tell who holds the lease of the volume")
    return VolumeFree(_record(says, info, expected), info.generation, info.legality)


def _record(says: Says, info: VolumeInfo, expected: Expectation) -> Mapping[str, Any]:
    """Keys that engine.heard.recorded reads; of OTHER: a job that nobody has."""
    if says is Says.OTHER:
        return {"type": JOB_TYPE, "job_id": "", "generation": info.generation}
    status = _STATUS[says]
    moved = status is not JobStatus.PENDING
    generation = next_generation(expected.generation) if moved else expected.generation
    return {
        "type": JOB_TYPE,
        "job_id": expected.job_id,
        "job_status": status.value,
        "generation": generation,
    }


# What hosts tell of a volume, or of a fence of it, in the codes of a lease. 911: the generation is
# not g any more, so the job ended or was fenced, as 912 says of a lease: look again.
_CODES: Mapping[int, int] = {
    VolumeDoesNotExist.code: NoSuchLease.code,
    ImageDoesNotExistInSD.code: NoSuchLease.code,
    InvalidVolumeMetadata.code: InvalidRecord.code,
    GenerationMismatch.code: JobStatusMismatch.code,
}


def lease_code(code: int) -> int:
    """The code of a lease that means what `code` means of a volume."""
    return _CODES.get(code, code)
