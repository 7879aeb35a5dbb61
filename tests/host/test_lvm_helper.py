"""leasehold-lvm-helper takes nothing from its caller but a word of its list and names of ours.

It is run with a program in the place of LVM that tells how it was called.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest

from host.config import LocalDisk
from host.helpers import bounded, lvm
from processes.lvm_operation import READ_TIME, READS, STALLED, Operation
from protocol.errors import BadParameter
from tests.cli.run import until

TOP = Path(__file__).parents[2]
DISK = "77777777-7777-4888-8999-aaaaaaaaaaaa"
IMAGE = "IU_66666666-7777-4888-8999-aaaaaaaaaaaa"
CONFIGURATION = """
[listen]
socket = "/run/other.socket"

[localdisk]
volume_group = "vg-local"
thin_pool = "thin"
devices = ["/dev/vdb"]
"""
TELLING = """#!{python} -I
import json, os, sys
print(json.dumps([sys.argv, dict(os.environ), os.getcwd()]))
sys.exit(5)
"""
# Waits as LVM does for a lock that somebody has; NAME.pid says that it does.
WAITING = """#!{python} -I
import os, signal, sys
{first}
with open(sys.argv[0] + ".new", "w") as file:
    file.write(str(os.getpid()))
os.rename(sys.argv[0] + ".new", sys.argv[0] + ".pid")
while True:
    signal.pause()
