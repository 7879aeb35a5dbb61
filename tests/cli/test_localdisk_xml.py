"""`leasehold localdisk xml`: the command as a filter."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.run import COMMAND, Cli, Ended

VOLUME = "77777777-8888-4999-8aaa-bbbbbbbbbbbb"
XML = b"""<domain><devices>\r
  <disk type='file'><driver type="qcow2"/><source file='/a=b'/><target dev='vda'/></disk>
  <disk type='network'><source protocol='rbd' name='p/i'/><target dev='vdb'/></disk>
</devices></domain>"""
LOCAL = XML.replace(b"type='file'", b"type='block'").replace(b'"qcow2"', b'"raw"')
LOCAL = LOCAL.replace(b"file='/a=b'", f"dev='/dev/ovirt-local/{VOLUME}'".encode())


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path / "home")


def filtered(cli: Cli, text: bytes, *arguments: object, **environment: str) -> Ended:
    done = subprocess.run(
        [*COMMAND, "localdisk", "xml", *map(str, arguments)],
        env={**cli.environment, **environment},
        input=text,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert b"Traceback" not in done.stderr, done
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.mark.parametrize("disk", ["vda", "/a=b"])
def test_standard_input_is_printed_with_local_disks_and_no_byte_more(cli: Cli, disk: str) -> None:
    done = filtered(cli, XML, f"{disk}={VOLUME}")
    assert (done.code, done.out, done.err) == (0, LOCAL.decode(), "")


def test_several_disks_become_local_on_devices_that_are_named(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "vm.xml"
    file.write_bytes(XML)
    words = [f"vda={VOLUME.upper()}", "p/i=/dev/vg/other", "--file", file]
    done = filtered(cli, b"", *words, "--volume-group", "fast")
    expected = LOCAL.replace(b"ovirt-local", b"fast").replace(
        b"'network'><source protocol='rbd' name='p/i'/>", b"'block'><source dev='/dev/vg/other'/>"
    )
    assert (done.code, done.out) == (0, expected.decode())
    named = filtered(cli, XML, *words[:2], LEASEHOLD_LOCALDISK_VOLUME_GROUP="fast")
    assert named.out == done.out


def test_json_holds_the_xml_and_what_was_changed(cli: Cli) -> None:
    done = filtered(cli, XML, f"vda={VOLUME}", "--json")
    path = f"/dev/ovirt-local/{VOLUME}"
    assert done.json == {"xml": LOCAL.decode(), "disks": [{"disk": "vda", "path": path}]}


def test_nothing_is_printed_of_xml_in_which_no_disk_matches(cli: Cli) -> None:
    done = filtered(cli, XML, f"vda={VOLUME}", "vdc=/dev/x/y")
    assert (done.code, done.out) == (3, "")
    assert "vda, vdb" in done.err
    assert filtered(cli, XML, "vdc=/dev/x/y", "--json").error["kind"] == "NoSuchDisk"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"no xml",
        b"<domain>",
        b'<!DOCTYPE d [<!ENTITY a SYSTEM "/etc/passwd">]><domain>&a;</domain>',
        XML.replace(b"<devices>", b"<devices>&a;"),
        XML.ljust(10 << 20),
    ],
    ids=["empty", "text", "half", "entity", "reference", "long"],
)
def test_hostile_xml_is_bad_input(cli: Cli, text: bytes) -> None:
    done = filtered(cli, text, f"vda={VOLUME}")
    assert (done.code, done.out) == (2, "")
    assert "domain XML" in done.err


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["vda"],
        ["=x"],
        ["vda="],
        ["vda=x"],
        ["vda=../x"],
        ["vda=/dev/../x"],
        ["vda=/etc/passwd"],
        ["vda=/dev/x\n"],
        ["vda=/dev/"],
        [f"vda={VOLUME}", "vda=/dev/x/y"],
        [f"vda={VOLUME}", "/a=b=/dev/x/y"],
        [f"vda={VOLUME}", f"vdb={VOLUME}"],
        [f"vda={VOLUME}", "--volume-group", "../x"],
        [f"vda={VOLUME}", "--volume-group", ".."],
        [f"vda={VOLUME}", "--volume-group", ""],
        [f"vda={VOLUME}", "--file", "/nowhere"],
        [f"vda={VOLUME}", "--file", "/"],
    ],
    ids=repr,
)
def test_bad_words_are_refused(cli: Cli, words: list[str]) -> None:
    done = filtered(cli, XML, *words)
    assert (done.code, done.out) == (2, ""), done


def test_a_result_that_cannot_be_written_is_an_error(cli: Cli) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COMMAND, "localdisk", "xml", f"vda={VOLUME}"],
            env=cli.environment,
            input=XML,
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=30,
            check=False,
        )
    assert (done.returncode, b"cannot be written" in done.stderr) == (1, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_while_it_waits_for_input(cli: Cli, number: signal.Signals) -> None:
    with subprocess.Popen(
        [*COMMAND, "localdisk", "xml", f"vda={VOLUME}"],
        env=cli.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        while "pipe" not in _waits_for(process.pid):
            assert process.poll() is None
        process.send_signal(number)
        assert process.wait(30) == 4


def _waits_for(pid: int) -> str:
    """What the threads of a process wait for in the kernel, as far as it tells."""
    found = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            number, first, *_ = (thread / "syscall").read_text().split()
        except (OSError, ValueError):
            continue
        if (number, first) == ("0", "0x0"):  # read(0, ...), x86-64
            found.append(os.readlink(f"/proc/{pid}/fd/0"))
    return " ".join(found)
