"""Attaching and detaching managed volumes: every step, and the undoing of every step."""

import json
import os
from pathlib import Path

import pytest
import trio
import trio.testing

from host import managed_helpers
from protocol.errors import (
    ManagedVolumeAlreadyAttached,
    ManagedVolumeConnectionMismatch,
    ManagedVolumeHelperFailed,
    ManagedVolumeInUse,
    ManagedVolumeUnsupportedDevice,
    NoSpaceLeft,
    UnsupportedOperation,
)
from storage.managed_table import ManagedTable, ManagedVolume
from tests.managed import ADAPTER, SD, connection, left_in, loop_device, new_id
from tests.managed_host import HARDWARE_ID, Host
from tests.servers import MIB, WAIT, qemu_nbd, raw_image, until

HANG = "import signal; signal.pause()"


@pytest.fixture
async def host(tmp_path: Path) -> Host:
    return await Host.made(tmp_path)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(managed_helpers, "FIRST_WAIT", 0.001)


# --- attach -----------------------------------------------------------------------------------


async def test_an_attached_device_has_a_link_and_is_listed(host: Host, tmp_path: Path) -> None:
    vol_id = new_id()
    with loop_device(tmp_path) as device:
        host.helper.attaches(device, serial=7)
        told = connection(path="x", more={"deep": [1]})
        made = await host.attach(vol_id, told)
        link = host.run / f"{SD}_{vol_id}"
        assert host.volumes.managed_path(made) == str(link)
        assert os.readlink(link) == str(device)
        assert made == ManagedVolume(
            vol_id, SD, told, str(device), {"path": str(device), "serial": 7}
        )
        assert host.helper.calls == [("attach", told)]
        assert await host.volumes.info() == [(made, True)]
        assert await host.volumes.info([vol_id, new_id()]) == [(made, True)]
        assert await host.volumes.info([new_id()]) == []
        assert str(link) in host.volumes.attached.links
        await host.volumes.detach(vol_id)
        host.nothing_is_left()
        command, message = host.helper.calls[-1]
        assert (command, message["connection_info"]) == ("detach", told)
        assert message["attachment"] == made.attachment
        assert await host.volumes.info() == []
        assert host.volumes.attached.links == frozenset()


@pytest.mark.tools("qemu-nbd", "nbdinfo")
async def test_an_attached_url_has_no_link(host: Host, tmp_path: Path) -> None:
    vol_id = new_id()
    with qemu_nbd(raw_image(tmp_path / "disk", MIB), tmp_path) as server:
        host.helper.attaches(server.url)
        made = await host.attach(vol_id, connection("file"))
        assert (made.path, host.volumes.managed_path(made)) == (server.url, None)
        assert left_in(host.run) == [f".{SD}_{vol_id}.access"]
        assert await host.known() == {vol_id: True}
    assert await host.known() == {vol_id: False}  # the server is gone
    await host.volumes.detach(vol_id)
    host.nothing_is_left()


async def test_a_helper_has_a_folder_of_its_own_and_knows_the_host(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vol_id = new_id()
    place = 'os.environ["LEASEHOLD_MANAGED_ACCESS"] + "/secret"'
    with loop_device(tmp_path) as device:
        told = json.dumps({"path": str(device)})
        host.helper.script("attach", f"open({place}, 'w').close(); print({told!r})")
        host.helper.script("detach", f"os.stat({place})")
        monkeypatch.setenv("PATH", "/usr/bin:/bin")
        await host.attach(vol_id)
        monkeypatch.undo()
        assert (host.run / f".{SD}_{vol_id}.access" / "secret").exists()
        await host.volumes.detach(vol_id)
    environment = host.helper.environments[0]
    assert environment["LEASEHOLD_IDENTITY_HARDWARE_ID"] == HARDWARE_ID
    assert "/usr/sbin" in environment["PATH"].split(":")
    host.nothing_is_left()


async def test_the_same_volume_is_attached_once(host: Host, tmp_path: Path) -> None:
    vol_id = new_id()
    with loop_device(tmp_path) as device:
        host.helper.attaches(device)
        await host.attach(vol_id, connection(a=1))
        with pytest.raises(ManagedVolumeAlreadyAttached):
            await host.attach(vol_id, connection(a=1))
        for other in (connection(a=2), connection(a=1, adapter=None), connection("rbd", a=1)):
            with pytest.raises(ManagedVolumeConnectionMismatch):
                await host.attach(vol_id, other)
        assert host.helper.commands == ["attach"]
        restarted = await host.again()
        with pytest.raises(ManagedVolumeAlreadyAttached):
            await restarted.attach(vol_id, connection(a=1))
        await restarted.volumes.detach(vol_id)
    host.nothing_is_left()


async def test_two_calls_for_one_volume_come_one_after_the_other(
    host: Host, tmp_path: Path
) -> None:
    vol_id = new_id()
    errors: list[Exception] = []
    with loop_device(tmp_path) as device:
        host.helper.attaches(device)

        async def attach() -> None:
            try:
                await host.attach(vol_id)
            except ManagedVolumeAlreadyAttached as e:
                errors.append(e)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(attach)
        assert len(errors) == 4
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(host.volumes.detach, vol_id)
    assert host.helper.commands == ["attach", "detach"]
    host.nothing_is_left()


async def test_different_volumes_do_not_wait_for_each_other(host: Host) -> None:
    slow, quick = new_id(), new_id()
    host.helper.script("attach", "if json.loads(told)['data'].get('slow'): signal.pause()")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.attach, slow, connection(slow=True))
        await until(lambda: host.helper.commands == ["attach"])
        with trio.fail_after(WAIT), pytest.raises(ManagedVolumeHelperFailed):
            await host.attach(quick)
        nursery.cancel_scope.cancel()
    host.nothing_is_left()


