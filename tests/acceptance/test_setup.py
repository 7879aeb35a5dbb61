"""scripts/setup adds packages and changes nothing else, shown with stand-ins for apt and dpkg."""

import os
import signal
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

SETUP = Path(__file__).parents[2] / "scripts" / "setup"
OLD_LINK = "etc/systemd/system/multi-user.target.wants/old.service"
NEW_LINKS = [
    "etc/systemd/system/multi-user.target.wants/sanlock.service",
    "etc/systemd/system/sockets.target.wants/tgt.socket",
    "etc/rc2.d/S01sanlock",
]
MASK = "etc/systemd/system/masked.service"
PACKAGES = [
    *("btrfs-progs", "ca-certificates", "ceph-common", "ceph-mgr", "ceph-mon", "ceph-osd"),
    *("e2fsprogs", "gcc", "libiscsi-bin", "libnbd-bin", "libxml2-dev", "lvm2", "mmdebstrap"),
    *("nbdkit", "openssl", "postgresql", "python3-dev"),
    *("procps", "python3", "python3-sanlock", "python3-venv", "qemu-block-extra"),
    *("qemu-system-x86", "qemu-utils", "sanlock", "systemd", "tgt", "util-linux", "xfsprogs"),
]

# All that scripts/setup may call, besides the stand-ins: above all not the sudo of this machine.
REAL_COMMANDS = ["chmod", "dirname", "find", "flock", "grep", "ln", "ls", "mv", "rm", "sed"]


class Machine:
    """A root folder with services, and a folder of commands that stand in for the real ones."""

    def __init__(self, path: Path) -> None:
        self.root = path / "root"
        self.bin = path / "bin"
        self.log = path / "log"
        self.policy = self.root / "usr/sbin/policy-rc.d"
        for folder in ("usr/sbin", "var/lib/dpkg/updates", *map(os.path.dirname, NEW_LINKS)):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        self.bin.mkdir()
        for name in REAL_COMMANDS:
            (self.bin / name).symlink_to(f"/usr/bin/{name}")
        self.log.touch()
        self.link(OLD_LINK)
        self.user(0)
        self.installed(PACKAGES)
        self.apt_installs()

    def link(self, name: str, target: str = "/lib/systemd/system/some.service") -> None:
        (self.root / name).symlink_to(target)

    def links(self) -> set[str]:
        return {str(p.relative_to(self.root)) for p in self.root.rglob("*") if p.is_symlink()}

    def command(self, name: str, body: str) -> None:
        path = self.bin / name
        path.write_text("#!/bin/sh\n" + textwrap.dedent(body))
        path.chmod(0o755)

    def user(self, uid: int) -> None:
        self.command("id", f"echo {uid}")

    def installed(self, packages: list[str]) -> None:
        lines = "".join(f"installed {name}\n" for name in packages)
        self.command("dpkg-query", f"printf '%s' '{lines}config-files tgt\n'")

    def apt_installs(self, then: str = "exit 0") -> None:
        """apt-get logs its call and the policy's answer, and packages enable their services."""
        enable = "; ".join(f"ln -s /lib/some.service {self.root / link}" for link in NEW_LINKS)
        self.command(
            "apt-get",
            f"""
            echo "$*" >>{self.log}
            case "$*" in *update*) exit 0 ;; esac
            {self.policy} sanlock start; echo "policy $?" >>{self.log}
            {enable}
            ln -s /dev/null {self.root / MASK}
            {then}
            """,
        )

    def setup(self) -> tuple[int, str]:
        """Exit status and standard error of scripts/setup."""
        done = subprocess.run(
            # Under nohup or in the background signals are ignored, which children inherit.
            ["/usr/bin/env", "--default-signal", SETUP, "--packages-only"],
            env={"PATH": str(self.bin), "LEASEHOLD_SETUP_SYSROOT": str(self.root)},
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stderr


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def fresh(machine: Machine) -> Iterator[Machine]:
    """A machine on which two packages are missing; afterwards its services are as they were."""
    machine.installed([name for name in PACKAGES if name not in {"tgt", "sanlock"}])
    yield machine
    assert "policy 101" in machine.log.read_text()
    assert machine.links() == {OLD_LINK, MASK, "etc/rc2.d/K01sanlock"}
    assert [p.name for p in machine.policy.parent.iterdir()] in ([], ["policy-rc.d"])


def test_with_all_packages_there_nothing_is_installed(machine: Machine) -> None:
    assert machine.setup() == (0, "")
    assert machine.log.read_text() == ""


def test_missing_packages_are_installed_without_recommends_after_an_update(fresh: Machine) -> None:
    assert fresh.setup()[0] == 0
    update, install, _ = fresh.log.read_text().splitlines()
    assert update.endswith(" update")
    assert install.endswith(" install -y --no-install-recommends sanlock tgt")
    assert not fresh.policy.exists()


def test_a_policy_that_was_there_comes_back_as_it_was(fresh: Machine) -> None:
    fresh.policy.write_text("#!/bin/sh\nexit 0\n")
    fresh.policy.chmod(0o750)
    before = fresh.policy.stat()
    assert fresh.setup()[0] == 0
    after = fresh.policy.stat()
    assert (after.st_ino, after.st_mode, after.st_mtime_ns) == (
        before.st_ino,
        before.st_mode,
        before.st_mtime_ns,
    )


def test_a_policy_that_is_a_link_to_nowhere_stays(fresh: Machine) -> None:
    fresh.policy.symlink_to("no-such-file")
    assert fresh.setup()[0] == 0
    assert fresh.policy.readlink() == Path("no-such-file")
    fresh.policy.unlink()


def test_services_are_left_as_found_when_the_installation_fails(fresh: Machine) -> None:
    fresh.apt_installs("exit 100")
    assert fresh.setup()[0] == 100
    assert not fresh.policy.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_services_are_left_as_found_when_setup_is_interrupted(fresh: Machine, number: int) -> None:
    fresh.apt_installs(f"kill -{number} $PPID")
    assert fresh.setup()[0] == 128 + number
    assert not fresh.policy.exists()


def test_the_policy_of_a_killed_setup_is_taken_away_by_the_next(machine: Machine) -> None:
    machine.installed(PACKAGES[1:])
    machine.policy.write_text("the old one")
    machine.apt_installs("kill -KILL $PPID")
    assert machine.setup()[0] == -signal.SIGKILL
    assert "temporary" in machine.policy.read_text()
    machine.installed(PACKAGES)
    assert machine.setup() == (0, "")
    assert machine.policy.read_text() == "the old one"


def test_an_interrupted_installation_is_completed_first(fresh: Machine) -> None:
    (fresh.root / "var/lib/dpkg/updates/0001").touch()
    fresh.command("dpkg", f'echo "dpkg $*" >>{fresh.log}')
    assert fresh.setup()[0] == 0
    assert fresh.log.read_text().startswith("dpkg --configure -a\n")


def test_without_root_and_sudo_the_apt_line_is_printed_and_the_exit_is_2(machine: Machine) -> None:
    machine.user(1000)
    machine.installed(PACKAGES[1:])
    status, errors = machine.setup()
    assert status == 2
    assert f"apt-get install -y --no-install-recommends {PACKAGES[0]}\n" in errors
    assert machine.log.read_text() == ""


def test_without_root_sudo_installs_the_packages_and_nothing_else(machine: Machine) -> None:
    machine.user(1000)
    machine.installed(PACKAGES[1:])
    machine.command("sudo", f'echo "$*" >>{machine.log}')
    assert machine.setup()[0] == 0
    assert machine.log.read_text() == "sh scripts/setup --packages-only\n"
