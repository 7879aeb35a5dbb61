"""How many files this process may open, and how many of them clients may take.

A connection is a descriptor, and so is much of what a job needs: clients must not take the last.
Source: getrlimit(2), RLIMIT_NOFILE.
"""

import resource
from dataclasses import replace

from host.wire.limits import DEFAULT, Limits

OWN = 64  # what the agent has open itself, and for a moment
OF_A_JOB = 8  # its worker, its folder, what is looked at on its storage
FEWEST = 8


def limits(concurrency: int) -> Limits:
    """Raise the limit as far as we may; what clients may take then. concurrency: of jobs."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return of_clients(most - OWN - OF_A_JOB * concurrency)


def of_clients(room: int) -> Limits:
    """room: descriptors. A quarter is for those who have not said yet who they are."""
    return replace(
        DEFAULT,
        connections=max(FEWEST, min(DEFAULT.connections, room * 3 // 4)),
        entering=max(FEWEST, min(DEFAULT.entering, room // 4)),
    )
