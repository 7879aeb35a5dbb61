"""What an operator does about an unresolved job to a volume: as engine/unresolved.py for leases.

The sections of docs/judgement.md are the same. {sd}, {image}, {volume} are to be filled.
"""

from collections.abc import Mapping

from engine.unresolved import Advice, Unresolved

_LOOK = "`leasehold volume info {sd} {image} {volume}`"

_ADVICE: Mapping[Unresolved, Advice] = {
    Unresolved.OTHER_RECORD: Advice(
        "the volume has a generation or a legality that this job cannot have given it",
        f"look with {_LOOK} and find out who changed it; keep the volume until it is known that"
        " nobody writes to it, then remove it and copy again",
    ),
    Unresolved.LEASE_GONE: Advice(
        "the volume is gone, and nobody had decided about the job",
        "find out who removed volume {volume} of image {image}; see that no process of the job"
        " lives on its host, then clear the command and copy again",
    ),
    Unresolved.CORRUPT: Advice(
        "the metadata of the volume is damaged",
        f"look with {_LOOK}; see that nobody holds its lease, then remove the volume and copy"
        " again",
    ),
    Unresolved.FENCE_REFUSED: Advice(
        "the fence found something else than the look before it, or no volume",
        f"resolve again, which looks anew; if it is refused again, look with {_LOOK} and keep the"
        " volume",
    ),
    Unresolved.FENCE_BOUND: Advice(
        "the job could not be fenced, however often it was tried",
        "make one host work that has joined domain {sd} (`leasehold host status {sd}`), then"
        " resolve again",
    ),
    Unresolved.STILL_HELD: Advice(
        "the host says that the job ended, or does not know it, but the lease of the volume is"
        " still held and the host that holds it did not say that this is so",
        f"look at the host that holds it ({_LOOK}): a process there may still write; end it, or"
        " restart that host, then resolve again",
    ),
    Unresolved.UNREADABLE: Advice(
        "the host says that the job is done, but the volume cannot be read",
        "repair the access to domain {sd} (`leasehold host status {sd}`), then resolve again",
    ),
    Unresolved.NOBODY: Advice(
        "no host could be asked about the volume for too long",
        "start a host that sees domain {sd}, then resolve again",
    ),
}


def advice(cause: Unresolved) -> Advice:
    return _ADVICE[cause]