@pytest.mark.parametrize("driver", ["", "scsi", "RBD", "file "])
async def test_a_driver_that_nobody_knows_is_refused_before_anything(
    host: Host, driver: str
) -> None:
    with pytest.raises(UnsupportedOperation) as caught:
        await host.attach(new_id(), connection(driver))
    assert caught.value.code == 2009
    assert host.helper.calls == []
    host.nothing_is_left()


@pytest.mark.parametrize(
    "name", ["../test-array", "Test-Array", "missing", "", "a" * 300, "test-array\n"]
)
async def test_an_adapter_that_is_none_is_a_failure_of_the_helper(
    host: Host, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(ManagedTable, "put")  # it is found out before anything is written
    with pytest.raises(ManagedVolumeHelperFailed) as caught:
        await host.attach(new_id(), connection(adapter=name))
    assert caught.value.code == 926
    host.nothing_is_left()


@pytest.mark.parametrize("mode", [0o644, None])
async def test_a_helper_that_cannot_be_executed_is_told(host: Host, mode: int | None) -> None:
    host.helper.program.chmod(mode or 0o755)
    if mode is None:
        host.helper.program.unlink()
        host.helper.program.mkdir()
    with pytest.raises(ManagedVolumeHelperFailed, match="no program that can be executed"):
        await host.attach(new_id())
    host.nothing_is_left()


# --- an attach that fails ---------------------------------------------------------------------


async def test_a_helper_that_says_no_has_attached_nothing(host: Host) -> None:
    host.helper.script("attach", "sys.exit('the array is on fire')")
    with pytest.raises(ManagedVolumeHelperFailed) as caught:
        await host.attach(new_id())
    assert str(caught.value) == (
        f"managedvolume-helper-{ADAPTER} attach failed: the array is on fire"
    )
    assert host.helper.commands == ["attach"]
    host.nothing_is_left()


UNSURE = {
    "killed": ("os.kill(os.getpid(), signal.SIGKILL)", "killed by signal 9"),
    "crashed": ("os.abort()", "killed by signal 6"),
    "no JSON": ("print('attached!')", "no JSON object"),
    "nothing": ("", "no JSON object"),
    "a list": ("print('[]')", "no JSON object"),
    "not UTF-8": ("sys.stdout.buffer.write(b'\\xff{}')", "no JSON object"),
    "deep": ("print('[' * 100000)", "no JSON object"),
    "too much": ("print('x' * (2 << 20))", "more than 1048576 bytes"),
    "hangs": (HANG, "did not end in 0.5 s"),
    "hangs and will not end": (f"signal.signal(15, signal.SIG_IGN)\n{HANG}", "did not end in"),
    "closes its output and hangs": (f"os.close(1)\n{HANG}", "did not end in"),
    "no path": ("print('{}')", "told no path"),
    "a path that is none": ("print('{\"path\": \"here\"}')", "must be absolute"),
    "a device that never appears": (
        "print('{\"path\": \"/dev/mapper/nowhere\"}')", "did not appear in 0.25 s",
    ),
    "a server that is gone": (
        "print('{\"path\": \"nbd+unix:///vol?socket=/nowhere\"}')", "cannot connect",
    ),
}  # fmt: skip


@pytest.mark.tools("nbdinfo")
@pytest.mark.parametrize(("script", "reason"), UNSURE.values(), ids=UNSURE)
async def test_what_a_helper_may_have_attached_is_detached(
    host: Host, script: str, reason: str, tmp_path: Path
) -> None:
    host.impatient()
    vol_id = new_id()
    host.helper.script("attach", script)
    with pytest.raises(ManagedVolumeHelperFailed, match=reason) as caught:
        await host.attach(vol_id)
    assert caught.value.command == "attach"
    assert host.helper.commands == ["attach", "detach"]
    host.nothing_is_left()
    with loop_device(tmp_path) as device:
        host.helper.attaches(device)
        await host.attach(vol_id)
        await host.volumes.detach(vol_id)
    host.nothing_is_left()


async def test_what_a_helper_has_started_ends_with_it(host: Host) -> None:
    host.impatient()
    child = "[sys.executable, '-I', '-c', 'import signal; signal.pause()']"
    note = f"open({str(host.run.parent / 'child')!r}, 'w').write(str(child.pid))"
    host.helper.script("attach", f"child = subprocess.Popen({child}); {note}; {HANG}")
    with pytest.raises(ManagedVolumeHelperFailed):
        await host.attach(new_id())
    pid = int((host.run.parent / "child").read_text())
    await until(lambda: not _runs(pid))
    host.nothing_is_left()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("driver", ["iscsi", "fibre_channel"])
async def test_a_device_without_multipath_is_detached_again(host: Host, driver: str) -> None:
    host.helper.attaches("/dev/sda")
    with pytest.raises(ManagedVolumeUnsupportedDevice) as caught:
        await host.attach(new_id(), connection(driver))
    assert caught.value.code == 928
    assert host.helper.calls[-1][0] == "detach"
    assert host.helper.calls[-1][1]["attachment"] == {"path": "/dev/sda"}
    host.nothing_is_left()


async def test_a_link_that_cannot_be_made_undoes_the_attach(host: Host, tmp_path: Path) -> None:
    vol_id = new_id()
    link = host.run / f"{SD}_{vol_id}"
    with loop_device(tmp_path) as device:
        host.helper.script(
            "attach",
            f"os.mkdir({str(link)!r}); open({str(link / 'x')!r}, 'w').close()\n"
            f"print({json.dumps({'path': str(device)})!r})",
        )
        host.helper.script("detach", f"import shutil; shutil.rmtree({str(link)!r})")
        with pytest.raises(OSError, match="irectory"):
            await host.attach(vol_id)
    assert host.helper.commands == ["attach", "detach"]
    host.nothing_is_left()


@pytest.mark.parametrize("write", [1, 2])
async def test_a_full_disk_undoes_the_attach(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: int
) -> None:
    """The row is written before anything is done, and again when all is done."""
    put = ManagedTable.put
    writes: list[str] = []

    def full(table: ManagedTable, volume: ManagedVolume) -> None:
        writes.append(volume.vol_id)
        if len(writes) == write:
            raise NoSpaceLeft("leasehold", 1, "no space left")
        put(table, volume)

    monkeypatch.setattr(ManagedTable, "put", full)
    with loop_device(tmp_path) as device:
        host.helper.attaches(device)
        with pytest.raises(NoSpaceLeft):
            await host.attach(new_id())
    assert host.helper.commands == ([] if write == 1 else ["attach", "detach"])
    host.nothing_is_left()
    assert await host.known() == {}


async def test_a_call_that_is_given_up_leaves_nothing(host: Host) -> None:
    host.helper.script("attach", HANG)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.attach, new_id())
        await until(lambda: host.helper.commands == ["attach"])
        nursery.cancel_scope.cancel()
    assert host.helper.commands == ["attach", "detach"]
    host.nothing_is_left()


