"""Adapters of vendors, which may do anything: which program it is, and what comes of its answer."""

import json
import os
import stat
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from engine.adapter_programs import AdapterPrograms, Driver
from engine.managed_storage import ManagedStorage, Times
from protocol.errors import (
    AdapterFailed,
    AdapterGarbage,
    AdapterMissing,
    AdapterStalled,
    BadParameter,
    Error,
    NoSuchManagedSnapshot,
    NoSuchManagedVolume,
    UnsupportedOperation,
)
from protocol.managed import Connector
from tests.servers import until, users

VOLUME = "8f1a9a40-2f8e-4a4f-9a3a-7c7f1d1c0001"
HOST = Connector("host1", initiator="iqn.2026-01.org.example:host1")
SECRET = 'pass"word 1234'
ANSWER = 'echo "$4:'  # begins the script of an adapter that answers; $4 is the correlation id


class Place:
    """Folders for adapters, as an engine has them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("managedblock", "cinderlib", "ours"):
            (folder / name).mkdir()
        self.programs = AdapterPrograms(
            folder / "managedblock", folder / "cinderlib", folder / "ours", "postgresql://u:p@h/d"
        )

    def add(self, name: str, script: str, folder: str = "managedblock") -> Path:
        """A program that is a shell script. It leaves its arguments in the file `argv`."""
        path = self.folder / folder / name
        record = f'printf "%s\\n" "$@" > {self.folder}/argv; cat > {self.folder}/stdin'
        path.write_text(f"#!/bin/sh\n{record}\n{script}\n")
        path.chmod(0o755)
        return path

    @property
    def argv(self) -> list[str]:
        return (self.folder / "argv").read_text().splitlines()

    @property
    def stdin(self) -> str:
        return (self.folder / "stdin").read_text()

    def storage(self, seconds: float = 20.0, **options: Any) -> ManagedStorage:
        driver = Driver({"adapter": "array", "pool": "p1", **options}, {"password": SECRET})
        return ManagedStorage(driver, self.programs, Times(seconds, seconds))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# --- which program --------------------------------------------------------------------------------


def test_the_first_folder_that_has_the_adapter_is_taken(place: Place) -> None:
    driver = Driver({"adapter": "array"})
    for folder in ("ours", "cinderlib", "managedblock"):
        path = place.add("array-adapter", "", folder)
        found = place.programs.program(driver)
        assert (found.path, found.ours) == (path, folder == "ours")


def test_without_the_option_it_is_the_client_of_cinderlib(place: Place) -> None:
    with pytest.raises(AdapterMissing, match="cinderlib-client"):
        place.programs.program(Driver({"volume_driver": "x"}))
    path = place.add("cinderlib-client.py", "", "cinderlib")
    found = place.programs.program(Driver({"volume_driver": "x"}))
    assert (found.adapter, found.path, found.ours) == ("cinderlib", path, False)


def test_an_adapter_that_is_not_there_is_told_with_the_places(place: Place) -> None:
    with pytest.raises(AdapterMissing) as caught:
        place.programs.program(Driver({"adapter": "array"}))
    for folder in ("managedblock", "cinderlib", "ours"):
        assert str(place.folder / folder / "array-adapter") in str(caught.value)


@pytest.mark.parametrize("what", ["a folder", "not executable", "a link to nothing"])
def test_what_is_no_program_is_not_passed_over(place: Place, what: str) -> None:
    place.add("array-adapter", "", "ours")
    path = place.folder / "managedblock" / "array-adapter"
    if what == "a folder":
        path.mkdir()
    elif what == "not executable":
        place.add("array-adapter", "").chmod(stat.S_IRUSR)
    else:
        path.symlink_to("nowhere")
    if what == "not executable" and os.geteuid() == 0:
        path.chmod(0o600)
    with pytest.raises(AdapterMissing, match="managedblock/array-adapter"):
        place.programs.program(Driver({"adapter": "array"}))


@pytest.mark.parametrize(
    "name", ["", "../array", "array/..", "Array", "-array", "a b", "array\n", "ä", "a" * 64, 7, []]
)
def test_only_a_name_can_be_an_adapter(place: Place, name: Any) -> None:
    place.add("array-adapter", "")
    with pytest.raises(BadParameter):
        place.programs.program(Driver({"adapter": name}))


# --- what it is given -----------------------------------------------------------------------------


async def test_a_vendors_adapter_is_called_as_by_the_engine_of_ovirt(place: Place) -> None:
    path = place.add("array-adapter", f'pwd > ../where; {ANSWER}"')
    await place.storage().create_volume(VOLUME, 5)
    command, driver, database, correlation, *rest = place.argv
    assert (command, database, rest) == ("create_volume", "postgresql://u:p@h/d", [VOLUME, "5"])
    assert json.loads(driver) == {"adapter": "array", "pool": "p1", "password": SECRET}
    assert len(correlation) == 36
    assert place.stdin == ""
    assert (place.folder / "where").read_text().strip() == str(path.parent)


async def test_one_that_reads_its_secrets_gets_none_in_an_argument(place: Place) -> None:
    place.add("array-adapter", f'{ANSWER}"')
    await place.storage(secrets="stdin").delete_volume(VOLUME)
    assert "pass" not in "".join(place.argv)
    assert json.loads(place.stdin) == {"password": SECRET}


async def test_ours_gets_neither_secrets_nor_the_database_in_an_argument(place: Place) -> None:
    place.add("array-adapter", f'{ANSWER}"', "ours")
    await place.storage().delete_volume(VOLUME)
    assert "pass" not in "".join(place.argv)
    assert place.argv[2] == "-"
    assert json.loads(place.argv[1])["secrets"] == "stdin"
    assert json.loads(place.stdin) == {"password": SECRET}


async def test_only_ours_gets_arguments_that_are_not_in_the_protocol_of_ovirt(place: Place) -> None:
    storage = place.storage()
    for folder in ("ours", "managedblock"):
        place.add("array-adapter", f'{ANSWER}s1"', folder)
        ours = folder == "ours"
        await storage.disconnect_volume(VOLUME, HOST)
        assert len(place.argv[4:]) == (2 if ours else 1)
        await storage.create_snapshot(VOLUME, "s2")
        assert place.argv[4:] == ([VOLUME, "s2"] if ours else [VOLUME])
        await storage.create_volume_from_snapshot(VOLUME, "s1", "new")
        assert place.argv[4:] == ([VOLUME, "s1", "new"] if ours else [VOLUME, "s1"])
    for call in (storage.list_volumes, lambda: storage.volume_info(VOLUME)):
        with pytest.raises(UnsupportedOperation):
            await call()


async def test_the_words_of_remove_snapshot_stand_the_other_way_round(place: Place) -> None:
    place.add("array-adapter", f'{ANSWER}"')
    await place.storage().remove_snapshot(VOLUME, "s1")
    assert place.argv[4:] == ["s1", VOLUME]


# --- what it answers ------------------------------------------------------------------------------


async def test_the_answer_is_the_first_line_with_the_correlation_id(place: Place) -> None:
    script = 'echo "warning: old"; echo "x $4:no"; printf "$4:s1\\r\\n"; echo "$4:s2"; echo error:x'
    place.add("array-adapter", script)
    assert await place.storage().create_snapshot(VOLUME) == "s1"


async def test_a_blank_after_the_correlation_id_will_do(place: Place) -> None:
    place.add("array-adapter", 'echo "$4 s1"')
    assert await place.storage().create_snapshot(VOLUME) == "s1"


async def test_the_connection_is_passed_on_as_it_came(place: Place) -> None:
    info = {"driver_volume_type": "array", "adapter": "array", "data": {"x": [1, {"y": None}]}}
    place.add("array-adapter", f"echo \"$4:\"'{json.dumps(info)}'")
    found = await place.storage().connect_volume(VOLUME, HOST)
    assert (found.driver_volume_type, found.adapter) == ("array", "array")
    assert found.data == info["data"]
    assert json.loads(place.argv[5])["initiator"] == HOST.initiator


async def test_only_who_says_so_has_made_a_volume_that_reads_as_zeros(place: Place) -> None:
    for answer, zeros in {"": False, "made": False, '{"created":true}': True, "{}": False}.items():
        place.add("array-adapter", f"echo \"$4:\"'{answer}'")
        assert await place.storage().create_volume(VOLUME, 1) is zeros


@pytest.mark.parametrize(
    "script",
    [
        "true",
        "echo '<html>'",
        'echo "$4:<html>"',
        'echo "$4:"',
        'echo "$4:[]"',
        'echo "$4:{}"',
        'echo "$4:{\\"driver_volume_type\\":1,\\"data\\":{}}"',
        'echo "$4:{\\"driver_volume_type\\":\\"x\\"}"',
        'printf "$4:\\377\\376"',
        'printf "$4:"; yes "[" | head -c 100000 | tr -d "\\n"',
        "yes | head -c 9000000",
    ],
)
async def test_a_connection_that_cannot_be_read_is_garbage(place: Place, script: str) -> None:
    place.add("array-adapter", script)
    with pytest.raises(AdapterGarbage) as caught:
        await place.storage().connect_volume(VOLUME, HOST)
    assert caught.value.command == "connect_volume"
    assert len(str(caught.value)) < 300


# What ends with status 0 and is no answer; for an engine all of it is lines of a log.
SILENT = {
    "nothing": "true",
    "a log": 'echo "12:00 INFO Deleting volume"; echo "12:01 DEBUG $4: done"',
    "a log on the other output": 'echo "$4:" >&2',
    "a page": "echo '<html>502</html>'",
    "no text": "printf '\\377\\376\\n'",
    "an answer to another call": "echo 8f1a9a40-0000-4000-8000-000000000000:done",
}


@pytest.mark.parametrize("script", SILENT.values(), ids=SILENT)
async def test_the_status_of_a_vendors_adapter_tells_where_there_is_nothing_to_answer(
    place: Place, script: str
) -> None:
    place.add("array-adapter", script)
    storage = place.storage()
    assert await storage.create_volume(VOLUME, 1) is False
    await storage.disconnect_volume(VOLUME, HOST)
    await storage.extend_volume(VOLUME, 2)
    await storage.save_device(VOLUME, {})
    await storage.clone_volume(VOLUME, "new")
    await storage.remove_snapshot(VOLUME, "s1")
    await storage.delete_volume(VOLUME)
    for call in (lambda: storage.create_snapshot(VOLUME), storage.storage_stats):
        with pytest.raises(AdapterGarbage):
            await call()


@pytest.mark.parametrize("script", SILENT.values(), ids=SILENT)
async def test_an_adapter_of_ours_that_does_not_answer_has_not_succeeded(
    place: Place, script: str
) -> None:
    place.add("array-adapter", script, "ours")
    with pytest.raises(AdapterGarbage) as caught:
        await place.storage().disconnect_volume(VOLUME)
    assert caught.value.command == "disconnect_volume"


@pytest.mark.parametrize("answer", ["", "two words", "\\001", "x" * 300])
async def test_a_snapshot_whose_id_cannot_be_read_is_garbage(place: Place, answer: str) -> None:
    place.add("array-adapter", f'printf "$4:{answer}\\n"')
    with pytest.raises(AdapterGarbage):
        await place.storage().create_snapshot(VOLUME)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo error: the array is on fire; exit 1", "the array is on fire"),
        ("echo error: the array is on fire >&2; exit 1", "the array is on fire"),
        ("echo error: the array is on fire; exit 0", "the array is on fire"),
        ("echo Traceback >&2; echo ValueError: nine >&2; exit 3", "status 3: ValueError: nine"),
        ("exit 3", "status 3"),
        ("kill -9 $$", "signal 9"),
        ("kill -TERM $$", "signal 15"),
    ],
)
async def test_an_error_says_why(place: Place, script: str, reason: str) -> None:
    place.add("array-adapter", script)
    with pytest.raises(AdapterFailed) as caught:
        await place.storage().delete_volume(VOLUME)
    assert caught.value.reason.endswith(reason)


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        (f"Volume '{VOLUME}' not found", NoSuchManagedVolume),
        ("Volume '%s' not found", NoSuchManagedVolume),
        (f"Volume {VOLUME} could not be found.", NoSuchManagedVolume),
        (f"volume {VOLUME} does not exist", NoSuchManagedVolume),
        ("Snapshot 's1' not found", NoSuchManagedSnapshot),
        ("Snapshot '%s' not found", NoSuchManagedSnapshot),
        ("volume group vg0 not found", None),
        ("Volume type gold could not be found", None),
        ("Volume 8f1a9a40 not found", None),
    ],
)
@pytest.mark.parametrize("status", [0, 1])
async def test_not_found_is_an_error_also_with_status_0(
    place: Place, status: int, text: str, missing: type[Error] | None
) -> None:
    """cinderlib's client prints it as an answer; about something else it must not be mistaken."""
    prefix = "$4:" if status == 0 else "error:"
    place.add("array-adapter", f'echo "{prefix}{text}"; exit {status}')
    storage = place.storage()
    if missing is not None:
        with pytest.raises(missing) as caught:
            await storage.remove_snapshot(VOLUME, "s1")
        assert VOLUME in str(caught.value)
    elif status:
        with pytest.raises(AdapterFailed):
            await storage.remove_snapshot(VOLUME, "s1")


