"""Whoever prepares a local disk is killed while a command of LVM runs for it: on real LVM.

The command goes on alone, and does what it was told, when it can: at once, or after the next start
has found everything undone and done it anew.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from host.local_disks import gc
from protocol.address import UnixAddress
from protocol.client import connected
from protocol.errors import ConnectionLost
from storage.local_disk_tags import parsed
from tests.guest.inside.conftest import lvm
from tests.local_disk_host import MIB, VM, VOL, DiskHost, Start, drop, same

SIZE = 8 * MIB
LOOK = 0.05
TIME = 120.0  # seconds
# Which command waits, and what it is for.
CREATE = "lvcreate *"
READY = "lvchange --deltag UPDATING *"
ACTIVATE = "lvchange --activate y *"
TAGS = "lvchange --addtag *"
REMOVE = "lvremove *"
COMMANDS = pytest.mark.parametrize(
    "command",
    [CREATE, READY, TAGS, ACTIVATE, REMOVE],
    ids=["create", "ready", "tags", "activate", "remove"],
)
SCRIPT = """#!/bin/bash
# One command waits until it may go on.
folder=${0%/*}
if [[ "$*" == $(<"$folder/slow") && ! -e $folder/began ]]; then
    echo $$ >"$folder/pid"
    mv "$folder/pid" "$folder/began"
    until [[ -e $folder/go ]]; do sleep 0.05; done
fi
exec LVM "$@"
"""


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIME
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(LOOK)


@dataclass(frozen=True)
class SlowLvm:
    """An `lvm` in a folder of its own, which waits at one command."""

    folder: Path

    @classmethod
    def made(cls, folder: Path) -> "SlowLvm":
        folder.mkdir()
        program = folder / "lvm"
        program.write_text(SCRIPT.replace("LVM", str(shutil.which("lvm"))))
        program.chmod(0o755)
        return cls(folder)

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": f"{self.folder}:{os.environ['PATH']}"}

    @property
    def pid(self) -> int:
        return int((self.folder / "began").read_text())

    @property
    def runs(self) -> bool:
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2][0]
        except (FileNotFoundError, ProcessLookupError):
            return False
        return state != "Z"

    def slow(self, command: str) -> None:
        (self.folder / "slow").write_text(command)

    def wait(self, over: Callable[[], bool]) -> None:
        """Until the command has begun. over: has its caller ended?"""
        began = self.folder / "began"
        until(lambda: began.exists() or over(), "the command of LVM was not run")
        assert began.exists(), "its caller has ended without it"

    def finish(self) -> None:
        """Let the command go on, to its end."""
        (self.folder / "go").touch()
        until(lambda: not self.runs, "LVM does not end")


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path("/var/tmp/local-lvm")
    made.mkdir()
    yield made
    shutil.rmtree(made)


@pytest.fixture
def slow(folder: Path) -> SlowLvm:
    return SlowLvm.made(folder / "bin")


@pytest.fixture
def host(folder: Path, empty_group: str) -> DiskHost:
    content = os.urandom(2 * MIB) + bytes(SIZE - 2 * MIB)
    return DiskHost(folder, {"volume_group": empty_group, "keep": 0}).set_up(content)


def killed_in(host: DiskHost, slow: SlowLvm, command: str, **other: Any) -> Start:
    """A start that was killed while that command ran for it; the command runs on."""
    slow.slow(command)
    start = host.began(environment=slow.environment, **other)
    slow.wait(lambda: not start.process.is_alive())
    start.kill()
    return start


def arranged(host: DiskHost, command: str, **other: Any) -> None:
    """What is there before, so that a start comes to that command."""
    if command == REMOVE:
        host.dies("prepare:lease", **other)
    elif command in (TAGS, ACTIVATE):
        host.started(**other)


def check(host: DiskHost, made: dict[str, object]) -> None:
    """The disk is whole, its tags say so, nothing is left, and no device hangs."""
    path = Path(str(made["path"]))
    drop(path)
    assert same(path, host.source, SIZE)
    words = tags(host)
    assert f"JOB_{made['job_id']}" in words
    assert "UPDATING" not in words
    told = parsed(words)
    assert told.vm_id == VM
    assert told.prepared is not None
    assert not [word for word in told.foreign if not word.startswith("AT_")], words
    assert trio.run(left, host) == ([], [])
    assert lvm("lvs", "-a", "--binary", "--noheadings", "-S", "lv_suspended=1", group(host)) == ""


async def left(host: DiskHost) -> tuple[list[str], list[object]]:
    """Leases of this host's own, and what gc would remove."""
    here = await host.here()
    return await here.leases.all_own(), list(await gc(here, dry_run=True))


def group(host: DiskHost) -> str:
    return str(host.localdisk["volume_group"])


def tags(host: DiskHost) -> list[str]:
    words = lvm("lvs", "--noheadings", "-o", "lv_tags", "-S", f"lv_name={VOL}", group(host))
    return words.split(",")


@pytest.mark.parametrize("backend", ["lvm", "lvmthin"])
@COMMANDS
@pytest.mark.sample(1)
def test_a_command_that_outlives_its_caller_is_done_before_the_next_start(
    host: DiskHost, slow: SlowLvm, command: str, backend: str
) -> None:
    arranged(host, command, backend=backend)
    killed_in(host, slow, command, backend=backend, start=True)
    assert slow.runs, "it was ended with its caller"
    slow.finish()
    made = host.started(backend=backend)
    check(host, made)
    assert made["reused"] is (command in (READY, TAGS, ACTIVATE))


@COMMANDS
@pytest.mark.sample(1)
def test_a_command_that_comes_too_late_changes_nothing_that_was_made_since(
    host: DiskHost, slow: SlowLvm, command: str
) -> None:
    arranged(host, command)
    killed_in(host, slow, command, start=True)
    made = host.started()
    slow.finish()
    assert set(tags(host)) >= {f"JOB_{made['job_id']}"}
    again = host.started()
    check(host, again)
    assert (again["reused"], again["job_id"]) == (True, made["job_id"])


@pytest.mark.full
def test_a_command_that_warns_nobody_is_done_all_the_same(host: DiskHost, slow: SlowLvm) -> None:
    """What it prints goes to a pipe that nobody reads any more."""
    os.truncate(host.source, 9 << 30)  # more than there is in the pool, and nothing in it
    killed_in(host, slow, CREATE)
    slow.finish()
    assert "UPDATING" in tags(host)
    check(host, host.started())


def test_a_look_ends_with_its_caller(host: DiskHost, slow: SlowLvm) -> None:
    killed_in(host, slow, "lvs *")
    until(lambda: not slow.runs, "it was not ended with its caller")
    check(host, host.started())


@contextmanager
def serving(
    host: DiskHost, environment: Mapping[str, str] = {}
) -> Iterator["subprocess.Popen[bytes]"]:
    """The agent of the host, which answers; killed at the end. environment: what it has besides."""
    argv = [f"{sys.prefix}/bin/leasehold", "host", "serve", "--config", str(host.file)]
    with (
        (host.folder / "agent.log").open("ab") as log,
        subprocess.Popen(
            argv, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stderr=log
        ) as process,
    ):
        try:
            until(lambda: process.poll() is not None or _answers(host), "the agent is not ready")
            assert process.poll() is None, (host.folder / "agent.log").read_text()
            yield process
        finally:
            process.kill()


def _answers(host: DiskHost) -> bool:
    with socket.socket(socket.AF_UNIX) as one:
        return one.connect_ex(host.config.listen.socket) == 0


async def asked(host: DiskHost) -> dict[str, object]:
    """The answer of the agent to a start."""
    async with connected(UnixAddress(host.config.listen.socket)) as client:
        made = await client.call("LocalDisk.prepare", host.wanted(), timeout=TIME)
    assert isinstance(made, dict)
    return made


async def lost(host: DiskHost) -> None:
    with pytest.raises(ConnectionLost):
        await asked(host)


async def ready(host: DiskHost) -> dict[str, object]:
    with trio.fail_after(TIME):
        while True:
            made = await asked(host)
            if made["state"] == "ready":
                return made
            await trio.sleep(LOOK)


@pytest.mark.full
@pytest.mark.parametrize("command", [CREATE, REMOVE], ids=["create", "remove"])
async def test_an_agent_that_is_killed_while_lvm_runs_for_it_goes_on_when_it_is_back(
    host: DiskHost, slow: SlowLvm, command: str
) -> None:
    await trio.to_thread.run_sync(arranged, host, command)
    slow.slow(command)
    with serving(host, slow.environment) as agent:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lost, host)
            await trio.to_thread.run_sync(slow.wait, lambda: agent.poll() is not None)
            agent.kill()
    assert slow.runs, "it was ended with its caller"
    with serving(host):
        if command == CREATE:  # before the agent looks, or after it has made another one
            slow.finish()
        made = await ready(host)
        slow.finish()
        assert await ready(host) == {**made, "reused": True}
    await trio.to_thread.run_sync(check, host, made)
