"""What hosts answer about a job, its lease and a fence, as far as the judgement uses it."""

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeGuard

from protocol.errors import Error, to_rpc

# A judgement keeps what was found, and writes it down: no host may have that grow without bounds.
LONGEST = 250  # characters of what a host says of itself
MOST_OWNERS = 2000  # of one lease: a lockspace has no more host ids


def brief(said: object) -> str:
    """What a host has said, in one short line, however long or deep it is."""
    text = said if isinstance(said, str) else reprlib.repr(said)
    if len(text) > LONGEST:
        text = f"{text[: LONGEST - 3]}..."
    return "".join(c if c.isprintable() else " " for c in text)


class HostState(StrEnum):
    """A host as the caller knows it. One that answers is up, whatever was known of it."""

    UP = "up"
    NOT_UP = "not up"  # down, in maintenance, does not answer, or is being started
    REMOVED = "removed"  # not ours any more, or never known: it is not asked


# --- of the job, from the host that runs it -----------------------------------------------------


@dataclass(frozen=True)
class Told:
    """The host knows the job. status: as in Host.getJobs, "pending" to "failed"."""

    status: str

    def __str__(self) -> str:
        return f"the job is {brief(self.status)}"


@dataclass(frozen=True)
class NotReported:
    """The host answered, and does not know the job."""

    def __str__(self) -> str:
        return "it does not know the job"


@dataclass(frozen=True)
class CallFailed:
    """The host gave no answer, or none that can be understood."""

    text: str = ""

    def __str__(self) -> str:
        return f"no answer: {self.text}".removesuffix(": ")


Report = Told | NotReported | CallFailed


# --- of the lease, from any host ----------------------------------------------------------------


@dataclass(frozen=True)
class Owned:
    """owners: host ids in the lockspace."""

    owners: tuple[int, ...]

    def __str__(self) -> str:
        return f"the lease is held by host id {brief(', '.join(map(str, self.owners)))}"


@dataclass(frozen=True)
class Free:
    """metadata: the keys of the value block; {} if it was never written."""

    metadata: Mapping[str, Any]

    def __str__(self) -> str:
        if not self.metadata:
            return "the lease is free and was never written"
        facts = ("job_status", "generation", "job_id")
        record = ", ".join(f"{key} {brief(self.metadata.get(key))}" for key in facts)
        return f"the lease is free: {record}"


@dataclass(frozen=True)
class LookFailed:
    """code: of protocol.errors; 100 for everything that has none."""

    code: int
    text: str = ""

    def __str__(self) -> str:
        return f"the lease cannot be read ({self.code} {self.text})".replace(" )", ")")


@dataclass(frozen=True)
class Nobody:
    """There is no host that could be asked about the lease."""

    def __str__(self) -> str:
        return "there is no host to ask about the lease"


LeaseView = Owned | Free | LookFailed | Nobody


def lease_view(answer: object) -> LeaseView:
    """Read the result of Lease.status: {owners: [host id], version, metadata? (only when free)}.

    What has another shape is a look that failed, with code 100.
    """
    if not isinstance(answer, Mapping):
        return LookFailed(Error.code, f"answer is {brief(answer)}")
    owners, metadata = answer.get("owners"), answer.get("metadata")
    if _are_owners(owners):
        return Owned(tuple(owners))
    if owners == [] and isinstance(metadata, Mapping):
        return Free(metadata)
    return LookFailed(Error.code, f"answer is {brief(answer)}")


def _are_owners(told: object) -> TypeGuard[list[int]]:
    return (
        isinstance(told, list)
        and 0 < len(told) <= MOST_OWNERS
        and all(type(owner) is int for owner in told)
    )


# --- of a fence ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fenced:
    """FENCED stands in the record, with the next generation."""

    def __str__(self) -> str:
        return "the job is fenced"


@dataclass(frozen=True)
class FenceFailed:
    """code: of protocol.errors; 100 for everything that has none.

    by_owner: a host told so of which the lease says that it holds it.
    """

    code: int
    text: str = ""
    by_owner: bool = False

    def __str__(self) -> str:
        return f"the fence was refused ({self.code} {self.text})".replace(" )", ")")


FenceAnswer = Fenced | FenceFailed


def code_and_text(error: BaseException) -> tuple[int, str]:
    """What an exception of a call says: its code (100 if it has none) and its text, in brief."""
    facts = to_rpc(error)
    code = facts.get("code")
    return code if type(code) is int else Error.code, brief(str(facts.get("message", "")))
