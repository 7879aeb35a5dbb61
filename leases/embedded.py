"""The embedded store: leases of one host, held by locks of its kernel.

A lease is held by an exclusive lock on the bytes of its slot. It needs no daemon, and the kernel
gives the lease back when the holder dies. Source: docs/formats.md, "Embedded store".
"""

import os
import stat
import struct
from dataclasses import dataclass

from leases import file_system, leader, range_lock
from leases.geometry import DEFAULT, Geometry
from leases.grant import Grant
from leases.leader import InvalidLeader, Leader
from leases.lease import Lease
from leases.sector import Sectors
from leases.store import Store
from leases.volume import LeaseVolume
from protocol.errors import (
    AcquireLockFailure,
    InvalidDomain,
    InvalidSlot,
    ReleaseLockFailure,
    WrongStore,
)

HOST_ID = 1  # of this host, the only one
_DELTA_MAGIC = struct.pack("<I", 0x12212010)
_REPLACED_TRIES = 3


@dataclass(frozen=True)
class EmbeddedStore(Store):
    """path: the lease volume (xleases). ids: the lockspace file of the same domain.

    Every use raises WrongStore when `ids` is formatted, because then hosts share the domain by
    sanlock, and when the volume is not a regular file on a local file system.
    """

    sd_id: str
    path: str
    ids: str
    geometry: Geometry = DEFAULT

    @property
    def volume(self) -> LeaseVolume:
        return LeaseVolume(self.path, self.sd_id, self.geometry)

    def take(self, lease: Lease) -> Grant:
        sectors = self._locked(lease.path, lease.offset)
        if sectors is None:
            raise AcquireLockFailure(lease.lease_id, "a process of this host holds it")
        try:
            found = sectors.read(lease.offset, self.geometry.sector)
            self._check_leader(sectors, lease, found)
            ours = leader.acquired(found)
            sectors.write(lease.offset, ours)
        except BaseException:
            self._unlock(sectors, lease.offset)
            raise
        return self._grant(lease, sectors, ours)

    def give(self, grant: Grant) -> None:
        try:
            self._unlock(grant.sectors, grant.lease.offset)
        except OSError as e:
            raise ReleaseLockFailure(grant.lease.lease_id, str(e)) from e

    def take_index(self) -> Grant | None:
        lease = self.volume.index_lease()
        sectors = self._locked(lease.path, lease.offset)
        return None if sectors is None else self._grant(lease, sectors, None)

    def look(self, lease: Lease) -> list[int]:
        with Sectors.open(lease.path, write=False) as sectors:
            self._check_file(sectors)
            held = range_lock.locked(sectors.fd, lease.offset, self.geometry.alignment)
        self._check_ids()
        return [HOST_ID] if held else []

    def take_slot(self, offset: int) -> Grant | None:
        sectors = self._locked(self.path, offset)
        lease = Lease(self.sd_id, f"slot at {offset}", self.path, offset)
        return None if sectors is None else self._grant(lease, sectors, None)

    def _grant(self, lease: Lease, sectors: Sectors, ours: bytes | None) -> Grant:
        def lost() -> str | None:
            try:
                return None if sectors.in_place() else f"{sectors.path} was replaced or removed"
            except OSError as e:
                return f"{sectors.path} cannot be looked at: {e}"

        return Grant(lease, sectors, self.geometry, leader=ours, lost=lost, fds=(sectors.fd,))

    def _locked(self, path: str, offset: int) -> Sectors | None:
        """Open `path` and lock the slot at `offset`; None: somebody holds a part of it."""
        for _ in range(_REPLACED_TRIES):
            sectors = Sectors.open(path, write=True)
            try:
                self._check_file(sectors)
                if not range_lock.lock(sectors.fd, offset, self.geometry.alignment):
                    sectors.close()
                    return None
                # Only now: a lock on a file that was replaced in between would exclude nobody,
                # and `ids` is formatted under a lock of the whole lease volume.
                if sectors.in_place():
                    self._check_ids()
                    return sectors
            except BaseException:
                sectors.close()
                raise
            sectors.close()
        raise InvalidDomain(path, "it is being replaced")

    def _unlock(self, sectors: Sectors, offset: int) -> None:
        # Not by closing alone: a tool that another thread is just starting has, until its exec,
        # a copy of this descriptor, and would hold the lease for a moment longer.
        try:
            range_lock.unlock(sectors.fd, offset, self.geometry.alignment)
        finally:
            sectors.close()

    def _check_file(self, sectors: Sectors) -> None:
        if not stat.S_ISREG(os.fstat(sectors.fd).st_mode):
            raise WrongStore(
                self.sd_id, f"{sectors.path} is not a regular file: use a domain on a local disk"
            )
        kind = file_system.kind(sectors.fd)
        if kind not in file_system.LOCAL:
            raise WrongStore(
                self.sd_id,
                f"the embedded store is for the disks of one host, and {sectors.path} is on"
                f" {file_system.name(kind)}: use a domain on a local disk",
            )

    def _check_ids(self) -> None:
        try:
            with open(self.ids, "rb", buffering=0) as file:
                formatted = file.read(len(_DELTA_MAGIC)) == _DELTA_MAGIC
        except FileNotFoundError:
            raise InvalidDomain(self.ids, "there is no such file") from None
        if formatted:
            raise WrongStore(
                self.sd_id,
                "its `ids` is formatted, so hosts share it by sanlock: join it with `leasehold host"
                f" join {self.sd_id} --host-id N`, or use another domain",
            )

    def _check_leader(self, sectors: Sectors, lease: Lease, sector: bytes) -> None:
        """Raise unless the leader is that of `lease`, owned by nobody."""
        try:
            found = Leader.unpack(sector)
        except InvalidLeader as e:
            raise InvalidSlot(lease.lease_id, str(e)) from None
        if (found.space, found.resource) != (lease.sd_id, lease.lease_id):
            if lease.path == self.path:
                self.volume.confirm(sectors, lease)  # gone or moved is no damage
            raise InvalidSlot(lease.lease_id, f"its leader names {found.resource!r}")
        if found.timestamp:
            raise WrongStore(self.sd_id, f"host {found.owner_id} of sanlock owns {lease.lease_id}")
