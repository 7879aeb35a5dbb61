"""Managed volumes when something goes wrong in the middle: nothing leaks, the next attempt works.

What is counted: sessions of the target, processes, rows, links, files with secrets. The servers and
the helper programs are real.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from host.helpers import initiator
from protocol.client import HostError, connected
from protocol.errors import Error, ManagedVolumeHelperFailed
from storage.managed_table import FILE
from tests.agent_service import Service, agent_folder, service
from tests.faults.command import Command, command, new_job_id, until
from tests.managed import SD, Scripted, connection, left_in, loop_device, new_id, scripted
from tests.managed_host import Host
from tests.servers import (
    MIB,
    garbage,
    nbdkit,
    pattern,
    qemu_nbd,
    raw_image,
    silent,
)
from tests.tgt import Tgt, tgt

SIZE = 4 * MIB
USER, PASSWORD = "joe", "a secret that nobody sees"
A, B = (f"00000000-0000-4000-8000-00000000000{one}" for one in "ab")
ISCSI = pytest.mark.tools("tgtd", "tgtadm", "qemu-img", "qemu-nbd", "nbdcopy")
NBD = pytest.mark.tools("qemu-img", "qemu-nbd", "nbdcopy", "nbdinfo")


@pytest.fixture
async def host(tmp_path: Path) -> Host:
    return await Host.made(tmp_path / "host")


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Tgt]:
    """A unit that host A is let in to, with CHAP."""
    with tgt(tmp_path, SIZE) as made:
        made.let_in(initiator.name_of(A))
        made.ask_for(USER, PASSWORD)
        yield made


# --- helpers that die -------------------------------------------------------------------------

STEPS = {
    "file": ["begun", "done"],
    "iscsi": ["begun", "access", "done"],
    "rbd": ["begun", "access", "done"],
}
RBD = {"driver_volume_type": "rbd", "data": {"name": "p/i", "hosts": ["h"], "keyring": "K" * 20}}


@contextmanager
def connections(folder: Path, driver: str) -> Iterator[dict[str, Any]]:
    """A volume of a driver that can be attached; rbd only as far as its helper goes."""
    if driver == "rbd":
        yield RBD
    elif driver == "iscsi":
        with tgt(folder, SIZE) as made:
            made.let_in(initiator.name_of(A))
            made.ask_for(USER, PASSWORD)
            yield made.connection(USER, PASSWORD)
            assert made.sessions == 0
    else:
        with qemu_nbd(raw_image(folder / "disk", SIZE), folder) as server:
            yield {"driver_volume_type": "file", "data": {"url": server.url}}


@NBD
@ISCSI
@pytest.mark.parametrize(
    ("driver", "step"), [(driver, step) for driver, steps in STEPS.items() for step in steps]
)
async def test_a_helper_that_dies_in_an_attach_leaves_nothing(
    tmp_path: Path, driver: str, step: str
) -> None:
    host = await Host.made(tmp_path / "host", A)
    vol_id = new_id()
    with connections(tmp_path, driver) as told:
        host.told("LEASEHOLD_DIE_AT", f"helper-attach:{step}")
        with pytest.raises(ManagedVolumeHelperFailed, match="killed by signal 9"):
            await host.attach(vol_id, told)
        host.nothing_is_left()
        host.told("LEASEHOLD_DIE_AT", None)
        if driver != "rbd":
            await host.attach(vol_id, told)
            await host.volumes.detach(vol_id)
            host.nothing_is_left()


@NBD
@ISCSI
@pytest.mark.parametrize("step", ["begun", "done"])
@pytest.mark.parametrize("driver", ["file", "iscsi"])
async def test_a_helper_that_dies_in_a_detach_can_be_asked_again(
    tmp_path: Path, driver: str, step: str
) -> None:
    host = await Host.made(tmp_path / "host", A)
    vol_id = new_id()
    with connections(tmp_path, driver) as told:
        await host.attach(vol_id, told)
        host.told("LEASEHOLD_DIE_AT", f"helper-detach:{step}")
        for _ in range(2):
            with pytest.raises(ManagedVolumeHelperFailed, match="killed by signal 9"):
                await host.volumes.detach(vol_id)
            assert await host.known() == {vol_id: True}
        host.told("LEASEHOLD_DIE_AT", None)
        await host.volumes.detach(vol_id)
        host.nothing_is_left()
        await host.attach(vol_id, told)
        await host.volumes.detach(vol_id)
    host.nothing_is_left()


async def test_a_helper_that_dies_while_it_undoes_leaves_a_row_to_be_detached(
    tmp_path: Path, host: Host
) -> None:
    vol_id = new_id()
    host.helper.script("attach", "os.kill(os.getpid(), signal.SIGKILL)")
    host.helper.script("detach", "os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(ManagedVolumeHelperFailed, match="detach the volume"):
        await host.attach(vol_id)
    assert await host.known() == {vol_id: False}
    host.helper.script("detach", "")
    await host.volumes.detach(vol_id)
    host.nothing_is_left()


# --- servers ----------------------------------------------------------------------------------


@ISCSI
@pytest.mark.parametrize(
    "wrong", ["password", "user", "no password", "initiator", "unit", "target"]
)
async def test_wrong_credentials_are_told_and_leave_nothing(
    tmp_path: Path, target: Tgt, wrong: str
) -> None:
    told = target.connection(USER, PASSWORD)
    wrongs: dict[str, dict[str, Any]] = {
        "password": {"auth_password": "guessed by somebody"},
        "user": {"auth_username": "jim"},
        "no password": {"auth_method": None},
        "unit": {"target_lun": 7},
        "target": {"target_iqn": "iqn.2026-01.org.example:another"},
        "initiator": {},
    }
    bad = {**told, "data": {**told["data"], **wrongs[wrong]}}
    host = await Host.made(tmp_path / "host", B if wrong == "initiator" else A)
    vol_id = new_id()
    with pytest.raises(ManagedVolumeHelperFailed) as caught:
        await host.attach(vol_id, bad)
    assert "cannot be opened" in caught.value.reason
    for secret in (PASSWORD, "guessed by somebody"):
        assert secret not in str(caught.value.to_rpc())
    host.nothing_is_left()
    await until(lambda: target.sessions == 0)
    if wrong == "initiator":
        target.let_in(initiator.name_of(B))
    await host.attach(vol_id, told)
    await host.volumes.detach(vol_id)
    host.nothing_is_left()
    await until(lambda: target.sessions == 0)


@NBD
async def test_a_server_that_is_gone_is_told_and_the_volume_is_detached(
    tmp_path: Path, host: Host
) -> None:
    vol_id, disk = new_id(), raw_image(tmp_path / "disk", SIZE)
    with qemu_nbd(disk, tmp_path) as server:
        told = {"driver_volume_type": "file", "data": {"url": server.url}}
        await host.attach(vol_id, told)
        server.kill()
        assert await host.known() == {vol_id: False}
        await host.volumes.detach(vol_id)
        host.nothing_is_left()
        with pytest.raises(ManagedVolumeHelperFailed, match="cannot connect"):
            await host.attach(vol_id, told)
        host.nothing_is_left()


@ISCSI
async def test_a_target_that_is_gone_is_told_and_the_volume_is_detached(
    tmp_path: Path, target: Tgt
) -> None:
    host, vol_id = await Host.made(tmp_path / "host", A), new_id()
    told = target.connection(USER, PASSWORD)
    await host.attach(vol_id, told)
    target.kill()
    assert await host.known() == {vol_id: False}
    await host.volumes.detach(vol_id)
    host.nothing_is_left()
    with pytest.raises(ManagedVolumeHelperFailed, match="does not answer"):
        await host.attach(vol_id, told)
    host.nothing_is_left()


@NBD
@pytest.mark.parametrize("kind", [silent, garbage])
async def test_a_server_that_makes_no_sense_leaves_nothing(
    tmp_path: Path, host: Host, kind: Callable[[Path], Any]
) -> None:
    host.impatient(2.0)
    vol_id = new_id()
    with kind(tmp_path) as made:
        path = made if isinstance(made, Path) else made.socket
        told = {"driver_volume_type": "file", "data": {"url": f"nbd+unix:///vol?socket={path}"}}
        with pytest.raises(ManagedVolumeHelperFailed):
            await host.attach(vol_id, told)
    host.nothing_is_left()


# --- two hosts --------------------------------------------------------------------------------


@ISCSI
async def test_two_hosts_attach_one_volume_and_do_not_hurt_each_other(
    tmp_path: Path, target: Tgt
) -> None:
    one, other = [await Host.made(tmp_path / name, id) for name, id in (("a", A), ("b", B))]
    vol_id, told = new_id(), target.connection(USER, PASSWORD)
    made = await one.attach(vol_id, told)
    with pytest.raises(ManagedVolumeHelperFailed, match="Failed to log in"):
        await other.attach(vol_id, told)
    other.nothing_is_left()
    target.let_in(initiator.name_of(B))
    second = await other.attach(vol_id, told)
    assert made.path != second.path  # each comes as itself, with a secret of its own
    await one.volumes.detach(vol_id)
    one.nothing_is_left()
    assert await other.known() == {vol_id: True}
    target.keep_out(initiator.name_of(A))
    with pytest.raises(ManagedVolumeHelperFailed, match="Failed to log in"):
        await one.attach(vol_id, told)
    one.nothing_is_left()
    assert await other.known() == {vol_id: True}
    await other.volumes.detach(vol_id)
    other.nothing_is_left()


# --- the agent --------------------------------------------------------------------------------


@pytest.fixture
def leasehold(tmp_path: Path) -> Iterator[Command]:
    with command(tmp_path) as made:
        yield made


@pytest.fixture
def folder() -> Iterator[Path]:
    with agent_folder() as made:
        yield made


@pytest.fixture
def vendor(tmp_path: Path) -> Scripted:
    return scripted(tmp_path / "vendor")


class Site:
    """A host as clients see it: its agent is started and killed as the test wants."""

    def __init__(self, leasehold: Command, folder: Path, vendor: Scripted, id: str = A) -> None:
        self.leasehold, self.folder, self.vendor, self.id = leasehold, folder, vendor, id

    @property
    def run(self) -> Path:
        return self.leasehold.folder / "run"

    @property
    def state(self) -> Path:
        return self.leasehold.folder / "state"

    @contextmanager
    def agent(self, *, die_at: str | None = None) -> Iterator[Service]:
        settings = [
            f"managed.helpers={self.vendor.helpers}",
            f"managed.run={self.run}",
            f"folders.state={self.state}",
            f"identity.hardware_id={self.id}",
            "endpoints.schemes=path",
            "log.level=debug",
        ]
        environment = {} if die_at is None else {"LEASEHOLD_DIE_AT": die_at}
        with service(self.leasehold, self.folder, *settings, environment=environment) as made:
            yield made

    @property
    def rows(self) -> list[str]:
        with sqlite3.connect(self.state / FILE) as database:
            return [row[0] for row in database.execute("SELECT vol_id FROM volumes")]

    async def nothing_is_left(self) -> None:
        assert (self.rows, left_in(self.run)) == ([], [])
        await self.leasehold.alone()


@pytest.fixture
def site(leasehold: Command, folder: Path, vendor: Scripted) -> Site:
    return Site(leasehold, folder, vendor)


async def call(agent: Service, method: str, **params: Any) -> Any:
    async with connected(agent.address) as client:
        return await client.call(f"ManagedVolume.{method}", params, timeout=60)


async def attach(agent: Service, vol_id: str, told: dict[str, Any] | None = None) -> Any:
    told = connection() if told is None else told
    return await call(agent, "attach_volume", vol_id=vol_id, sd_id=SD, connection_info=told)


async def killed(agent: Service, method: str, **params: Any) -> None:
    """The agent dies at a step of the call."""
    with pytest.raises((Error, HostError)):
        await call(agent, method, **params)
    await until(lambda: agent.running.over)


@pytest.mark.sample(2)
@pytest.mark.parametrize("step", ["row", "access", "helper", "appeared", "link", "stored"])
async def test_an_agent_that_dies_in_an_attach_leaves_what_can_be_attached_or_detached(
    site: Site, tmp_path: Path, step: str
) -> None:
    one, other = new_id(), new_id()
    with loop_device(tmp_path) as device:
        site.vendor.attaches(device)
        for vol_id in (one, other):
            with site.agent(die_at=f"attach:{step}") as agent:
                told = {"vol_id": vol_id, "sd_id": SD, "connection_info": connection()}
                await killed(agent, "attach_volume", **told)
        with site.agent() as agent:
            known = {info["vol_id"]: info for info in await call(agent, "volumes_info")}
            assert known.keys() == {one, other}
            assert {info["exists"] for info in known.values()} == {step == "stored"}
            if step == "stored":
                with pytest.raises(HostError) as caught:
                    await attach(agent, one)
                assert caught.value.number == 927
            else:
                assert (await attach(agent, one))["path"] == str(device)
            assert os.readlink(site.run / f"{SD}_{one}") == str(device)
            for vol_id in (other, one):
                assert await call(agent, "detach_volume", vol_id=vol_id) is True
            assert await call(agent, "volumes_info") == []
            assert agent.stop() == 0
    await site.nothing_is_left()


@pytest.mark.parametrize("step", ["helper", "link", "row"])
async def test_an_agent_that_dies_in_a_detach_leaves_what_can_be_detached_again(
    site: Site, tmp_path: Path, step: str
) -> None:
    vol_id = new_id()
    with loop_device(tmp_path) as device:
        site.vendor.attaches(device)
        with site.agent(die_at=f"detach:{step}") as agent:
            await attach(agent, vol_id)
            await killed(agent, "detach_volume", vol_id=vol_id)
        assert site.rows == ([] if step == "row" else [vol_id])
        with site.agent() as agent:
            assert await call(agent, "detach_volume", vol_id=vol_id) is True
            assert await call(agent, "volumes_info") == []
            assert (await attach(agent, vol_id))["path"] == str(device)
            assert await call(agent, "detach_volume", vol_id=vol_id) is True
            assert agent.stop() == 0
    await site.nothing_is_left()


async def test_a_helper_does_not_outlive_an_agent_that_is_killed(site: Site) -> None:
    site.vendor.script("attach", "signal.pause()")
    vol_id = new_id()
    with site.agent() as agent:
        async with trio.open_nursery() as nursery:

            async def asked() -> None:
                with pytest.raises((Error, HostError)):
                    await attach(agent, vol_id)

            nursery.start_soon(asked)
            await until(lambda: site.vendor.commands)
            agent.kill()
    await site.leasehold.alone()
    site.vendor.script("attach", "sys.exit('no')")
    with site.agent() as agent:
        with pytest.raises(HostError) as caught:
            await attach(agent, vol_id)
        assert caught.value.number == 926
        assert agent.stop() == 0
    await site.nothing_is_left()


async def test_an_agent_that_is_stopped_undoes_what_it_had_begun(site: Site) -> None:
    """The second signal does not wait for calls."""
    site.vendor.script("attach", "signal.pause()")
    with site.agent() as agent:
        async with trio.open_nursery() as nursery:

            async def asked() -> None:
                with pytest.raises((Error, HostError)):
                    await attach(agent, new_id())

            nursery.start_soon(asked)
            await until(lambda: site.vendor.commands)
            with trio.fail_after(60):
                while not agent.running.over:  # signals that come together are one
                    agent.running.process.terminate()
                    await trio.sleep(0.1)
    assert site.vendor.commands == ["attach", "detach"]
    await site.nothing_is_left()


@NBD
async def test_a_reboot_forgets_what_was_attached(site: Site, tmp_path: Path) -> None:
    vol_id = new_id()
    with loop_device(tmp_path) as device:
        site.vendor.attaches(device)
        with site.agent() as agent:
            made = await attach(agent, vol_id)
            assert agent.stop() == 0
        with sqlite3.connect(site.state / FILE) as database:
            database.execute("UPDATE volumes SET boot_id = 'of another boot'")
        with site.agent() as agent:
            assert await call(agent, "volumes_info") == []
            assert left_in(site.run) == []
            assert await call(agent, "detach_volume", vol_id=vol_id) is True
            assert (await attach(agent, vol_id))["path"] == made["path"]
            assert await call(agent, "detach_volume", vol_id=vol_id) is True
            assert agent.stop() == 0
    await site.nothing_is_left()


# --- copies -----------------------------------------------------------------------------------


@NBD
@pytest.mark.tools("nbdkit")
async def test_a_copy_of_another_program_keeps_a_volume_from_being_detached(
    site: Site, leasehold: Command, tmp_path: Path
) -> None:
    source = raw_image(tmp_path / "source", SIZE, data=pattern(SIZE))
    disk, vol_id = raw_image(tmp_path / "disk", SIZE), new_id()
    slow = {"filters": ["delay"], "settings": ["wdelay=500ms"]}
    with nbdkit(tmp_path, ["file", str(disk)], **slow) as server, site.agent() as agent:  # type: ignore[arg-type]
        await attach(agent, vol_id, {"driver_volume_type": "file", "data": {"url": server.url}})
        with leasehold.started("copy", source, server.url, "--job-id", new_job_id()) as running:
            await until(lambda: leasehold.tools("nbdcopy"))
            with pytest.raises(HostError) as caught:
                await call(agent, "detach_volume", vol_id=vol_id)
            assert caught.value.kind == "ManagedVolumeInUse"
            assert len(await call(agent, "volumes_info")) == 1
            running.signal(2)
            await running.wait()
        assert await call(agent, "detach_volume", vol_id=vol_id) is True
        assert agent.stop() == 0
    await site.nothing_is_left()


class Watch:
    """Looks at the arguments and the environment of every process, in the body."""

    def __init__(self, *secrets: str) -> None:
        self._secrets = [secret.encode() for secret in secrets]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.found: set[str] = set()
        self.seen: set[str] = set()

    def _look(self) -> None:
        while not self._over.is_set():
            for pid in filter(str.isdecimal, os.listdir("/proc")):
                for name in ("cmdline", "environ"):
                    try:
                        content = Path(f"/proc/{pid}/{name}").read_bytes()
                    except OSError:
                        continue
                    shown = content.replace(b"\0", b" ").decode(errors="replace")
                    self.seen.add(os.path.basename(shown.split(" ")[0]))
                    if any(secret in content for secret in self._secrets):
                        self.found.add(f"{name}: {shown[:300]}")

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()


@ISCSI
async def test_a_secret_stands_in_no_command_no_environment_no_log_and_no_job(
    site: Site, leasehold: Command, target: Tgt, tmp_path: Path
) -> None:
    await leasehold.prepared()
    domain = leasehold.domain_folder()
    assert domain is not None
    source = raw_image(tmp_path / "source", SIZE, data=pattern(SIZE))
    job_id, vol_id = new_job_id(), new_id()
    told = target.connection(USER, PASSWORD)
    with Watch(PASSWORD) as watch, site.agent() as agent:
        wrong = {**told, "data": {**told["data"], "auth_username": "jim"}}
        with pytest.raises(HostError) as caught:
            await attach(agent, new_id(), wrong)
        assert PASSWORD not in str(caught.value)
        made = await attach(agent, vol_id, told)
        async with connected(agent.address) as client:
            folder = {"storagedomainID": domain.id, "path": os.path.dirname(domain.path)}
            await client.call("StorageDomain.activate", folder)
            lease = {"sd_id": domain.id, "lease_id": job_id}
            pending = {"type": "JOB", "job_id": job_id, "job_status": "PENDING", "generation": 0}
            await client.call("Lease.create", {"lease": lease, "metadata": pending})
            ends = {
                "source": {"url": str(source)},
                "destination": {"url": made["path"], "lease": lease, "generation": 0},
            }
            for end in ends.values():
                end |= {"endpoint_type": "external", "format": "raw"}
            await client.call("SDM.copy_data", {"job_id": job_id, **ends})
            with trio.fail_after(60):
                while True:
                    info = await client.call("Job.info", {"job_id": job_id})
                    if info["status"] not in ("pending", "running"):
                        break
                    await trio.sleep(0.05)
            assert info["status"] == "done", info
            assert PASSWORD not in str(info)
        assert PASSWORD not in str(await call(agent, "volumes_info"))
        for path in (site.state / "jobs").rglob("*"):
            if path.is_file():
                assert PASSWORD.encode() not in path.read_bytes(), path
        await call(agent, "detach_volume", vol_id=vol_id)
        assert agent.stop() == 0
        assert PASSWORD not in agent.log
        assert '"attached"' in agent.log or " attached " in agent.log
    assert watch.found == set()
    assert {"qemu-nbd", "qemu-img", "nbdcopy"} & watch.seen
    assert target.disk.read_bytes() == pattern(SIZE)
    await site.nothing_is_left()
    await until(lambda: target.sessions == 0)


@ISCSI
async def test_a_target_that_goes_away_fails_the_copy_and_not_the_detach(
    site: Site, target: Tgt
) -> None:
    vol_id = new_id()
    with site.agent() as agent:
        await attach(agent, vol_id, target.connection(USER, PASSWORD))
        target.kill()
        [info] = await call(agent, "volumes_info")
        assert info["exists"] is False
        assert await call(agent, "detach_volume", vol_id=vol_id) is True
        with pytest.raises(HostError) as caught:
            await attach(agent, vol_id, target.connection(USER, PASSWORD))
        assert caught.value.number == 926
        assert agent.stop() == 0
    await site.nothing_is_left()


async def test_a_damaged_table_is_told_at_the_start(site: Site) -> None:
    site.state.mkdir()
    (site.state / FILE).write_bytes(b"no database" * 100)
    with pytest.raises(AssertionError, match="is damaged"), site.agent():
        pass
