"""The judgement of jobs to volumes: whom it asks, how it fences, and what it says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import pytest
import trio
from trio.testing import MockClock

from engine.answers import HostState
from engine.heard import Bounds
from engine.judgement import End, Verdict, Watch
from engine.lease_poller import ExternalLeasePoller
from engine.unresolved import Unresolved
from engine.volume_advice import advice
from engine.volume_poller import VolumePoller, VolumeWatch, told
from protocol.client import HostError, NoAnswer
from protocol.errors import (
    AcquireLockFailure,
    CannotConnect,
    Error,
    GenerationMismatch,
    ImageDoesNotExistInSD,
    InvalidVolumeMetadata,
    UnsupportedOperation,
    VolumeDoesNotExist,
    to_rpc,
)
from protocol.messages import LeaseRef
from protocol.record import Expectation

JOB = "5b3ad4a8-3a1b-4a36-8f2e-b0f4c27be1d3"
SD = UUID("1dd9f4a2-0c59-4c1c-9d31-6a1d0d4ad2ef")
IMG = UUID("66666666-7777-4888-8999-aaaaaaaaaaaa")
VOL = UUID("77777777-8888-4999-8aaa-bbbbbbbbbbbb")
G = 998
WATCH = VolumeWatch(JOB, "a", SD, IMG, VOL, G)


def host_error(error: Error) -> HostError:
    return HostError(to_rpc(error))


@dataclass
class OneVolume:
    """Three hosts that see one volume; a is the one of the job. told: the status of the job there.

    fence_ends: with which error the job of a fence ends, in place of doing it; a string: a status.
    """

    told: Any = "running"
    generation: int = G
    legality: str = "ILLEGAL"
    owners: list[int] | None = field(default_factory=list)
    silent: set[str] = field(default_factory=set)
    look: Exception | None = None
    fence_ends: Any = None
    forgets: bool = False  # the jobs of fences: its agent was started again
    asked: list[tuple[str, str]] = field(default_factory=list)
    updates: dict[str, dict[str, Any]] = field(default_factory=dict)

    def state(self, host: str) -> HostState:
        return HostState.NOT_UP if host in self.silent else HostState.UP

    def candidates(self, lease: LeaseRef) -> Sequence[str]:
        assert lease == LeaseRef(SD, str(VOL))
        return [host for host in ("a", "b", "c") if host not in self.silent]

    async def owner(self, lease: LeaseRef, host_id: int) -> str | None:
        return {1: "a", 2: "b", 3: "c"}.get(host_id)

    async def jobs(self, host: str, job_ids: Sequence[str]) -> Mapping[str, Any]:
        await self._reach("Host.getJobs", host)
        found = (
            {} if self.forgets else {id: self.updates[id] for id in job_ids if id in self.updates}
        )
        if JOB in job_ids and self.told is not None:
            found[JOB] = (
                {"id": JOB, "status": self.told} if isinstance(self.told, str) else self.told
            )
        return found

    async def call(
        self, host: str, verb: str, params: Mapping[str, Any] | None = None, *, wait: float = 0.0
    ) -> Any:
        await self._reach(verb, host)
        assert params is not None
        if verb == "Volume.getInfo":
            assert params == {"storagedomainID": str(SD), "imageID": str(IMG), "volumeID": str(VOL)}
            if self.look:
                raise self.look
            owners = {} if self.owners is None else {"owners": self.owners}
            return {"generation": self.generation, "legality": self.legality, "lease": owners}
        assert verb == "SDM.update_volume"
        return self._update(params)

    def _update(self, params: Mapping[str, Any]) -> bool:
        assert params["vol_info"]["generation"] == G
        assert params["vol_attr"] == {"generation": (G + 3) % 1000}
        error = self.fence_ends
        if error is None and self.owners:
            error = AcquireLockFailure("volume", "held")
        if error is None and self.generation != G:
            error = GenerationMismatch(G, self.generation)
        if isinstance(error, Error):
            info = {"status": "failed", "error": to_rpc(error)}
        elif error is None:
            self.generation, info = (G + 3) % 1000, {"status": "done"}
        else:
            info = {"status": error}
        self.updates[params["job_id"]] = {"id": params["job_id"], **info}
        return True

    async def lease_status(self, host: str, lease: LeaseRef) -> Mapping[str, Any]:
        raise AssertionError("there is no external lease")

    async def fence(self, host: str, lease: LeaseRef, expected: Expectation) -> None:
        raise AssertionError("there is no external lease")

    async def _reach(self, verb: str, host: str) -> None:
        self.asked.append((verb, host))
        await trio.lowlevel.checkpoint()
        if host in self.silent:
            raise CannotConnect(host, "no answer")

    def of(self, verb: str) -> list[str]:
        return [host for asked, host in self.asked if asked == verb]


async def judged(hosts: OneVolume, watch: VolumeWatch = WATCH, **bounds: Any) -> Verdict:
    async with trio.open_nursery() as nursery:
        poller = ExternalLeasePoller(hosts, nursery, bounds=Bounds(**bounds))
        return await VolumePoller(poller, hosts).judge(watch)
    raise AssertionError("not reached")


async def test_a_job_that_is_done_and_moved_the_volume_on_is_done(
    autojump_clock: MockClock,
) -> None:
    hosts = OneVolume("done", (G + 1) % 1000, "LEGAL")
    verdict = await judged(hosts)
    assert (verdict.end, verdict.row, verdict.cut_off) == (End.DONE, "2", False)
    assert hosts.of("SDM.update_volume") == []
    assert any("the volume is free: LEGAL, generation 999" in str(one) for one in verdict.story)


async def test_the_word_of_the_host_alone_is_no_success(autojump_clock: MockClock) -> None:
    hosts = OneVolume("done")
    verdict = await judged(hosts)
    assert (verdict.end, verdict.fenced, verdict.disagree) == (End.FAILED, True, True)
    assert hosts.generation == (G + 3) % 1000 == 1


async def test_a_volume_of_a_silent_host_that_was_moved_on_is_done(
    autojump_clock: MockClock,
) -> None:
    hosts = OneVolume(None, (G + 1) % 1000, "LEGAL", silent={"a"})
    verdict = await judged(hosts)
    assert (verdict.end, verdict.row, verdict.cut_off) == (End.DONE, "6", True)


@pytest.mark.parametrize("status", [None, "failed", "aborted"])
async def test_a_job_that_left_the_volume_as_it_was_is_fenced_and_failed(
    autojump_clock: MockClock, status: str | None
) -> None:
    hosts = OneVolume(status)
    verdict = await judged(hosts)
    assert (verdict.end, verdict.fenced) == (End.FAILED, True)
    assert len(hosts.of("SDM.update_volume")) == 1
    assert hosts.generation == 1


async def test_a_held_volume_is_running_until_it_is_free(autojump_clock: MockClock) -> None:
    hosts = OneVolume(None, owners=[1], silent={"a"})

    async def die() -> None:
        await trio.sleep(500)
        assert hosts.of("SDM.update_volume") == []
        hosts.owners = []

    async with trio.open_nursery() as nursery:
        nursery.start_soon(die)
        verdict = await judged(hosts)
    assert (verdict.end, verdict.cut_off) == (End.FAILED, True)
    assert trio.current_time() >= 500


async def test_a_job_that_ends_between_look_and_fence_is_not_fenced(
    autojump_clock: MockClock,
) -> None:
    class Late(OneVolume):
        def _update(self, params: Mapping[str, Any]) -> bool:
            self.generation, self.legality = (G + 1) % 1000, "LEGAL"
            return super()._update(params)

    verdict = await judged(Late(None, silent={"a"}))
    assert (verdict.end, verdict.row) == (End.DONE, "6")


async def test_a_fence_whose_answer_was_lost_counts_when_it_was_done(
    autojump_clock: MockClock,
) -> None:
    class Lost(OneVolume):
        async def call(self, host: str, verb: str, *args: Any, **more: Any) -> Any:
            answer = await super().call(host, verb, *args, **more)
            if verb == "SDM.update_volume":
                raise NoAnswer(host, 0, verb)
            return answer

    hosts = Lost(None)
    verdict = await judged(hosts)
    assert (verdict.end, verdict.row) == (End.FAILED, "7")
    assert len(hosts.of("SDM.update_volume")) == 1


async def test_a_host_that_forgets_the_fence_is_asked_what_became_of_it(
    autojump_clock: MockClock,
) -> None:
    hosts = OneVolume(None, forgets=True)
    verdict = await judged(hosts)
    assert (verdict.end, verdict.row) == (End.FAILED, "7")


async def test_a_fence_is_waited_for(autojump_clock: MockClock) -> None:
    hosts = OneVolume(None, fence_ends="running")

    async def end() -> None:
        await trio.sleep(5)
        [job_id] = hosts.updates
        hosts.generation = 1
        hosts.updates[job_id] = {"id": job_id, "status": "done"}

    async with trio.open_nursery() as nursery:
        nursery.start_soon(end)
        verdict = await judged(hosts)
    assert (verdict.end, verdict.fenced) == (End.FAILED, True)
    assert len(hosts.updates) == 1


async def test_a_held_lease_that_no_fence_can_take_is_running(autojump_clock: MockClock) -> None:
    """The look said free, the fence found it held: a job began just now."""

    class Begun(OneVolume):
        def _update(self, params: Mapping[str, Any]) -> bool:
            self.owners = [1]
            return super()._update(params)

    hosts = Begun(None, silent={"a"})
    with trio.move_on_after(300) as asking:
        await judged(hosts)
    assert asking.cancelled_caught
    assert hosts.generation == G


# --- unresolved ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hosts", "cause"),
    [
        (OneVolume("done", G + 1, "ILLEGAL"), Unresolved.OTHER_RECORD),
        (OneVolume(None, 7), Unresolved.OTHER_RECORD),
        (OneVolume(None, look=host_error(VolumeDoesNotExist("v"))), Unresolved.LEASE_GONE),
        (OneVolume(None, look=host_error(ImageDoesNotExistInSD("i", "s"))), Unresolved.LEASE_GONE),
        (OneVolume(None, look=host_error(InvalidVolumeMetadata("v", "x"))), Unresolved.CORRUPT),
        (OneVolume(None, fence_ends=UnsupportedOperation("x")), Unresolved.FENCE_REFUSED),
        (OneVolume(None, fence_ends="aborted"), Unresolved.FENCE_BOUND),
        (OneVolume(None, fence_ends="nonsense"), Unresolved.FENCE_BOUND),
        (OneVolume("done", owners=None), Unresolved.UNREADABLE),
        (OneVolume(None, silent={"a", "b", "c"}), Unresolved.NOBODY),
    ],
)
async def test_what_cannot_be_decided_is_unresolved_in_the_words_of_a_volume(
    autojump_clock: MockClock, hosts: OneVolume, cause: Unresolved
) -> None:
    verdict = await judged(replace(hosts, asked=[], updates={}))
    assert (verdict.end, verdict.cause) == (End.UNRESOLVED, cause)
    assert verdict.reason == advice(cause).reason
    assert "{" not in verdict.action
    assert verdict.action


@pytest.mark.parametrize("cause", Unresolved)
def test_every_cause_has_its_advice_for_volumes(cause: Unresolved) -> None:
    text = advice(cause)
    assert text.reason
    filled = text.action.format(sd="S", image="I", volume="V")
    assert "lease status" not in filled


def test_a_verdict_that_is_one_is_told_as_it_is() -> None:
    plain = Verdict(End.DONE, "2", "why", False, False, False, None, "", None, ())
    assert told(plain, WATCH) is plain


async def test_volumes_and_leases_of_a_host_are_asked_about_in_one_call(
    autojump_clock: MockClock,
) -> None:
    other = "99999999-3a1b-4a36-8f2e-b0f4c27be1d3"
    asked: list[list[str]] = []

    class Both(OneVolume):
        async def jobs(self, host: str, job_ids: Sequence[str]) -> Mapping[str, Any]:
            asked.append(sorted(job_ids))
            await super().jobs(host, job_ids)
            return {one: {"id": one, "status": "running"} for one in job_ids}

    hosts = Both()
    async with trio.open_nursery() as nursery:
        poller = ExternalLeasePoller(hosts, nursery)
        nursery.start_soon(VolumePoller(poller, hosts).judge, WATCH)
        nursery.start_soon(poller.judge, Watch(other, "a", LeaseRef(SD, other), 0))
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    assert sorted([JOB, other]) in asked
    assert len(asked) < 12  # not one for each job and round


async def test_a_judgement_is_cancelled_at_any_moment_and_made_again(
    autojump_clock: MockClock,
) -> None:
    for moment in range(12):
        hosts = OneVolume(None, fence_ends=None)
        async with trio.open_nursery() as nursery:
            poller = ExternalLeasePoller(hosts, nursery)
            volumes = VolumePoller(poller, hosts)
            with trio.CancelScope() as scope:

                async def cut(moment: int = moment, scope: trio.CancelScope = scope) -> None:
                    for _ in range(moment):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()

                nursery.start_soon(cut)
                await volumes.judge(WATCH)
            verdict = await volumes.judge(WATCH)
            assert verdict.end is End.FAILED
            assert hosts.generation == 1
