"""Adapters, helpers and the command itself die or talk nonsense: nothing is left behind."""

import json
import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.cli.managed_storage import NAME, Storage, Vendor, storage, vendor
from tests.cli.run import ended, until
from tests.conformance.adapters import TOOLS

pytestmark = pytest.mark.tools(*TOOLS["file"])

# What goes wrong in a program, as Python; the first are answers that nobody can read.
GARBAGE = "print('x' * 100); sys.exit(0)"
NO_JSON = "print(correlation + ':{no json'); sys.exit(0)"
FAILS = "print('error:it is broken'); sys.exit(1)"
DIES = "import signal; os.kill(os.getpid(), signal.SIGKILL)"
# It does its work first, and then nobody hears of it.
LATE = "import subprocess; subprocess.run(argv, capture_output=True)\n"
BAD = {"garbage": GARBAGE, "no json": NO_JSON, "fails": FAILS, "dies": DIES}
BAD |= {f"late: {name}": LATE + text for name, text in BAD.items()}
# The answers of other commands are not read: vendors print what they like.
FAILING = [how for how in BAD if how.endswith(("fails", "dies"))]


def but_full(names: Iterable[str], *quick: str) -> list[Any]:
    """Each name as a parameter; those that are not `quick` are of the long series."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.full) for name in names]


@pytest.fixture
def array(tmp_path: Path) -> Iterator[Vendor]:
    with vendor(tmp_path) as made:
        yield made


def given(array: Vendor) -> str:
    """A volume that is there."""
    volume: str = array.cli.done("volume", "create", NAME, "--size", "1G")["id"]
    return volume


def nothing_left(array: Vendor) -> None:
    assert array.connected() == []
    assert array.processes() == []
    assert array.cli.done("list") == {"volumes": []}
    notes = array.cli.home / "managed-connections.json"
    assert not notes.exists() or json.loads(notes.read_text())["connections"] == []
    run = array.cli.home / "managed" / "run"
    assert not run.exists() or list(run.iterdir()) == []


def attaches_and_detaches(array: Vendor, volume: str) -> None:
    array.usual()
    array.cli.done("attach", NAME, volume)
    assert len(array.connected()) == 1
    assert array.cli.done("detach", NAME, volume)["detached"] is True
    nothing_left(array)


@pytest.mark.sample(6)
@pytest.mark.parametrize(
    "fault",
    but_full(
        [f"connect_volume: {how}" for how in BAD] + [f"save_device: {how}" for how in FAILING],
        "connect_volume: no json",
        "connect_volume: late: dies",
        "save_device: late: fails",
    ),
)
def test_an_adapter_that_fails_leaves_nothing_attached(array: Vendor, fault: str) -> None:
    command, _, how = fault.partition(": ")
    volume = given(array)
    array.script(command, BAD[how])
    told = array.cli.managed("attach", NAME, volume, "--json")
    assert (told.code, bool(told.error["message"])) == (1, True), told
    nothing_left(array)
    attaches_and_detaches(array, volume)


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "script", ["sys.exit('broken')", "print('nonsense')", "os.kill(os.getpid(), 9)"]
)
def test_a_helper_that_fails_leaves_nothing_connected(array: Vendor, script: str) -> None:
    volume = given(array)
    array.helper.script("attach", script)
    told = array.cli.managed("attach", NAME, volume, "--json")
    assert (told.code, told.error["code"]) == (1, 926)
    nothing_left(array)
    assert array.calls[-1] == "disconnect_volume"
    array.helper.script("attach", array.attaching)
    attaches_and_detaches(array, volume)


def test_what_cannot_be_undone_is_told_and_can_be_detached(array: Vendor) -> None:
    volume = given(array)
    array.script("save_device", FAILS)
    array.script("disconnect_volume", FAILS)
    told = array.cli.managed("attach", NAME, volume)
    assert told.code == 1
    assert f"`leasehold managed detach {NAME} {volume}` tries again" in told.err
    [row] = array.cli.done("list")["volumes"]
    assert row["state"] == "connected"
    assert array.cli.managed("volume", "delete", NAME, volume).code == 6
    array.usual()
    assert array.cli.done("detach", NAME, volume)["detached"] is True
    nothing_left(array)


def test_a_detach_that_fails_can_be_repeated(array: Vendor) -> None:
    volume = given(array)
    array.cli.done("attach", NAME, volume)
    array.helper.script("detach", "sys.exit('broken')")
    assert array.cli.managed("detach", NAME, volume).code == 1
    assert len(array.connected()) == 1, "it was disconnected before it was detached"
    array.helper.script("detach", "print('{}')")
    array.script("disconnect_volume", DIES)
    assert array.cli.managed("detach", NAME, volume).code == 1
    array.usual()
    array.cli.done("detach", NAME, volume)
    nothing_left(array)


@pytest.mark.parametrize("how", but_full(FAILING, "late: dies"))
def test_a_volume_that_nobody_got_to_know_is_deleted(array: Vendor, how: str) -> None:
    for command, words in (
        ("create_volume", ("volume", "create", NAME, "--size", "1G")),
        ("clone_volume", ("volume", "clone", NAME, given(array))),
    ):
        before = array.volumes()
        array.script(command, BAD[how])
        told = array.cli.managed(*words)
        assert told.code == 1, told
        assert array.volumes() == before
        array.usual()


def test_a_volume_whose_id_the_user_has_is_kept_for_the_next_attempt(array: Vendor) -> None:
    """It may have been there before, with data."""
    volume = str(uuid4())
    words = ("volume", "create", NAME, "--id", volume, "--size", "1G")
    array.script("create_volume", BAD["late: dies"])
    assert array.cli.managed(*words).code == 1
    assert array.volumes() == [volume]
    array.usual()
    assert array.cli.done(*words)["is_zero"] is False
    assert array.volumes() == [volume]


@pytest.mark.full
@pytest.mark.parametrize(
    "place",
    ["managed-attach:noted", "managed-attach:connected", "managed-attach:attached"]
    + [f"attach:{step}" for step in ("row", "access", "helper", "appeared", "stored")],
)
def test_a_command_that_is_killed_while_it_attaches_is_repeated_or_taken_back(
    tmp_path: Path, place: str
) -> None:
    with storage("file", tmp_path) as files:
        volume = files.volume()
        for again in (False, True):
            killed = files.cli.told(LEASEHOLD_DIE_AT=place).managed("attach", NAME, volume)
            assert killed.code == -signal.SIGKILL, killed
            listed = [row["volume"] for row in files.cli.done("list")["volumes"]]
            assert listed == [volume]
            if again and place not in ("managed-attach:attached", "attach:stored"):
                assert files.attach(volume).startswith("nbd+unix:")
            assert files.cli.done("detach", NAME, volume)["detached"] is True
            files.nothing_is_attached(volume)


@pytest.mark.parametrize(
    "place",
    but_full(
        ["managed-detach:detached", "managed-detach:disconnected"]
        + [f"detach:{step}" for step in ("helper", "link", "row")],
        "managed-detach:detached",
    ),
)
def test_a_command_that_is_killed_while_it_detaches_is_repeated(tmp_path: Path, place: str) -> None:
    with storage("file", tmp_path) as files:
        volume = files.volume()
        files.attach(volume)
        killed = files.cli.told(LEASEHOLD_DIE_AT=place).managed("detach", NAME, volume)
        assert killed.code == -signal.SIGKILL, killed
        assert files.cli.done("detach", NAME, volume)["detached"] is True
        files.nothing_is_attached(volume)


@pytest.mark.sample(1)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_while_an_adapter_hangs_leaves_nothing(array: Vendor, number: int) -> None:
    volume = given(array)
    hangs = f"open({str(array.folder / 'hangs')!r}, 'w').close()\nimport time; time.sleep(600)"
    array.script("save_device", hangs)
    with array.cli.started("managed", "attach", NAME, volume, "--json") as process:
        until((array.folder / "hangs").exists)
        os.kill(process.pid, number)
        told = ended(process)
    assert (told.code, told.error["code"]) == (4, 443)
    nothing_left(array)
    attaches_and_detaches(array, volume)


def test_two_who_attach_at_once_do_not_tear_it_from_each_other(tmp_path: Path) -> None:
    with storage("file", tmp_path) as files:
        volume = files.volume()
        words = ("managed", "attach", NAME, volume, "--json")
        with files.cli.started(*words) as one, files.cli.started(*words) as other:
            codes = sorted(ended(process).code for process in (one, other))
        assert codes == [0, 6]
        _attached_once(files, volume)
        files.cli.done("detach", NAME, volume)
        files.nothing_is_attached(volume)


def _attached_once(files: Storage, volume: str) -> None:
    assert [row["state"] for row in files.cli.done("list")["volumes"]] == ["attached"]
    assert len(files.hosts(volume)) == 1
