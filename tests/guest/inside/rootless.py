"""A host whose agent is not root, set up as docs/localdisk.md says, with a udev that runs."""

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cli.run import Ended
from tests.guest.inside.conftest import POOL
from tests.guest.inside.kept import USERS, kept

ROOT = Path(__file__).parents[3]
USER = "leasehold"
GROUP = "kvm"  # of the devices
RULE = Path("/etc/udev/rules.d/57-leasehold-localdisk.rules")
STATE = Path("/var/lib/leasehold")
AGENT = "unix:/run/leasehold/agent.socket"
UDEVD = "/lib/systemd/systemd-udevd"
DISKS = Path("/srv/disks")
TIME = 180.0  # seconds
LOOK = 0.1
CONFIGURATION = f"""\
[localdisk]
thin_pool = "{POOL}"
helper = ["sudo", "-n", "/usr/local/bin/leasehold-lvm-helper"]
keep = "0s"
[endpoints]
directories = ["{DISKS}"]
"""
MADE = (  # by the scripts that install, but for the units, and by the agent; gone at the end
    *(Path("/usr/local/bin", name) for name in ("leasehold", "leasehold-lvm-helper")),
    Path("/usr/local/bin/leasehold-hook-localdisk"),
    *(Path("/etc/sudoers.d/leasehold-lvm"), RULE),
    *(Path("/etc/leasehold/host.toml"), STATE, Path("/run/leasehold"), DISKS),
)


def run(*words: object) -> str:
    """A command that has to succeed; what it printed."""
    argv = [str(word) for word in words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=TIME, check=False)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


def until(true: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + TIME
    while not (answer := true()):
        assert time.monotonic() < deadline, what
        time.sleep(LOOK)
    return answer


@contextmanager
def udev() -> Iterator[None]:
    """A udev that runs, and LVM with its usual configuration, which leaves devices to udev."""
    folder = os.environ.pop("LVM_SYSTEM_DIR")
    process = subprocess.Popen([UDEVD], stdin=subprocess.DEVNULL)
    try:
        until(Path("/run/udev/control").exists, "no udev")
        # What was there before it; not the devices of LVM, which others have made.
        run("udevadm", "trigger", "--settle", "--subsystem-match=block", "--sysname-match=vd*")
        yield
    finally:
        process.terminate()
        process.wait(TIME)
        shutil.rmtree("/run/udev")  # LVM takes it for one that runs
        os.environ["LVM_SYSTEM_DIR"] = folder


@contextmanager
def installed() -> Iterator[None]:
    """As docs/localdisk.md says. There is no systemd here to start the agent."""
    with kept(*USERS, *MADE):
        run(ROOT / "scripts" / "install")
        run(ROOT / "packaging" / "rootless" / "install")
        configuration = Path("/etc/leasehold/host.toml")
        configuration.parent.mkdir(exist_ok=True)
        configuration.write_text(CONFIGURATION)
        DISKS.mkdir(parents=True)
        yield


def command(*words: object, user: str = USER) -> list[str]:
    """Of the user, as an administrator runs it."""
    return ["sudo", "-u", user, "leasehold", *map(str, words)]


def as_user(*words: object) -> Ended:
    """Run `leasehold` as the user."""
    done = subprocess.run(
        command(*words),
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIME,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Ended(done.returncode, done.stdout, done.stderr)


def told(*words: object) -> Any:
    """What a command of the user that succeeds tells, as JSON."""
    ended = as_user(*words, "--json")
    assert ended.code == 0, ended
    return ended.json


@contextmanager
def agent() -> Iterator[int]:
    """The process id of an agent that answers. As systemd starts it with the drop-in of the page:
    as the user, with the folder of its socket made for it."""
    account = pwd.getpwnam(USER)
    folder = Path("/run/leasehold")
    folder.mkdir(exist_ok=True)
    os.chown(folder, account.pw_uid, account.pw_gid)
    log = STATE / "agent.log"
    words = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups")
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*words, "/usr/local/bin/leasehold", "host", "serve"],
            env={"PATH": os.environ["PATH"], "HOME": account.pw_dir},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stderr=output,
        )
    try:
        until(lambda: process.poll() is not None or _answers(), f"no agent: {log.read_text()}")
        assert process.poll() is None, log.read_text()
        yield process.pid
    finally:
        process.terminate()
        process.wait(TIME)


def _answers() -> bool:
    with socket.socket(socket.AF_UNIX) as one:
        return one.connect_ex(AGENT.removeprefix("unix:")) == 0


@dataclass(frozen=True)
class Process:
    """A process as /proc shows it: its words, and a line each of its status, by name."""

    name: str
    words: tuple[str, ...]
    status: dict[str, str]

    @property
    def users(self) -> set[int]:
        """Real, effective, saved, and of the file system."""
        return set(map(int, self.status["Uid"].split()))

    @property
    def capabilities(self) -> int:
        """All that it has, or could get from a program."""
        sets = ("CapInh", "CapPrm", "CapEff", "CapAmb")
        return max(int(self.status[name], 16) for name in sets)


def processes() -> dict[int, Process]:
    """All, by their id."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            lines = (folder / "status").read_text().splitlines()
            words = tuple((folder / "cmdline").read_text().split("\0"))
        except (FileNotFoundError, ProcessLookupError):
            continue
        status = {name: value.strip() for name, _, value in (one.partition(":") for one in lines)}
        found[int(folder.name)] = Process(status["Name"], words, status)
    return found


def of_user() -> dict[int, Process]:
    """The processes that are the user's in any way, by their id."""
    number = pwd.getpwnam(USER).pw_uid
    return {pid: one for pid, one in processes().items() if number in one.users}


def copying() -> dict[int, Process]:
    """The processes of the user while one of them copies; else none."""
    found = of_user()
    copies = (one.name == "qemu-img" and "convert" in one.words for one in found.values())
    return found if any(copies) else {}


def add_user(name: str, number: int) -> None:
    """One of the group of the devices; udev knows him."""
    run("useradd", "--uid", number, "--gid", GROUP, "--no-create-home", name)
    reload_rules()


def remove_user(name: str) -> None:
    run("userdel", name)
    reload_rules()


def reload_rules() -> None:
    """udev looks names up when it reads its rules, and does that when one has changed."""
    if RULE.exists():
        RULE.touch()
    run("udevadm", "control", "--reload")
