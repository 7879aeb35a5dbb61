"""Who owns a lease of sanlock, by what stands in its slot and what is known of the host."""

import struct

from leases.daemon import Host, HostState
from leases.leader import Leader

_FLAGS = struct.Struct("<I")
_FLAGS_AT = 52
_RELEASED = 1


def released(block: bytes) -> bool:
    """Does the block of a host say that it gave the lease back? docs/formats.md, "Host block"."""
    return bool(_FLAGS.unpack_from(block, _FLAGS_AT)[0] & _RELEASED)


def counts(leader: Leader, host: Host | None, block: bytes) -> bool:
    """Is the owner that stands in the leader one?

    host: what is known of it; None: nothing. block: that of the owner. When in doubt it is.
    """
    if leader.timestamp == 0:
        return False  # nobody, or given back
    if host is not None:
        if host.generation > leader.owner_generation:
            return False  # it has joined again: what it held in its former life is gone
        # Of this life: what the daemon knows of a host may be some seconds old, and that one joined
        # again since.
        this_life = host.generation == leader.owner_generation
        if this_life and host.state in (HostState.DEAD, HostState.FREE):
            return False
    # One that lost a race may write the winner's leader once more, when that has given it back.
    return leader.writer_id == leader.owner_id or not released(block)