async def test_what_cannot_be_undone_stays_listed_and_can_be_detached(
    host: Host, tmp_path: Path
) -> None:
    vol_id = new_id()
    host.helper.script("attach", "print('garbage')")
    host.helper.script("detach", "sys.exit('not now')")
    with pytest.raises(ManagedVolumeHelperFailed) as caught:
        await host.attach(vol_id)
    for words in ("no JSON object", "not now", "detach the volume"):
        assert words in str(caught.value)
    for one in (host, await host.again()):
        [(volume, exists)] = await one.volumes.info()
        assert (volume.vol_id, volume.path, exists) == (vol_id, None, False)
        with pytest.raises(ManagedVolumeHelperFailed, match="not now"):
            await one.volumes.detach(vol_id)
    with pytest.raises(ManagedVolumeConnectionMismatch):
        await host.attach(vol_id, connection(another=True))
    host.helper.script("detach", "")
    await host.volumes.detach(vol_id)
    host.nothing_is_left()


async def test_what_was_cut_off_can_be_attached_anew(host: Host, tmp_path: Path) -> None:
    vol_id = new_id()
    host.helper.script("attach", "print('garbage')")
    host.helper.script("detach", "sys.exit('not now')")
    with pytest.raises(ManagedVolumeHelperFailed):
        await host.attach(vol_id)
    with loop_device(tmp_path) as device:
        host.helper.attaches(device)
        host.helper.script("detach", "")
        again = await host.again()
        made = await again.attach(vol_id)
        assert made.path == str(device)
        await again.volumes.detach(vol_id)
    host.nothing_is_left()


