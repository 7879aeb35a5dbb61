"""A domain that two hosts share, used by the real command on either: what a user sees and does."""

import os
import signal
import textwrap
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from storage import domain as domains
from storage.domain import Domain
from tests.cli.run import Ended
from tests.faults.command import Command, Running, bytes_in, command, until
from tests.sanlock_hosts import IO_TIMEOUT, Host, running
from tests.servers import MIB, WAIT, Pausable, pattern, raw_image

LEASES = 8
SIZE = 8 * MIB
LIMIT = 2 * MIB  # bytes/s: nobody is to wait for the end
POLL = 0.2  # seconds
# For a command that is not to be waited for so long.
IMPATIENT = """
import cli.tracking, endpoints.tracked, leases.hold, leases.joining
cli.tracking.STATUS_TIME = endpoints.tracked.FAIL_TIME = leases.hold.RELEASE_TIMEOUT = 1.0
leases.joining.join.__kwdefaults__["wait"] = 2.0
"""


@dataclass(frozen=True)
class Shared:
    """Host A has host id 1, host B has 2. source, target: of the copies, raw files."""

    leasehold: Command
    domain: Domain
    a: Host
    b: Host
    source: Path
    target: Path

    async def on(self, host: Host, *arguments: object, **options: Any) -> Ended:
        """Run a command on a host to its end."""
        return await self.leasehold(*arguments, environment=host.environment, **options)

    def copying(
        self,
        host: Host,
        job_id: str,
        *options: object,
        target: object = None,
        before: str | None = None,
    ) -> AbstractContextManager[Running]:
        """Start a copy on a host. before: Python to break something in it."""
        order = ("copy", self.source, target or self.target, "--domain", self.domain.id)
        return self.leasehold.started(
            *order,
            *("--store", "sanlock", "--job-id", job_id, "--keep-lease", *options),
            environment=host.environment,
            before=before,
        )

    async def copied(self, host: Host, job_id: str, *options: object, **more: Any) -> Ended:
        """A copy on a host, to its end."""
        with self.copying(host, job_id, *options, **more) as running:
            return await running.wait()

    async def in_the_middle(self, running: Running) -> None:
        """Wait until the copy has written something."""
        began = bytes_in(self.target)
        await until(lambda: running.over or bytes_in(self.target) > began)
        assert not running.over, await running.wait()

    async def status(self, host: Host, job_id: str) -> Any:
        """Lease.status, as the host sees it."""
        told = await self.on(host, "lease", "status", self.domain.id, job_id, "--json")
        assert told.code == 0, told
        return told.json

    async def said(self, host: Host, job_id: str) -> tuple[list[int], str | None]:
        """The owners of the lease of a job, and the job's status while there is none."""
        status = await self.status(host, job_id)
        return status["owners"], status.get("metadata", {}).get("job_status")

    async def until_free(self, host: Host, job_id: str, seconds: float = WAIT) -> str | None:
        """Ask a host until nobody owns the lease of a job; the job's status."""
        with trio.fail_after(seconds):
            while True:
                owners, status = await self.said(host, job_id)
                if not owners:
                    return status
                await trio.sleep(POLL)

    async def there(self, host: Host, job_id: str) -> bool:
        """Is there a lease of a job?"""
        told = await self.on(host, "lease", "list", self.domain.id, "--json")
        assert told.code == 0, told
        return job_id in told.out

    async def fence(self, host: Host, job_id: str) -> Ended:
        expected = ("--job-id", job_id, "--generation", 0)
        return await self.on(
            host,
            "lease",
            "fence",
            self.domain.id,
            job_id,
            *expected,
            "--store",
            "sanlock",
            "--json",
        )

    async def join(self, host: Host, **options: Any) -> Ended:
        host_id = ("--host-id", host.host_id, "--no-watchdog")
        return await self.on(host, "host", "join", self.domain.id, *host_id, "--json", **options)

    async def joined(self, host: Host) -> bool:
        """Is the domain a lockspace of the daemon? It may be one that has failed."""
        environment = {**os.environ, **host.environment}
        done = await trio.run_process(
            ["sanlock", "client", "gets"], env=environment, capture_stdout=True
        )
        return self.domain.id in done.stdout.decode()

    async def until_out(self, host: Host) -> None:
        """Wait until the daemon has given the domain up."""
        with trio.fail_after(2 * WAIT):
            while await self.joined(host):  # noqa: ASYNC110 - the daemon has no event
                await trio.sleep(POLL)

    async def revived(self, host: Host) -> None:
        """Start the daemon of a host again, and let it join."""
        await trio.to_thread.run_sync(host.start)
        told = await self.join(host)
        assert told.code == 0, told

    def equal(self) -> bool:
        return self.target.read_bytes() == self.source.read_bytes()


@contextmanager
def shared(folder: Path, *, mount: Path | None = None, hosts: int = 2) -> Iterator[Shared]:
    """A new domain in `mount` (or in `folder`), joined by both hosts, or by host A alone."""
    with ExitStack() as stack:
        leasehold = stack.enter_context(command(folder))
        domain = trio.run(_created, leasehold, mount or folder / "mount")
        a = stack.enter_context(running("a", folder, 1))
        b = stack.enter_context(running("b", folder, 2)) if hosts > 1 else a
        members = [a, b][:hosts]
        for joining in [host.joining(domain.id, Path(domain.ids)) for host in members]:
            assert joining.wait(WAIT) == 0
        source = raw_image(folder / "source.raw", SIZE, data=pattern(SIZE))
        target = raw_image(folder / "target.raw", SIZE)
        yield Shared(leasehold, domain, a, b, source, target)


async def _created(leasehold: Command, mount: Path) -> Domain:
    options = ("--store", "sanlock", "--io-timeout", IO_TIMEOUT, "--leases", LEASES)
    told = await leasehold("domain", "create", mount, *options, "--json")
    assert told.code == 0, told
    [domain] = domains.find(str(mount))
    return domain


@contextmanager
def held_back(server: Pausable) -> Iterator[None]:
    """Let a server answer nothing. At the end it does, or processes would wait for it for ever."""
    server.pause()
    try:
        yield
    finally:
        server.resume()


def kill_daemon(host: Host) -> str:
    """Python with which a command kills the daemon of its host, and waits for its end."""
    pid = _pid(host)
    return f"""
import os, select
daemon = os.pidfd_open({pid})
os.killpg({pid}, {int(signal.SIGKILL)})
select.select([daemon], [], [])
"""


def stop_daemon(host: Host) -> str:
    """Python with which a command stops the daemon of its host, and waits until it stands."""
    pid = _pid(host)
    return f"""
import os, pathlib
os.killpg({pid}, {int(signal.SIGSTOP)})
threads = pathlib.Path("/proc/{pid}/task").glob("*/stat")
while any(one.read_text().rpartition(")")[2].split()[0] != "T" for one in threads):
    threads = pathlib.Path("/proc/{pid}/task").glob("*/stat")
"""


def before(function: str, do: str) -> str:
    """Python that does something just before a function MODULE:NAME is called."""
    module, _, name = function.partition(":")
    owner, _, attribute = f"module.{name}".rpartition(".")
    return f"""
import importlib
module = importlib.import_module({module!r})
real = {owner}.{attribute}
def instead(*args, **options):
{textwrap.indent(do, "    ")}
    return real(*args, **options)
{owner}.{attribute} = instead
"""


def _pid(host: Host) -> int:
    assert host.popen
    return host.popen.pid
