"""The hooks as programs, without an agent: what they do, refuse and say."""

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.agent_service import agent_folder
from tests.cli.run import ROOT
from tests.faults.command import command
from tests.hook_runs import SLOW, HookHost, hook_host, said

HOOKS = [
    "after_disk_prepare",
    "before_vm_hibernate",
    "before_vm_migrate_source",
    "after_vm_destroy",
]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[HookHost]:
    with command(tmp_path) as made, agent_folder() as folder, hook_host(made, folder) as host:
        yield host


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_imports_nothing_before_there_is_something_to_do(hook: str) -> None:
    """That is what makes it quick: vdsm runs it for every VM, and every disk."""
    heavy = ("trio", "msgspec", "lxml", "structlog", "typer", "asyncio", "protocol", "host.config")
    code = f"""
import sys, atexit
atexit.register(lambda: print(sorted(set(sys.modules) & set({heavy!r}))))
from host.hooks.{hook} import main
main()
"""
    environment = {key: value for key, value in os.environ.items() if key != "localdisk"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_every_hook_is_an_installed_program() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for hook in HOOKS:
        assert scripts[f"leasehold-hook-{hook.replace('_', '-')}"] == f"host.hooks.{hook}:main"
    assert scripts["leasehold-hook-localdisk"] == "host.hooks.as_root:main"


@pytest.mark.sample(2)
@pytest.mark.tools("qemu-img")
@pytest.mark.parametrize("backend", ["lvm", "lvmthin"])
@pytest.mark.parametrize("format", ["cow", "raw"])
async def test_a_disk_becomes_local_is_used_again_and_removed(
    host: HookHost, backend: str, format: str
) -> None:
    image = host.image(format=format, backed=format == "cow")
    done = await host.prepare(image, backend)
    assert done.code == 0, done
    assert host.holds(image)
    now = {"path": str(host.device(image)), "format": "raw", "diskType": "block"}
    assert done.drive == {**image.drive, **now}
    [volume] = host.group.volumes().values()
    assert (volume.pool is not None) == (backend == "lvmthin")
    assert {"STARTED", f"VM_{host.vm_id}", f"IU_{image.drive['imageID']}"} <= volume.tags
    assert "doing it without the agent" in done.words
    assert "is ready after" in done.words
    before = len(host.group.calls())
    written = b"what the VM has written".ljust(len(image.content))
    host.device(image).write_bytes(written)
    done = await host.prepare(image, backend)
    assert (done.code, done.drive) == (0, {**image.drive, **now})
    assert "is used again" in done.words
    assert len(host.group.calls()) - before <= 3
    assert host.device(image).read_bytes() == written
    done = await host.destroy()
    assert (done.code, host.group.volumes()) == (0, {}), done
    assert f"local disk {image.vol_id} is removed" in done.words
    assert image.path.exists()
    await host.command.nothing_left()


@pytest.mark.tools("qemu-img")
async def test_the_progress_of_a_copy_by_the_agent_is_told(host: HookHost) -> None:
    image = host.image(6, "raw")
    with host.served(before=SLOW):
        done = await host.prepare(image)
    assert done.code == 0, done
    first, *_ = done.words.splitlines()
    assert first.startswith(f"leasehold: local disk {image.vol_id}: waiting for job ")
    assert re.search(r": copying [1-9][0-9]*%, \S+ of 6\.00M", done.words), done.words


@pytest.mark.tools("qemu-img")
async def test_a_vm_that_is_deleted_while_a_hook_copies_its_disk_does_not_start(
    host: HookHost,
) -> None:
    image = host.image(16, "raw")
    started = host.started("after_disk_prepare", {"localdisk": "lvm"}, image.data, before=SLOW)
    with started as (running, path):
        await said(running, "copying")
        done = await host.destroy()
        assert done.code == 0, done
        assert f"local disk {image.vol_id} is removed" in done.words
        ended = await running.wait()
        assert (ended.code, path.read_bytes()) == (1, image.data), ended
    assert host.group.volumes() == {}


@pytest.mark.tools("qemu-img")
async def test_local_disks_are_kept_when_the_host_says_so(host: HookHost) -> None:
    image = host.image(1, "raw")
    assert (await host.prepare(image)).code == 0
    host.settings["localdisk.delete_on_stop"] = "false"
    done = await host.destroy()
    assert (done.code, set(host.group.volumes())) == (0, {image.vol_id})
    assert "delete_on_stop" in done.words


@pytest.mark.tools("qemu-img")
async def test_only_the_disks_of_the_vm_that_stopped_are_removed(host: HookHost) -> None:
    first, vm_id = host.image(1, "raw"), host.vm_id
    assert (await host.prepare(first)).code == 0
    host.vm_id = "11111111-2222-4333-8444-555555555555"
    second = host.image(1, "raw")
    assert (await host.prepare(second)).code == 0
    host.vm_id = vm_id
    assert (await host.destroy()).code == 0
    assert set(host.group.volumes()) == {second.vol_id}


@pytest.mark.parametrize("backend", ["lvm", "lvmthin", "zfs", "anything"])
async def test_a_vm_with_local_disks_is_not_migrated(host: HookHost, backend: str) -> None:
    xml = {"variable": "_hook_domxml"}
    done = await host("before_vm_migrate_source", {"localdisk": backend}, b"<domain/>", **xml)
    assert (done.code, done.json) == (2, b"<domain/>")
    assert "cannot migrate the VM" in done.words
    for custom in ({}, {"localdisk": ""}, {"localdisc": backend}):
        done = await host("before_vm_migrate_source", custom, b"<domain/>", **xml)
        assert (done.code, done.words) == (0, "")


@pytest.mark.parametrize("hook", ["before_vm_migrate_source", "before_vm_hibernate"])
async def test_what_is_refused_is_what_the_table_refuses(host: HookHost, hook: str) -> None:
    everything = """
import types, protocol.local_disk_policy as p
p.RULES = types.MappingProxyType({one: p.Rule(p.Needs.NOTHING, "") for one in p.Operation})
"""
    options = {"variable": "_hook_domxml", "before": everything}
    done = await host(hook, {"localdisk": "lvm"}, b"<domain/>", **options)
    assert (done.code, done.words) == (0, "")


async def test_a_vm_is_not_suspended_when_its_local_disks_would_be_removed(host: HookHost) -> None:
    xml = {"variable": "_hook_domxml"}
    done = await host("before_vm_hibernate", {"localdisk": "lvm"}, b"<domain/>", **xml)
    assert (done.code, done.json) == (2, b"<domain/>")
    assert "cannot suspend the VM" in done.words
    done = await host("before_vm_hibernate", {}, b"<domain/>", **xml)
    assert (done.code, done.words) == (0, "")
    host.settings["localdisk.delete_on_stop"] = "false"
    done = await host("before_vm_hibernate", {"localdisk": "lvm"}, b"<domain/>", **xml)
    assert (done.code, done.words) == (0, "")


@pytest.mark.parametrize(
    "backend", ["zfs", "LVM", "lvm ", " ", "lvm\n", "--help", "../lvm", "\u0661"]
)
async def test_an_unknown_backend_is_an_error_and_no_silent_start(
    host: HookHost, backend: str
) -> None:
    data = json.dumps(host.image(1).drive).encode()
    done = await host("after_disk_prepare", {"localdisk": backend}, data)
    assert (done.code, done.json, host.group.calls()) == (2, data, [])
    assert "is none of lvm, lvmthin" in done.words
    assert len(done.words.splitlines()) == 1


@pytest.mark.parametrize("vm_id", ["", "x", "../x", "-v", f"{'a' * 36}"])
async def test_without_the_id_of_a_vm_nothing_is_done(host: HookHost, vm_id: str) -> None:
    host.vm_id = vm_id
    image = host.image(1)
    done = await host.prepare(image)
    assert (done.code, done.drive, host.group.calls()) == (2, image.drive, [])
    assert "vmId" in done.words
    done = await host.destroy()
    assert (done.code, host.group.calls()) == (2, [])


async def test_the_id_of_a_stopped_vm_may_stand_in_its_xml_alone(host: HookHost) -> None:
    image = host.image(1, "raw")
    assert (await host.prepare(image)).code == 0
    xml = f"<domain><uuid>{host.vm_id}</uuid></domain>".encode()
    options = {"variable": "_hook_domxml"}
    host.vm_id = ""
    hostile = b'<!DOCTYPE domain [<!ENTITY a "b">]>' + xml
    done = await host("after_vm_destroy", {"localdisk": "lvm"}, hostile, **options)
    assert (done.code, len(host.group.volumes())) == (2, 1)
    done = await host("after_vm_destroy", {"localdisk": "lvm"}, xml, **options)
    assert (done.code, host.group.volumes()) == (0, {}), done


HOSTILE = [
    {"volumeID": "../../etc/passwd"},
    {"volumeID": "--yes"},
    {"volumeID": "x\ny"},
    {"imageID": "77777777-8888-4999-8aaa-bbbbbbbbbbbb\n"},
    {"domainID": {"a": 1}},
    {"path": "/etc/../etc/passwd"},
    {"path": "/a\nb"},
    {"path": "-U"},
    {"format": "qcow2 -o x"},
    {"diskType": "network"},
    {"path": None},
    {"shared": "shared"},
]


@pytest.mark.parametrize("changed", HOSTILE, ids=repr)
async def test_a_hostile_drive_is_refused_before_anything_is_done(
    host: HookHost, changed: dict[str, object]
) -> None:
    data = json.dumps({**host.image(1, "raw").drive, **changed}).encode()
    done = await host("after_disk_prepare", {"localdisk": "lvm"}, data)
    assert (done.code, done.json, host.group.calls()) == (2, data, [])
    assert len(done.words.splitlines()) == 1


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 100_000, b"{" + b" " * (1 << 20) + b"}"])
async def test_a_hostile_file_is_refused_before_anything_is_done(
    host: HookHost, data: bytes
) -> None:
    done = await host("after_disk_prepare", {"localdisk": "lvm"}, data)
    assert (done.code, done.json, host.group.calls()) == (2, data, [])
    assert len(done.words.splitlines()) == 1