async def test_an_attempt_after_one_that_was_cut_off_forgets_nothing(host: Host) -> None:
    """Its helper may say no to what the former one has half done."""
    vol_id = new_id()
    host.helper.script("attach", "print('garbage')")
    host.helper.script("detach", "sys.exit('not now')")
    with pytest.raises(ManagedVolumeHelperFailed):
        await host.attach(vol_id)
    host.helper.script("attach", "sys.exit('no')")
    with pytest.raises(ManagedVolumeHelperFailed, match="not now"):
        await host.attach(vol_id)
    hidden = host.helper.program.rename(host.helper.program.with_name("hidden"))
    with pytest.raises(ManagedVolumeHelperFailed, match="there is no"):
        await host.attach(vol_id)
    hidden.rename(host.helper.program)
    assert await host.known() == {vol_id: False}
    host.helper.script("detach", "")
    with pytest.raises(ManagedVolumeHelperFailed, match=r"failed: no$"):
        await host.attach(vol_id)
    assert host.helper.commands[-2:] == ["attach", "detach"]
    host.nothing_is_left()


async def test_no_error_shows_a_secret(host: Host) -> None:
    told = connection("iscsi", auth_password="TOPSECRET", keyring="[client.x]\nkey = " + "K" * 20)
    host.helper.script(
        "attach", "sys.exit('wrong password ' + json.loads(told)['data']['auth_password'])"
    )
    with pytest.raises(ManagedVolumeHelperFailed) as caught:
        await host.attach(new_id(), told)
    assert "wrong password ***" in str(caught.value)
    host.helper.script("attach", "print(told + 'x')")
    host.helper.script("detach", "sys.exit('no: ' + 'K' * 20)")
    with pytest.raises(ManagedVolumeHelperFailed) as caught:
        await host.attach(new_id(), told)
    assert "no: ***" in str(caught.value)
    assert "TOPSECRET" not in str(caught.value)


# --- detach -----------------------------------------------------------------------------------


async def test_detaching_what_is_not_attached_is_success(host: Host) -> None:
    await host.volumes.detach(new_id())
    assert host.helper.calls == []


@pytest.mark.parametrize(
    "script", ["sys.exit('no')", "os.kill(os.getpid(), signal.SIGKILL)", HANG], ids=str
)
async def test_a_volume_that_cannot_be_detached_stays_listed(
    host: Host, tmp_path: Path, script: str
) -> None:
    vol_id = new_id()
    with loop_device(tmp_path) as device:
        host.helper.attaches(device)
        made = await host.attach(vol_id)
        host.helper.script("detach", script)
        host.impatient()
        for _ in range(2):
            with pytest.raises(ManagedVolumeHelperFailed) as caught:
                await host.volumes.detach(vol_id)
            assert caught.value.code == 926
            assert await host.volumes.info() == [(made, True)]
            assert (host.run / f"{SD}_{vol_id}").is_block_device()
        assert vol_id not in host.volumes.uses.leaving
        host.helper.script("detach", "print('anything')")
        await host.volumes.detach(vol_id)
    host.nothing_is_left()


@pytest.mark.parametrize("words", ["map in use", "rbd: unmap failed: (16) Device or resource busy"])
async def test_a_map_in_use_is_tried_again(
    host: Host, tmp_path: Path, quick: None, words: str
) -> None:
    vol_id = new_id()
    with loop_device(tmp_path) as device:
        host.helper.attaches(device)
        await host.attach(vol_id)
        host.helper.script(
            "detach",
            f"if len(open(folder + '/calls').readlines()) < 4: sys.exit('libdevmapper: {words}')",
        )
        await host.volumes.detach(vol_id)
    assert host.helper.commands == ["attach", "detach", "detach", "detach"]
    host.nothing_is_left()


