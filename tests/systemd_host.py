"""A host of its own, started by a real systemd, beside whatever runs this machine.

It has its own processes, network (of itself alone), /run and control groups; its units are ours and
a few targets, none of those of this machine. For CHANGED and OWN see below; other folders are
shared.
Root may make one, where the kernel has overlayfs and control groups of version 2.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import SEARCH_PATH

SYSTEMD = "/lib/systemd/systemd"
NAMESPACES = ("--pid", "--mount", "--cgroup", "--uts", "--net")
HOST_TOOLS = ("unshare", "nsenter")
WAIT = 60.0  # seconds

# The last unit of a shutdown. It never ends: systemd must not come to what it does after the last,
# which is to unmount file systems.
_OFF = """\
[Unit]
DefaultDependencies=no
Requires=shutdown.target
After=shutdown.target
[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/bin/sh -c 'touch {off}; exec sleep infinity'
"""
_TARGETS = {
    **dict.fromkeys(("shutdown", "sysinit"), ""),
    "basic": "Requires=sysinit.target\nAfter=sysinit.target\n",
    "multi-user": "Requires=basic.target\nAfter=basic.target\n",
    "network-online": "",
    "remote-fs": "",
    "poweroff": "Requires=off.service\nAfter=off.service\nAllowIsolate=yes\n",
}
# What is written below CHANGED is gone with the host. OWN is empty at first, whatever is there on
# this machine.
CHANGED = ("etc", "usr/local", "var/lib", "var/log")
OWN = ("etc/leasehold", "etc/systemd/system", "srv", "var/lib/leasehold")
# SIOCSIFFLAGS and IFF_UP of netdevice(7).
_LOOPBACK = (
    "import fcntl, socket, struct;"
    'fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh", b"lo", 1))'
)
_BOOT = """\
set -e
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mkdir /run/lock
chmod 1777 /run/lock
umount -R /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
for name in {changed}; do
    up="{folder}/upper/$name" work="{folder}/work/$name"
    mkdir -p "$up" "$work"
    mount -t overlay overlay -o "lowerdir=/$name,upperdir=$up,workdir=$work" "/$name"
done
for name in {own}; do
    mkdir -p "{folder}/own/$name" "/$name"
    mount --bind "{folder}/own/$name" "/$name"
done
{python} -c '{loopback}'
exec {systemd} --system --unit=multi-user.target --log-target=console --show-status=no
"""


@dataclass(frozen=True)
class Booted:
    """init: process id of its systemd. folder: outside of it and inside."""

    init: int
    folder: Path

    @property
    def off(self) -> Path:
        """There when a shutdown has come to its end."""
        return self.folder / "off"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def written(self, path: str) -> Path:
        """Where a file below OWN is seen from outside, even when it is off."""
        return self.folder / "own" / path.lstrip("/")

    def command(self, *arguments: object) -> list[str]:
        inside = ["nsenter", "--target", str(self.init), "--all", "--wd=/", "--"]
        return [*inside, *map(str, arguments)]

    @property
    def environment(self) -> dict[str, str]:
        kept = {key: os.environ[key] for key in ("LC_ALL", "CI") if key in os.environ}
        return {**kept, "PATH": SEARCH_PATH, "SYSTEMD_UNIT_PATH": unit_path(self.folder)}

    def __call__(self, *arguments: object, check: bool = True) -> str:
        """Run a command on it; its standard output."""
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WAIT,
            check=False,
        )
        assert not check or done.returncode == 0, (arguments, done.stdout, done.stderr, self.log)
        return done.stdout.strip()

    def write(self, path: str, text: str) -> None:
        """Write a file on it, and make its folder."""
        script = 'mkdir -p "$(dirname "$0")" && printf %s "$1" > "$0"'
        self("sh", "-c", script, path, text)

    def property(self, unit: str, name: str) -> str:
        return self("systemctl", "show", "--value", "--property", name, unit)

    def change(self, unit: str, text: str) -> None:
        """Change a unit of this host by a drop-in, which comes after all others."""
        name = unit if "." in unit else f"{unit}.service"
        self.write(f"/etc/systemd/system/{name}.d/zz.conf", text)
        self("systemctl", "daemon-reload")

    def reaches(self, unit: str, state: str, *, other_than: str) -> None:
        """Wait until a unit is in this state, as another process."""
        until(lambda: self.property(unit, "MainPID") != other_than, lambda: self.log)
        until(lambda: self.property(unit, "SubState") == state, lambda: self.log)

    def named(self, name: str) -> list[int]:
        """The processes with this name, by its own numbers."""
        return [int(pid) for pid in self("pgrep", "--exact", name, check=False).split()]

    def shutdown(self) -> None:
        """Stop everything, as when the host is switched off."""
        self("systemctl", "poweroff", "--no-wall")
        until(self.off.exists, lambda: self.log)


def unit_path(folder: Path) -> str:
    return f"{folder}/units:/etc/systemd/system"


@contextmanager
def booted() -> Iterator[Booted]:
    """Skips the test where no such host can be made."""
    if os.geteuid() != 0:
        pytest.skip("only root can start a systemd of its own")
    folder = Path(tempfile.mkdtemp(prefix="lh-host-", dir="/tmp"))
    _write_units(folder)
    script = _BOOT.format(
        folder=folder,
        changed=" ".join(CHANGED),
        own=" ".join(OWN),
        python=sys.executable,
        loopback=_LOOPBACK,
        systemd=SYSTEMD,
    )
    with (folder / "log").open("w") as log:
        outer = subprocess.Popen(
            ["unshare", "--fork", "--kill-child", *NAMESPACES, "sh", "-c", script],
            env={"PATH": SEARCH_PATH, "container": "test", "SYSTEMD_UNIT_PATH": unit_path(folder)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield _started(outer, folder)
    finally:
        outer.kill()  # and its child with it, which takes the whole host along
        outer.wait()
        _remove(folder)


def _started(outer: "subprocess.Popen[bytes]", folder: Path) -> Booted:
    def init() -> int:
        if outer.poll() is not None:
            pytest.skip(f"no systemd of its own here: {(folder / 'log').read_text()}")
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        return int(children[0]) if children else 0

    until(init)
    host = Booted(init(), folder)
    until(lambda: init() and _answers(host), lambda: host.log)
    return host


def _answers(host: Booted) -> bool:
    """Is it up? Before its exec it is a shell in half-made namespaces."""
    with suppress(OSError):
        if Path(f"/proc/{host.init}/comm").read_text().strip() == "systemd":
            return host("systemctl", "is-system-running", check=False) in {"running", "degraded"}
    return False


def _write_units(folder: Path) -> None:
    units = folder / "units"
    units.mkdir()
    for name, text in _TARGETS.items():
        (units / f"{name}.target").write_text(f"[Unit]\nDefaultDependencies=no\n{text}")
    (units / "off.service").write_text(_OFF.format(off=folder / "off"))
    # For all services: there is no journal.
    (units / "service.d").mkdir()
    output = f"append:{folder / 'log'}"
    (units / "service.d" / "log.conf").write_text(
        f"[Service]\nStandardOutput={output}\nStandardError={output}\n"
    )


def _remove(folder: Path) -> None:
    """The last processes of the host may still keep it busy for a moment."""
    deadline = time.monotonic() + WAIT
    while folder.exists() and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05)


def until(true: Callable[[], object], told: Callable[[], str] = lambda: "") -> None:
    """Wait until it is true; `told` explains why it never was."""
    deadline = time.monotonic() + WAIT
    while not true():
        assert time.monotonic() < deadline, f"it never came true\n{told()}"
        time.sleep(0.02)
