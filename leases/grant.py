"""A grant: the proof that this process holds a lease, and the access to its value block."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from leases import leader as leaders
from leases import lvb, value_block
from leases.geometry import Geometry
from leases.lease import Lease
from leases.sector import Sectors
from leases.worker import run
from protocol.errors import LeaseLost, SanlockLVBError
from protocol.record import JobRecord

_WATCH_SECONDS = 1.0
_LOOK_SECONDS = 40.0  # less than the 60 and more for which sanlock keeps a lease of a silent host


class Grant:
    """A lease that is held, until the store takes it back.

    `fds` are to be inherited (pass_fds) by every process that can write under this lease: the lease
    is held until all of them are gone, even when this process is killed.
    verify, verify_written, load and put block; check, check_written, read and write are the same in
    a worker thread.
    """

    def __init__(
        self,
        lease: Lease,
        sectors: Sectors,
        geometry: Geometry,
        *,
        leader: bytes | None,
        lost: Callable[[], str | None],
        fds: tuple[int, ...],
        alarm: int | None = None,
    ) -> None:
        """leader: its sector as it stands while the lease is ours; None: not looked at.

        lost: the store's own reasons to say that the lease is no longer ours. alarm: a descriptor
        that becomes readable when there may be one.
        """
        self.lease = lease
        self.sectors = sectors
        self.fds = fds
        self._alarm = alarm
        self._geometry = geometry
        self.in_doubt = False
        self._recording: trio.Event | None = None
        self._recorded = False
        self._leader = leader
        self._lost = lost

    async def check(self) -> None:
        """Raises LeaseLost unless the lease is still ours."""
        await run(self.verify)

    async def check_written(self) -> None:
        """`check`, just after a write, which a LeaseLost tells of."""
        await run(self.verify_written)

    async def read(self) -> JobRecord | None:
        """The record in the value block; None: never written. Raises SanlockLVBError (703)."""
        return await run(self.load, abandon=True)

    async def write(self, record: JobRecord | None) -> None:
        """Write the value block: check, write, read back, check.

        Cancelled, it is left behind if it hangs, and the grant is in doubt: the lease must not be
        given back while that write may still land.
        Raises LeaseLost (which says whether something was written) and SanlockLVBError (703).
        """
        await trio.lowlevel.checkpoint_if_cancelled()  # here: from now on the write is begun
        self.in_doubt = True  # until it is known to have ended, well or not
        await run(self._put, record, abandon=True)

    def _put(self, record: JobRecord | None) -> None:
        try:
            self.put(record)
        finally:
            self.in_doubt = False

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record in the body what the lease was held for.

        Whether it is lost by then, the looks of the body itself decide. When the body has ended
        well, the result is on disk, and no loss changes it any more.
        """
        self._recording = trio.Event()
        try:
            yield
            self._recorded = True
        finally:
            self._recording.set()

    async def wait_lost(self) -> LeaseLost:
        """Return when the lease is seen to be lost; never when its result was recorded before."""
        while True:
            with trio.move_on_after(_WATCH_SECONDS):
                await self._alarmed()
            if lost := await self._looked():
                break
        if self._recording is not None:
            await self._recording.wait()
        if self._recorded:
            await trio.sleep_forever()
        return lost

    async def _looked(self) -> LeaseLost | None:
        """Look once. With an alarm, storage that does not answer counts as a loss in time: others
        may have the lease by then."""
        lost: LeaseLost | None = LeaseLost(self.lease.lease_id, "its storage does not answer")

        async def give_up(scope: trio.CancelScope) -> None:
            if self._alarm is None:
                return
            with trio.move_on_after(_LOOK_SECONDS):
                await self._alarmed()
                await trio.sleep(_WATCH_SECONDS)  # for the look to say why
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(give_up, nursery.cancel_scope)
            try:
                # Abandoned when the body ends: a look that hangs must not keep the lease.
                await run(self.verify, abandon=True)
                lost = None
            except LeaseLost as e:
                lost = e
            nursery.cancel_scope.cancel()
        return lost

    async def _alarmed(self) -> None:
        if self._alarm is None:
            await trio.sleep_forever()
        else:
            await trio.lowlevel.wait_readable(self._alarm)

    def verify(self) -> None:
        """`check`, blocking."""
        reason = self._lost()
        if reason is None and self._leader is not None:
            reason = self._leader_changed(self._leader)
        if reason is not None:
            raise LeaseLost(self.lease.lease_id, reason)

    def verify_written(self) -> None:
        """`verify`, just after a write, which a LeaseLost tells of."""
        try:
            self.verify()
        except LeaseLost as e:
            reason = f"{e.reason}; seen just after a write: what was written may stand there"
            raise LeaseLost(e.lease_id, reason) from None

    def load(self) -> JobRecord | None:
        """`read`, blocking."""
        return lvb.decode(value_block.read(self.sectors, self._geometry, self.lease.offset))

    def put(self, record: JobRecord | None) -> None:
        """`write`, blocking."""
        self.verify()
        failure: SanlockLVBError | None = None
        try:
            value_block.write(self.sectors, self._geometry, self.lease.offset, record)
        except SanlockLVBError as e:
            failure = e
        self.verify_written()  # that the lease is lost explains what was read back
        if failure:
            raise failure

    def _leader_changed(self, ours: bytes) -> str | None:
        try:
            leader = self.sectors.read(self.lease.offset, self._geometry.sector)
        except OSError as e:
            return f"its leader cannot be read: {e}"
        if leaders.owned_alike(leader, ours):
            return None
        return "its leader was changed by somebody else"