async def test_a_source_outside_of_what_is_allowed_is_not_copied(host: HookHost) -> None:
    host.settings["localdisk.sources"] = str(host.command.folder / "elsewhere")
    image = host.image(1, "raw")
    done = await host.prepare(image)
    assert (done.code, done.drive, host.group.volumes()) == (2, image.drive, {})
    assert "not in a directory that is allowed" in done.words


@pytest.mark.tools("qemu-img")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_aborts_the_copy_and_the_next_start_begins_anew(
    host: HookHost, number: signal.Signals
) -> None:
    image = host.image(8, "raw")
    data = json.dumps(image.drive).encode()
    slow = "import host.local_disk_copy as c; old = c._spec; import msgspec\n"
    slow += "c._spec = lambda *a: msgspec.structs.replace(old(*a), limit=1 << 20)"
    with host.started("after_disk_prepare", {"localdisk": "lvm"}, data, before=slow) as (
        running,
        path,
    ):
        await said(running, "copying")
        running.signal(number)
        ended = await running.wait()
        assert (ended.code, path.read_bytes()) == (1, data), ended
    [volume] = host.group.volumes().values()
    assert "UPDATING" in volume.tags
    await host.command.nothing_left()
    with trio.fail_after(60):
        assert (await host.prepare(image)).code == 0
    assert host.holds(image)
