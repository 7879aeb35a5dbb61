"""A copy is given to the agent of a host: checks, what tracks it, job."""

import uuid
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import msgspec
import trio

from cli.answers import Capabilities, read
from cli.interrupt import Interrupt
from cli.job_following import Say
from cli.job_tracking import HostLease, HostTracking, HostVolume
from cli.output import explained
from cli.remote import Remote
from cli.request import Order, check_for_host, volume_message
from protocol.client import Client, HostError
from protocol.errors import (
    ActionStopped,
    BadParameter,
    CannotConnect,
    ConnectionLost,
    Error,
    JobExists,
)


@dataclass(eq=False)
class NotKnown(ConnectionLost):
    """Whether the host has the job is not known: no answer came."""

    text: ClassVar[str] = "whether job {job_id} was begun is not known: {detail}; {look}"
    job_id: str
    look: str


@dataclass(eq=False)
class LeftEarly(ActionStopped):
    """A second signal came before the host had answered."""

    text: ClassVar[str] = "left before the host answered: job {job_id} may have been begun; {look}"
    job_id: str
    look: str


@dataclass(frozen=True)
class Options:
    """Of a job of an agent, beside what is copied. priority: a higher one goes first."""

    priority: int = 0
    copy_bitmaps: bool = False


@dataclass(frozen=True)
class Submission:
    """A copy that a host was given, or is to be given. params: of SDM.copy_data."""

    remote: Remote
    tracking: HostTracking
    params: dict[str, Any]
    description: str

    @property
    def job_id(self) -> str:
        return str(self.params["job_id"])

    @property
    def look(self) -> str:
        """How to look at the job."""
        remote, tracking = self.remote, self.tracking
        ways = [f"`leasehold job show {self.job_id}{remote.option}`"]
        if isinstance(tracking, HostLease):
            ids = f"{tracking.sd_id} {self.job_id}"
            ways.append(f"`leasehold job resolve {ids}{remote.option}`")
        return f"look with {' and '.join(ways)}"


async def begun(
    remote: Remote, order: Order, options: Options, interrupt: Interrupt, say: Say
) -> Submission:
    """Give the copy to the host. say: gets what happens beside.

    A signal stops it before anything was made; after that the job is begun all the same, and the
    caller sees that it was asked to stop. A second one does not wait for the host's answer.
    Raises ActionStopped (443): nothing was made; LeftEarly; NotKnown; the errors of the host;
    CannotConnect.
    """
    check_for_host(order)
    made: Submission | None = None
    given = False
    with trio.CancelScope() as scope:
        interrupt.then(scope.cancel)
        async with remote.connected() as client:
            made = await _prepared(remote, client, order, options)
            interrupt.then(lambda: scope.cancel() if interrupt.asked > 1 else None)
            await _given(client, made, say)
            given = True
    if made is None:
        raise ActionStopped
    if not given:
        raise LeftEarly(made.job_id, made.look)
    return made


async def _prepared(remote: Remote, client: Client, order: Order, options: Options) -> Submission:
    """Everything that can be found out before something is made."""
    job_id = order.job_id or str(uuid.uuid4())
    tracking = await _tracking(remote, client, order, job_id)
    generation = await tracking.generation(client)
    source, destination = order.messages(tracking.sd_id, job_id, generation)
    params = {
        "job_id": job_id,
        "source": _plain(source),
        "destination": _plain(destination),
        "copy_bitmaps": options.copy_bitmaps,
        "limit": order.limit,
        "priority": options.priority,
        "verify": order.verify,
    }
    description = f"copy {order.source} to {order.destination}"
    return Submission(replace(remote, flow_id=job_id), tracking, params, description)


async def _tracking(remote: Remote, client: Client, order: Order, job_id: str) -> HostTracking:
    if order.destination in order.volumes:
        return HostVolume(remote, volume_message(order.destination), job_id)
    sd_id = order.domain or await _only_domain(remote, client)
    return HostLease(remote, sd_id, job_id)


async def _only_domain(remote: Remote, client: Client) -> str:
    """Where the lease goes when nobody said: there must be no choice."""
    answer = await remote.call(client, "Host.getCapabilities", {})
    known = sorted(read(answer, Capabilities, remote.name).domains)
    if len(known) != 1:
        which = f"one of {', '.join(known)}" if known else "and it knows none: it must know one"
        raise BadParameter("--domain", f"say where the host keeps the lease, {which}")
    return known[0]


async def _given(client: Client, made: Submission, say: Say) -> None:
    remote, tracking = made.remote, made.tracking
    try:
        new = await tracking.make(client)
    except ConnectionLost as e:
        raise ConnectionLost(
            e.tool, e.status, f"{e.detail}; no job was begun, a lease may have been made"
        ) from None
    try:
        await remote.call(client, "SDM.copy_data", made.params)
    except HostError as e:
        if new and e.number != JobExists.code:  # that job needs it
            await _take_back(tracking, say)
        raise
    except CannotConnect:  # it was lost before
        if new:
            await _take_back(tracking, say)
        raise
    except ConnectionLost as e:
        raise NotKnown(remote.name, 0, str(e), made.job_id, made.look) from None


async def _take_back(tracking: HostTracking, say: Say) -> None:
    try:
        await tracking.remove()
    except Error as e:
        ids = " ".join(list(tracking.names.values())[1:])
        say(f"the lease that was made for it could not be deleted ({ids}): {explained(e)}")


def _plain(message: object) -> dict[str, Any]:
    """Without what is not known."""
    plain: dict[str, Any] = msgspec.to_builtins(message)
    return {key: value for key, value in plain.items() if value is not None}