async def test_a_map_that_stays_in_use_is_not_tried_for_ever(
    host: Host, tmp_path: Path, quick: None
) -> None:
    vol_id = new_id()
    with loop_device(tmp_path) as device:
        host.helper.attaches(device)
        await host.attach(vol_id)
        host.helper.script("detach", "sys.exit('36001: map in use')")
        with pytest.raises(ManagedVolumeHelperFailed, match="map in use"):
            await host.volumes.detach(vol_id)
        assert len(host.helper.commands) == 1 + managed_helpers.TRIES
        host.helper.script("detach", "")
        await host.volumes.detach(vol_id)
    host.nothing_is_left()


async def test_the_waits_for_a_map_in_use_grow(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vol_id, waits = new_id(), []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    with loop_device(tmp_path) as device:
        host.helper.attaches(device)
        await host.attach(vol_id)
        host.helper.script("detach", "sys.exit('36001: map in use')")
        with monkeypatch.context() as patched:
            patched.setattr("host.managed_helpers.trio.sleep", sleep)
            with pytest.raises(ManagedVolumeHelperFailed):
                await host.volumes.detach(vol_id)
        host.helper.script("detach", "")
        await host.volumes.detach(vol_id)
    assert waits == [0.25, 0.5, 1, 2, 4]


async def test_a_volume_in_use_is_not_detached(host: Host, tmp_path: Path) -> None:
    vol_id = new_id()
    with loop_device(tmp_path) as device:
        host.helper.attaches(device)
        made = await host.attach(vol_id)
        host.copies.append(str(host.volumes.managed_path(made)))
        with pytest.raises(ManagedVolumeInUse):
            await host.volumes.detach(vol_id)
        assert host.helper.commands == ["attach"]
        assert await host.known() == {vol_id: True}
        host.copies.clear()
        await host.volumes.detach(vol_id)
    host.nothing_is_left()


async def test_nothing_may_be_copied_to_a_volume_that_is_being_detached(
    host: Host, tmp_path: Path
) -> None:
    vol_id = new_id()
    with loop_device(tmp_path) as device:
        host.helper.attaches(device)
        await host.attach(vol_id)
        assert len(host.volumes.attached.urls) == 1
        host.helper.script("detach", HANG)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.volumes.detach, vol_id)
            await until(lambda: host.helper.commands == ["attach", "detach"])
            assert host.volumes.attached.urls == frozenset()
            assert host.volumes.attached.links == frozenset()
            nursery.cancel_scope.cancel()
        assert len(host.volumes.attached.urls) == 1  # it was given up
        host.helper.script("detach", "")
        await host.volumes.detach(vol_id)
    host.nothing_is_left()


async def test_a_row_that_cannot_be_removed_is_detached_once_more(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vol_id = new_id()

    def full(table: ManagedTable, vol_id: str) -> None:
        raise NoSpaceLeft("leasehold", 1, "no space left")

    with loop_device(tmp_path) as device:
        host.helper.attaches(device)
        await host.attach(vol_id)
        with monkeypatch.context() as patched:
            patched.setattr(ManagedTable, "remove", full)
            with pytest.raises(NoSpaceLeft):
                await host.volumes.detach(vol_id)
        assert list(await host.known()) == [vol_id]
        await host.volumes.detach(vol_id)
    host.nothing_is_left()


# --- reboot -----------------------------------------------------------------------------------


async def test_nothing_counts_as_attached_after_a_reboot(host: Host, tmp_path: Path) -> None:
    whole, half = new_id(), new_id()
    with loop_device(tmp_path) as device:
        host.helper.attaches(device)
        await host.attach(whole, connection(a=1))
        host.helper.script("attach", "print('garbage')")
        host.helper.script("detach", "sys.exit('not now')")
        with pytest.raises(ManagedVolumeHelperFailed):
            await host.attach(half)
        assert len(await host.known()) == 2
        rebooted = await host.again(boot="22222222-2222-4222-8222-222222222222")
        assert await rebooted.known() == {}
        assert rebooted.volumes.attached.links == frozenset()
        assert left_in(host.run) == []
        calls = len(host.helper.calls)
        await rebooted.volumes.detach(whole)
        assert len(host.helper.calls) == calls
        host.helper.attaches(device)
        host.helper.script("detach", "")
        made = await rebooted.attach(whole, connection(another=True))
        assert made.path == str(device)
        await rebooted.volumes.detach(whole)
    assert left_in(host.run) == []
