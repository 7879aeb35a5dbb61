"""The sanlock store: leases of several hosts, kept by the daemon of each.

The daemon acquires and releases, and renews the membership of its host in the lockspace. Value
blocks, slots and index are read and written by this process: docs/decisions/0006.
Source: docs/formats.md, docs/failures.md.
"""

import errno
import os
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from leases import daemon, delta, ownership, writers
from leases.call import Call
from leases.daemon import Host, HostState, Membership, Refused
from leases.geometry import DEFAULT, Geometry
from leases.grant import Grant
from leases.leader import InvalidLeader, Leader
from leases.lease import Lease
from leases.renewals import Renewals
from leases.sector import Sectors
from leases.store import Store
from leases.volume import LeaseVolume, write_index_lease
from protocol.errors import (
    AcquireLockFailure,
    InvalidDomain,
    InvalidSlot,
    NotJoined,
    ReleaseLockFailure,
    SanlockUnavailable,
    WrongStore,
)

ACQUIRE_TIME = 20.0  # seconds; an acquire takes milliseconds, or the minute of an owner's death
RELEASE_TIME = 10.0  # seconds; after that the daemon frees the lease when it sees our socket shut
SETTLE_TIME = 1.0  # seconds between writing a missing index lease and acquiring it
_RELEASING_TIME = 2.0  # seconds that a lease may be between two holders of this host
_RELEASING_LOOK = 0.005
_ENDED = "the sanlock daemon of this host has ended"
_BETWEEN = {errno.EAGAIN, errno.EBUSY}  # a process of this host is giving it back, or getting it
_NAMES_DIFFER = {daemon.NO_LEASE_ON_STORAGE, daemon.WRONG_RESOURCE}