"""
# A signal that is blocked waits, too: what LVM lets through is SIGINT and SIGTERM.
DEAF = "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())"
PATIENCE = 60.0  # seconds
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="root must own the configuration")


class Told(msgspec.Struct, array_like=True):
    argv: list[str]
    environment: dict[str, str]
    folder: str


@dataclass(frozen=True)
class Host:
    """read_time, grace: seconds; those of the helper unless they are given."""

    configuration: Path
    lvm: Path
    read_time: float = READ_TIME
    grace: float = bounded.GRACE

    def call(self, *words: str, **environment: str) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            self.argv(*words),
            env={**os.environ, **environment, "PYTHONPATH": str(TOP)},
            capture_output=True,
            check=False,
            timeout=PATIENCE,
        )

    @contextmanager
    def running(self, *words: str) -> Iterator["subprocess.Popen[bytes]"]:
        """A call of an LVM that waits, in the middle. Both are ended at the end of the body."""
        environment = {**os.environ, "PYTHONPATH": str(TOP)}
        process = subprocess.Popen(self.argv(*words), env=environment, stdout=subprocess.PIPE)
        with process:
            try:
                until(lambda: process.poll() is not None or self.waits.exists())
                assert process.poll() is None
                yield process
            finally:
                process.kill()
                with suppress(ProcessLookupError):
                    os.kill(self.waiting, signal.SIGKILL)

    def argv(self, *words: str) -> list[str]:
        run = (
            "import sys; from pathlib import Path; from host.helpers import bounded, lvm;"
            f"lvm.LVM = ({str(self.lvm)!r},);"
            f"lvm.READ_TIME, bounded.GRACE = {self.read_time}, {self.grace};"
            f"lvm._become(sys.argv[1:], Path({str(self.configuration)!r}))"
        )
        return [sys.executable, "-c", run, *words]

    @property
    def waits(self) -> Path:
        """With the id of the process of an LVM that waits."""
        return self.lvm.with_suffix(".pid")

    @property
    def waiting(self) -> int:
        return int(self.waits.read_text())

    def has_waiting(self, first: str = "") -> None:
        """From now on LVM waits for ever. first: what it does before that."""
        self.lvm.write_text(WAITING.format(python="/usr/bin/python3", first=first))

    def told(self, *words: str, **environment: str) -> Told:
        done = self.call(*words, **environment)
        assert done.returncode == 5, done.stderr  # that of LVM
        return msgspec.json.decode(done.stdout, type=Told)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    folder = tmp_path / "etc"
    folder.mkdir(mode=0o755)
    made = Host(folder / "host.toml", tmp_path / "lvm")
    made.configuration.write_text(CONFIGURATION)
    made.configuration.chmod(0o644)
    made.lvm.write_text(TELLING.format(python="/usr/bin/python3"))
    made.lvm.chmod(0o755)
    return made


@as_root
def test_group_and_devices_are_those_of_the_configuration(host: Host) -> None:
    argv = host.told("create", DISK, str(1 << 30), "thin", "UPDATING", IMAGE).argv
    assert argv[1:] == [
        *("lvcreate", "--config"),
        'devices { use_devicesfile=0 filter=["a|^/dev/vdb$|","r|.*|"] }',
        *("--yes", "--wipesignatures", "n", "--name", DISK),
        *("--addtag", "UPDATING", "--addtag", IMAGE),
        *("--type", "thin", "--virtualsize", "1073741824b", "--thinpool", "thin", "vg-local"),
    ]


@as_root
def test_nothing_of_the_environment_reaches_lvm(host: Host) -> None:
    told = host.told(
        "volumes",
        LVM_SYSTEM_DIR="/tmp/evil",
        LD_PRELOAD="/tmp/evil.so",
        LEASEHOLD_LOCALDISK_VOLUME_GROUP="rootvg",
        PATH="/tmp/evil",
    )
    given = {k: v for k, v in told.environment.items() if k != "LC_CTYPE"}  # of Python itself
    assert given == lvm.ENVIRONMENT
    assert told.argv[-1] == "vg-local"
    assert told.folder == "/"


@as_root
@pytest.mark.parametrize("first", ["", DEAF], ids=["", "deaf"])
def test_a_look_that_lvm_does_not_answer_is_ended(host: Host, first: str) -> None:
    host.has_waiting(first)
    done = replace(host, read_time=0.2, grace=0.2).call("volumes")
    assert (done.returncode, done.stdout) == (STALLED, b"")
    assert b"LVM gave no answer in 0.2 s" in done.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(host.waiting, 0)


@as_root
@pytest.mark.parametrize("words", [["volumes"], ["volume", DISK], ["group"], ["pool", "thin"]])
def test_a_look_ends_when_nobody_reads_it_any_more(host: Host, words: list[str]) -> None:
    """So who may not end it can abort it, and it does not outlive an agent that dies."""
    assert words[0] in READS
    host.has_waiting()
    with replace(host, read_time=3600).running(*words) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(PATIENCE) == STALLED
    with pytest.raises(ProcessLookupError):
        os.kill(host.waiting, 0)


@as_root
@pytest.mark.parametrize(
    "words",
    [["change", DISK, f"={IMAGE}", "+STARTED"], ["remove", DISK, f"={IMAGE}"], ["wake", "thin"]],
    ids=lambda words: words[0],
)
def test_a_change_is_lvm_itself_which_nothing_cuts_off(host: Host, words: list[str]) -> None:
    host.has_waiting()
    with host.running(*words) as process:
        assert host.waiting == process.pid


@as_root
def test_a_look_during_which_lvm_is_killed_says_so(host: Host) -> None:
    host.has_waiting("os.kill(os.getpid(), signal.SIGKILL)")
    assert host.call("volumes").returncode == 128 + signal.SIGKILL


@as_root
@pytest.mark.parametrize(
    "words",
    [
        [],
        ["vgs"],
        ["--help"],
        ["remove", "root"],
        ["remove", "vg-local/thin"],
        ["remove", "../../dev/sda"],
        ["remove", f"{DISK}\n"],
        ["remove", DISK],
        ["remove", DISK, f"={IMAGE}", "--force"],
        ["activate", DISK, f"={IMAGE}", "--config", "devices/scan=/tmp"],
        ["create", DISK, "512", "thin", "@x"],
        ["create", DISK, "512", "-", "--type=raid1"],
        ["change", DISK, "+x"],
    ],
    ids=lambda words: " ".join(words)[:30],
)
def test_a_call_that_is_none_of_its_own_reaches_no_lvm(host: Host, words: list[str]) -> None:
    done = host.call(*words)
    assert (done.returncode, done.stdout) == (os.EX_USAGE, b"")
    assert done.stderr.startswith(b"leasehold-lvm-helper: bad parameter")


@as_root
@pytest.mark.parametrize(
    "words", [["wake", "other"], ["pool", "other"], ["create", DISK, "512", "other", IMAGE]]
)
def test_only_the_configured_pool_is_used(host: Host, words: list[str]) -> None:
    done = host.call(*words)
    assert (done.returncode, done.stdout) == (os.EX_NOPERM, b"")
    assert b"other is not that of this host, thin" in done.stderr


@as_root
@pytest.mark.parametrize("mode", [0o646, 0o664, 0o666])
def test_a_configuration_that_others_can_write_is_refused(host: Host, mode: int) -> None:
    host.configuration.chmod(mode)
    done = host.call("volumes")
    assert (done.returncode, done.stdout) == (os.EX_CONFIG, b"")
    assert b"only root can write" in done.stderr


@as_root
@pytest.mark.parametrize("place", ["file", "folder"])
def test_a_configuration_of_another_user_is_refused(host: Host, place: str) -> None:
    changed = host.configuration if place == "file" else host.configuration.parent
    os.chown(changed, 65534, -1)
    assert host.call("volumes").returncode == os.EX_CONFIG


@as_root
def test_a_configuration_in_a_folder_that_others_can_write_is_refused(host: Host) -> None:
    host.configuration.parent.chmod(0o777)
    assert host.call("volumes").returncode == os.EX_CONFIG


@as_root
@pytest.mark.parametrize("place", ["file", "folder"])
def test_a_configuration_behind_a_link_is_refused(host: Host, place: str) -> None:
    changed = host.configuration if place == "file" else host.configuration.parent
    moved = changed.rename(changed.parent / "elsewhere")
    changed.symlink_to(moved)
    done = host.call("volumes")
    assert (done.returncode, done.stdout) == (os.EX_CONFIG, b"")


@as_root
@pytest.mark.parametrize(
    "text",
    [
        "[localdisk",
        "[localdisk]\nvolume_group = '-x'",
        "[localdisk]\ndevices = ['/etc/passwd']",
        "[localdisk]\nno_such = 1",
        "[localdisk]\nvolume_group = 'a/b'",
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(host: Host, text: str) -> None:
    host.configuration.write_text(text)
    done = host.call("volumes")
    assert (done.returncode, done.stdout) == (os.EX_CONFIG, b"")


@as_root
def test_without_a_configuration_it_has_its_defaults(host: Host) -> None:
    host.configuration.unlink()
    assert host.told("volumes").argv[-1] == "ovirt-local"
    host.configuration.parent.rmdir()
    assert host.told("volumes").argv[-1] == "ovirt-local"


@as_root
def test_a_host_without_lvm_is_told_the_package(host: Host) -> None:
    host.lvm.unlink()
    done = host.call("volumes")
    assert done.returncode == os.EX_CONFIG
    assert b"lvm2" in done.stderr


def test_its_program_is_installed_under_the_name_that_sudo_lets_in() -> None:
    rules = (TOP / "packaging" / "sudoers.d" / "leasehold-lvm").read_text()
    assert "= /usr/local/bin/leasehold-lvm-helper\n" in rules
    assert (TOP / ".venv" / "bin" / "leasehold-lvm-helper").exists()


@pytest.mark.tools("visudo")
def test_sudo_can_read_its_rules(tmp_path: Path) -> None:
    copy = tmp_path / "leasehold-lvm"
    copy.write_bytes((TOP / "packaging" / "sudoers.d" / "leasehold-lvm").read_bytes())
    copy.chmod(0o440)
    subprocess.run(["visudo", "-c", "-q", "-f", copy], check=True)


def test_a_pool_is_allowed_by_its_name_alone() -> None:
    allowed = LocalDisk(volume_group="vg", thin_pool="thin")
    assert lvm.composed(Operation("wake", "thin"), allowed)[-1] == "vg/thin"
    with pytest.raises(BadParameter, match="thin2"):
        lvm.composed(Operation("pool", "thin2"), allowed)