async def test_no_error_tells_a_secret(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Also as the option stands in JSON, and when the program prints what it was given."""
    caplog.set_level("DEBUG")
    place.add("array-adapter", 'echo "error: cannot log in with $2"; exit 1')
    with pytest.raises(AdapterFailed) as caught:
        await place.storage().delete_volume(VOLUME)
    told = str(caught.value) + repr(caught.value) + caplog.text + repr(place.storage())
    assert "cannot log in" in told
    assert "word 1234" not in told
    assert "u:p@h" not in repr(place.programs)


# --- one that does not end ------------------------------------------------------------------------


async def test_one_that_hangs_is_ended_with_what_it_started(place: Place) -> None:
    mark = place.folder / "mark"
    hanging = f"trap '' TERM; (trap '' TERM; exec tail -f {mark}) & touch {mark}; wait; wait"
    place.add("array-adapter", f"{hanging}; sleep 1000000")
    begun = time.monotonic()
    with pytest.raises(AdapterStalled) as caught:
        await place.storage(seconds=0.7).delete_volume(VOLUME)
    assert (caught.value.command, caught.value.seconds) == ("delete_volume", 0.7)
    assert time.monotonic() - begun < 15
    await until(lambda: not users(mark))


async def test_a_child_that_keeps_the_output_open_is_not_waited_for(place: Place) -> None:
    mark = place.folder / "mark"
    place.add("array-adapter", f'touch {mark}; tail -f {mark} & echo "$4:s1"')
    begun = time.monotonic()
    assert await place.storage().create_snapshot(VOLUME) == "s1"
    assert time.monotonic() - begun < 10
    for pid in users(mark):
        os.kill(pid, 9)


async def test_one_that_closes_its_output_and_hangs_is_ended(place: Place) -> None:
    place.add("array-adapter", 'echo "$4:s1"; exec >&- 2>&-; sleep 1000000')
    with pytest.raises(AdapterStalled):
        await place.storage(seconds=0.7).create_snapshot(VOLUME)


async def test_commands_that_move_data_have_longer(place: Place) -> None:
    place.add("array-adapter", f'sleep 1; {ANSWER}s1"')
    storage = replace(place.storage(), times=Times(short=0.3, data=20.0))
    with pytest.raises(AdapterStalled):
        await storage.extend_volume(VOLUME, 2)
    assert await storage.create_snapshot(VOLUME) == "s1"
    await storage.delete_volume(VOLUME)  # which removes it


async def test_of_one_driver_a_few_calls_run_at_once(place: Place, tmp_path: Path) -> None:
    go, here = tmp_path / "go", tmp_path / "here"
    here.mkdir()
    wait = f"until test -e {go}; do sleep 0.05; done"
    place.add("array-adapter", f'touch {here}/$$; {wait}; {ANSWER}"')
    place.programs = replace(place.programs, at_once=2)

    async def begun(number: int) -> None:
        await until(lambda: len(list(here.iterdir())) == number)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(place.storage().delete_volume, VOLUME)
            await begun(2)
            # Another domain does not wait for this one.
            nursery.start_soon(place.storage(pool="p2").delete_volume, VOLUME)
            await begun(3)
            turns = place.programs._turns.values()
            assert [one.statistics().tasks_waiting for one in turns] == [3, 0]
            go.touch()
    assert len(list(here.iterdir())) == 6