@dataclass(frozen=True)
class SanlockStore(Store):
    """path: the lease volume (xleases). ids: the lockspace file of the same domain.

    Every use raises NotJoined when the daemon of this host has not joined the lockspace, and
    SanlockUnavailable when there is none.
    """

    sd_id: str
    path: str
    ids: str
    geometry: Geometry = DEFAULT

    @property
    def volume(self) -> LeaseVolume:
        return LeaseVolume(self.path, self.sd_id, self.geometry)

    def take(self, lease: Lease) -> Grant:
        membership = self._membership()
        with ExitStack() as undo:
            sectors = undo.enter_context(Sectors.open(lease.path, write=True))
            self._check_free(sectors, lease)
            cover = writers.covered(self.sd_id)
            if cover is None:
                raise NotJoined(self.sd_id)  # it is just joining again
            undo.callback(os.close, cover)
            fd = daemon.registered()
            undo.callback(os.close, fd)
            self._acquire(fd, lease, sectors)
            ours = sectors.read(lease.offset, self.geometry.sector)
            try:
                leader = Leader.unpack(ours)
            except InvalidLeader as e:
                raise InvalidSlot(lease.lease_id, str(e)) from None
            if leader.owner_id != membership.host_id or not leader.timestamp:
                raise AcquireLockFailure(lease.lease_id, f"host {leader.owner_id} has taken it")
            renewals = Renewals(self.ids, leader.owner_id, leader.owner_generation, self.geometry)

            def lost() -> str | None:
                # Nothing here asks the daemon, which may be stopped.
                if daemon.gone(fd):
                    return _ENDED
                with suppress(OSError):  # storage that fails for a while is borne with
                    if not sectors.in_place():
                        return f"{sectors.path} was replaced or removed"
                return renewals.missed()

            grant = Grant(
                lease,
                sectors,
                self.geometry,
                leader=ours,
                lost=lost,
                fds=(fd, cover),
                alarm=fd,
            )
            undo.pop_all()
            return grant

    def give(self, grant: Grant) -> None:
        try:
            if grant.fds:
                self._release(grant.fds[0], grant.lease)
        finally:
            for fd in grant.fds:
                os.close(fd)
            grant.sectors.close()

    def take_index(self) -> Grant | None:
        lease = self.volume.index_lease()
        try:
            return self.take(lease)
        except AcquireLockFailure:
            return None
        except InvalidSlot:
            self._mend_index_lease(lease)
            return None

    def look(self, lease: Lease) -> list[int]:
        with Sectors.open(lease.path, write=False) as sectors:
            return self._owners(sectors, lease.offset)

    def take_slot(self, offset: int) -> Grant | None:
        sectors = Sectors.open(self.path, write=True)
        try:
            if self._owners(sectors, offset):
                sectors.close()
                return None
        except BaseException:
            sectors.close()
            raise
        lease = Lease(self.sd_id, f"slot at {offset}", self.path, offset)
        return Grant(lease, sectors, self.geometry, leader=None, lost=lambda: None, fds=())

    def _membership(self) -> Membership:
        for one in daemon.memberships():
            if one.sd_id == self.sd_id and one.joined:
                if not _same_file(one.path, self.ids):
                    reason = f"the daemon has joined its lockspace from another file, {one.path}"
                    raise WrongStore(self.sd_id, reason)
                return one
        raise NotJoined(self.sd_id)

    def _owners(self, sectors: Sectors, offset: int) -> list[int]:
        """The owner of the slot at `offset`, if there is one."""
        size = self.geometry.sector
        try:
            leader = Leader.unpack(sectors.read(offset, size))
        except InvalidLeader:
            return []  # nobody can own what is no lease
        if not leader.timestamp:
            return []
        if not 1 <= leader.owner_id <= 2000:
            return [leader.owner_id]
        block = sectors.read(offset + (1 + leader.owner_id) * size, size)
        host = self._host(leader.owner_id)
        return [leader.owner_id] if ownership.counts(leader, host, block) else []

    def _host(self, host_id: int) -> Host | None:
        """What is known of a host; None: nothing."""
        with suppress(Refused):
            if found := daemon.host(self.sd_id, host_id):
                return found
        self._membership()  # or the daemon has not joined
        # Soon after joining the daemon knows nobody, but storage tells who has joined anew.
        with suppress(OSError, ValueError, InvalidDomain):
            own = delta.read(self.ids, host_id, self.geometry)
            unknown = HostState.UNKNOWN
            return Host(host_id, own.owner_generation, unknown, own.timestamp, own.io_timeout)
        return None

    def _check_free(self, sectors: Sectors, lease: Lease) -> None:
        """Raise unless the slot is that of `lease`, owned by nobody.

        Before the daemon is asked: an acquire of what a silent host owns blocks for a minute.
        """
        try:
            leader = Leader.unpack(sectors.read(lease.offset, self.geometry.sector))
        except InvalidLeader as e:
            raise InvalidSlot(lease.lease_id, str(e)) from None
        if (leader.space, leader.resource) != (lease.sd_id, lease.lease_id):
            self._raise_moved(sectors, lease, f"its leader names {leader.resource!r}")
        if owners := self._owners(sectors, lease.offset):
            raise AcquireLockFailure(lease.lease_id, f"host {owners[0]} holds it")

    def _acquire(self, fd: int, lease: Lease, sectors: Sectors) -> None:
        """Raises Cancelled, with nothing acquired, when the task that asked was cancelled."""
        asked = Call(lambda: _acquired(fd, lease))
        try:
            if not asked.ends_in(ACQUIRE_TIME):
                reason = f"the sanlock daemon has not answered for {ACQUIRE_TIME:g} s"
                raise AcquireLockFailure(lease.lease_id, reason)
            asked.answer()
        except Refused as e:
            if e.number == errno.ENOSPC:
                raise NotJoined(self.sd_id) from None
            if e.number in _NAMES_DIFFER:  # changed since we looked
                self._raise_moved(sectors, lease, str(e))
            reason = "a process of this host holds it" if e.number == errno.EEXIST else str(e)
            raise AcquireLockFailure(lease.lease_id, reason) from None
        finally:
            _cut_short(asked, fd)

    def _release(self, fd: int, lease: Lease) -> None:
        asked = Call(lambda: daemon.release(fd, lease))
        try:
            # No cancellation cuts this short: others wait for the lease.
            if not asked.ends_in(RELEASE_TIME, cancellable=False):
                reason = f"the sanlock daemon has not answered for {RELEASE_TIME:g} s"
                raise ReleaseLockFailure(lease.lease_id, reason)
            asked.answer()
        except (Refused, SanlockUnavailable) as e:
            raise ReleaseLockFailure(lease.lease_id, str(e)) from e
        finally:
            _cut_short(asked, fd)

    def _raise_moved(self, sectors: Sectors, lease: Lease, reason: str) -> None:
        """The slot is not that of the lease: it is gone or moved, or else damaged."""
        if lease.path == self.path and lease != self.volume.index_lease():
            self.volume.confirm(sectors, lease)
        raise InvalidSlot(lease.lease_id, reason)

    def _mend_index_lease(self, lease: Lease) -> None:
        """Write the index lease into a volume that another program has made.

        Every host writes the same bytes. One that looked before us may write once more, so wait.
        """
        with Sectors.open(self.path, write=True) as sectors:
            self.volume.index(sectors, limit=512)  # raises: it is of another lockspace
            try:
                Leader.unpack(sectors.read(lease.offset, self.geometry.sector))
            except InvalidLeader:
                write_index_lease(self.volume, sectors)
            else:
                raise InvalidSlot(lease.lease_id, "its slot belongs to another lease")
        time.sleep(SETTLE_TIME)


def _acquired(fd: int, lease: Lease) -> None:
    """Acquire, waiting for the daemon to be done with another process of this host: one that just
    died, or that was given up while it asked for the lease."""
    deadline = time.monotonic() + _RELEASING_TIME
    while True:
        try:
            return daemon.acquire(fd, lease)
        except Refused as e:
            if e.number not in _BETWEEN or time.monotonic() > deadline:
                raise
        time.sleep(_RELEASING_LOOK)


def _cut_short(asked: Call[None], fd: int) -> None:
    """End a call that is still under way, before its descriptor is closed: the number is another's
    then. What the daemon makes of the call later, it gives back: nobody is there."""
    if asked.running:
        daemon.cancel(fd)
        asked.wait()


def _same_file(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
