"""Why a job can be unresolved, and what an operator does then.

Unresolved means: nobody decided. Every resource is kept, and the same question may be asked again.
Each of these has a section in docs/judgement.md.
"""

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True)
class Advice:
    """reason: what was found. action: what the operator does; {sd} and {lease} are to be filled."""

    reason: str
    action: str


class Unresolved(Enum):
    """The causes; `value` is the advice."""

    OTHER_RECORD = Advice(
        "the record in the lease is of another job, or has a generation that this job cannot have",
        "look with `leasehold lease status {sd} {lease}` and find out who wrote it; keep lease and"
        " target until it is known that nobody writes to the target",
    )
    LEASE_GONE = Advice(
        "the lease is gone, and nobody had decided about the job",
        "`leasehold lease rebuild {sd}` brings back a lease that only the index lost, then resolve"
        " again; if somebody deleted it, cut the host's access to the target and compare the"
        " target with its source, or remove it",
    )
    CORRUPT = Advice(
        "the record of the job, its slot or the index of the leases is damaged",
        "restore a lease volume that was cut off or overwritten, and resolve again; mend any other"
        " by `leasehold lease rebuild {sd}` before; if the record stays unreadable, cut the host's"
        " access to the target and copy again with a new job id",
    )
    FENCE_REFUSED = Advice(
        "the fence found another record in the lease than the look before it, or no lease",
        "resolve again, which looks anew; if it is refused again, look with"
        " `leasehold lease status {sd} {lease}` and keep lease and target",
    )
    FENCE_BOUND = Advice(
        "the job could not be fenced, however often it was tried",
        "make one host work that has joined domain {sd} (`leasehold host status {sd}`), then"
        " resolve again",
    )
    STILL_HELD = Advice(
        "the host says that the job ended, or does not know it, but the lease is still held and"
        " the host that holds it did not say that this is so",
        "look at the host that holds the lease (`leasehold lease status {sd} {lease}`): a process"
        " there may still write; end it, or restart that host, then resolve again",
    )
    UNREADABLE = Advice(
        "the host says that the job is done, but the lease cannot be read",
        "repair the access to domain {sd} (`leasehold host status {sd}`), then resolve again",
    )
    NOBODY = Advice(
        "no host could be asked about the lease for too long",
        "start a host that sees domain {sd}, then resolve again",
    )

    def action(self, *, sd: str, lease: str) -> str:
        return self.value.action.format(sd=sd, lease=lease)
