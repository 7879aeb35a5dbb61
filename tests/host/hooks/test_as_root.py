"""The program by which hooks of a user without rights have root do something."""

import json
import os
import socket as sockets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from host.hooks.order import Remove, encoded
from tests.agent_service import agent_folder
from tests.cli.run import ROOT, until
from tests.faults.command import command
from tests.hook_runs import HookHost, hook_host, order_of

PROGRAM = (sys.executable, "-c", "from host.hooks.as_root import main; main()")
NOT_ALLOWED = "import host.hooks.work as w; w._may = lambda config: False\n"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[HookHost]:
    with command(tmp_path) as made, agent_folder() as folder, hook_host(made, folder) as host:
        yield host


def asked(host: HookHost, line: bytes, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [*PROGRAM, *arguments],
        input=line,
        env={**host.environment({}), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_orders_are_done_and_answered_in_one_line(host: HookHost) -> None:
    image = host.image(1, "raw")
    with subprocess.Popen(
        PROGRAM,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**host.environment({}), "PYTHONPATH": str(ROOT)},
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(encoded(order_of(image, host.vm_id)))
        program.stdin.flush()
        answer = json.loads(program.stdout.readline())
        assert program.wait() == 0
    assert answer["path"] == str(host.device(image))
    assert host.holds(image)


@pytest.mark.tools("qemu-img")
def test_what_nobody_waits_for_any_more_is_given_up(host: HookHost) -> None:
    """The pipe ends when the hook dies, of which root could not hear otherwise."""
    image = host.image(1, "raw")
    done = asked(host, encoded(order_of(image, host.vm_id)))  # and the end of the pipe
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"is gone" in done.stderr
    assert all("UPDATING" in one.tags for one in host.group.volumes().values())


@pytest.mark.parametrize(
    "line",
    [b"", b"\n", b"{}\n", b"[" * 90_000, b"x" * 70_000 + b"\n", encoded(Remove(vm_id="x"))],
    ids=lambda line: repr(line[:20]),
)
def test_what_is_no_order_is_refused(host: HookHost, line: bytes) -> None:
    done = asked(host, line)
    assert (done.returncode, done.stdout, host.group.calls()) == (2, b"", [])
    assert len(done.stderr.splitlines()) == 1


def test_arguments_are_refused(host: HookHost) -> None:
    done = asked(host, encoded(Remove(vm_id=host.vm_id)), "--config", "/tmp/x")
    assert (done.returncode, host.group.calls()) == (2, [])
    assert b"takes no arguments" in done.stderr


def test_a_file_that_may_not_be_copied_is_not_though_root_could(host: HookHost) -> None:
    image = host.image(1, "raw")
    with subprocess.Popen(
        PROGRAM,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**host.environment({}), "PYTHONPATH": str(ROOT)},
    ) as program:
        assert program.stdin is not None
        assert program.stderr is not None
        program.stdin.write(encoded(order_of(image, host.vm_id, path="/etc/shadow")))
        program.stdin.flush()
        assert b"not in a directory that is allowed" in program.stderr.read()
        assert program.wait() == 2
    assert host.group.volumes() == {}


def sudo(host: HookHost, body: str) -> dict[str, str]:
    """The environment of a hook that finds this program instead of sudo."""
    folder = host.command.folder / "bin"
    folder.mkdir()
    program = folder / "sudo"
    program.write_text(f"#!{sys.executable}\nimport os, sys\n{body}\n")
    program.chmod(0o755)
    return {"localdisk": "lvm", "PATH": f"{folder}:{os.environ['PATH']}"}


ROOT_DOES_IT = f"""
assert sys.argv[1:] == ["-n", "/usr/local/bin/leasehold-hook-localdisk"], sys.argv
os.execv({sys.executable!r}, {PROGRAM!r})
"""


@pytest.mark.tools("qemu-img")
async def test_a_hook_that_may_not_asks_root(host: HookHost) -> None:
    image = host.image(1, "raw")
    properties, data = sudo(host, ROOT_DOES_IT), json.dumps(image.drive).encode()
    done = await host("after_disk_prepare", properties, data, before=NOT_ALLOWED)
    assert done.code == 0, done
    assert done.drive["path"] == str(host.device(image))
    assert host.holds(image)
    assert "is ready after" in done.words
    done = await host(
        "after_vm_destroy", properties, b"", variable="_hook_domxml", before=NOT_ALLOWED
    )
    assert (done.code, host.group.volumes()) == (0, {}), done


@pytest.mark.tools("qemu-img")
async def test_root_stops_when_the_hook_is_killed(host: HookHost) -> None:
    image = host.image(8, "raw")
    slow = ROOT_DOES_IT.replace(
        repr(PROGRAM),
        repr((*PROGRAM[:2], f"exec({SLOW!r}); {PROGRAM[2]}")),
    )
    properties, data = sudo(host, slow), json.dumps(image.drive).encode()
    with host.started("after_disk_prepare", properties, data, before=NOT_ALLOWED) as (running, _):
        until(lambda: host.command.tools("qemu-img", "convert", image.path))
        running.process.kill()
        running.process.wait()
    await host.command.alone()
    [volume] = host.group.volumes().values()
    assert "UPDATING" in volume.tags
    done = await host.prepare(image)
    assert (done.code, host.holds(image)) == (0, True), done


SLOW = """
import msgspec, host.local_disk_copy as c
made = c._spec
c._spec = lambda *a: msgspec.structs.replace(made(*a), limit=1 << 20)
"""


async def test_what_sudo_refuses_is_an_error(host: HookHost) -> None:
    image = host.image(1, "raw")
    body = 'print("sudo: a password is required", file=sys.stderr); sys.exit(1)'
    properties, data = sudo(host, body), json.dumps(image.drive).encode()
    done = await host("after_disk_prepare", properties, data, before=NOT_ALLOWED)
    assert (done.code, done.json) == (1, data)
    assert "a password is required" in done.words


@pytest.mark.parametrize("answer", ["", "{}", "{}{}", '{"path": "dev"}', '{"path": "/dev/\\n"}'])
async def test_an_answer_that_is_none_is_an_error(host: HookHost, answer: str) -> None:
    image = host.image(1, "raw")
    properties = sudo(host, f"print({answer!r})")
    data = json.dumps(image.drive).encode()
    done = await host("after_disk_prepare", properties, data, before=NOT_ALLOWED)
    assert (done.code != 0, done.json) == (True, data)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
@pytest.mark.tools("setpriv")
@pytest.mark.parametrize("own", [False, True])
def test_only_who_may_do_it_does_it_without_sudo(tmp_path: Path, own: bool) -> None:
    """One that may connect as a monitor may not; one whose agent it is, or whose state, may."""
    with agent_folder() as folder:
        socket = folder / "agent"
        with closing(sockets.socket(sockets.AF_UNIX)) as listener:
            listener.bind(str(socket))
            socket.chmod(0o666)
            os.chown(socket, 65534 if own else 0, 0)
            code = f"""
from host.config_file import load
from host.hooks.work import _may
print(_may(load(None, {{}}, {{"listen.socket": {str(socket)!r}, "folders.state": "/nowhere"}})))
"""
            nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
            done = subprocess.run(
                [*nobody, sys.executable, "-c", code],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                check=False,
            )
    if "Permission denied" in done.stderr or "ModuleNotFound" in done.stderr:
        pytest.skip("this checkout is where only its owner can read")
    assert (done.returncode, done.stdout) == (0, f"{own}\n"), done
