"""Whole copies to local disks by an agent and by a user without root: by sudo, the helper and the
rules of udev, installed as docs/localdisk.md says."""

import os
import pwd
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.guest.inside import rootless
from tests.guest.inside.conftest import POOL, lvm
from tests.guest.inside.rootless import AGENT, DISKS, GROUP, RULE, USER, as_user, told
from tests.local_disk_host import MIB, VM, VOL, drop, same

SIZE = 8 * MIB
DATA = 2 * MIB
VDSM = ("vdsm", 36)
OPTIONS = ("--source-format", "raw", "--vm", VM)
BACKENDS = pytest.mark.parametrize("backend", ["lvm", "lvmthin"])

pytestmark = pytest.mark.usefixtures("host", "empty_group")


@pytest.fixture(scope="module")
def host(volume_group: str) -> Iterator[str]:
    """The volume group of a host of oVirt whose agent is not root; no agent runs."""
    with rootless.udev(), rootless.installed():
        rootless.add_user(*VDSM)
        yield volume_group


@pytest.fixture
def source() -> Path:
    path = DISKS / "source.raw"
    path.write_bytes(os.urandom(DATA))
    os.truncate(path, SIZE)
    path.chmod(0o644)
    return path


@pytest.fixture
def agent() -> Iterator[int]:
    with rootless.agent() as pid:
        yield pid


def tags(name: str) -> set[str]:
    return set(lvm("lvs", "--noheadings", "-o", "lv_tags", "-S", f"lv_name={name}").split(","))


def access(path: Path) -> tuple[str, str, int]:
    """Owner, group and mode of a device."""
    found = path.stat()
    return path.owner(), path.group(), found.st_mode & 0o7777


def check(made: dict[str, object], source: Path) -> None:
    """The disk is whole, ready, and its device is as the rule says."""
    path = Path(str(made["path"]))
    drop(path)
    assert same(path, source, SIZE)
    assert access(path) == ("vdsm", GROUP, 0o660)
    found = tags(path.name)
    assert {f"VM_{VM}", f"JOB_{made['job_id']}"} <= found
    assert "UPDATING" not in found


def check_life(source: Path, backend: str, *where: object) -> None:
    """A disk is made, used again, listed and removed."""
    prepare = ("localdisk", "prepare", source, *OPTIONS, "--backend", backend, *where)
    made = told(*prepare)
    assert "bytes" in made  # that were copied
    check(made, source)
    again = told(*prepare, "--start")
    assert again["job_id"] == made["job_id"]
    assert "bytes" not in again
    assert "STARTED" in tags(made["vol_id"])
    [disk] = told("localdisk", "list", *where)["disks"]
    assert (disk["state"], disk["backend"], disk["size"]) == ("ready", backend, SIZE)
    assert disk["job_status"] is None, "its lease is still there"
    assert told("localdisk", "remove", "--vm", VM, *where)["removed"] == [made["vol_id"]]
    assert not os.path.lexists(made["path"])


@contextmanager
def preparing(source: Path, *where: object) -> Iterator[subprocess.Popen[str]]:
    """A copy of half a minute, in its middle."""
    source.write_bytes(os.urandom(MIB) * 32)
    words = ("localdisk", "prepare", source, *OPTIONS, "--limit", "1M", *where)
    with subprocess.Popen(rootless.command(*words), stderr=subprocess.PIPE, text=True) as process:
        rootless.until(rootless.copying, "nothing copies")
        yield process


def jobs() -> dict[str, str]:
    """The status of those that the agent knows, by their id."""
    return {job["id"]: job["status"] for job in told("job", "list", "--host", AGENT)["jobs"]}


@pytest.mark.usefixtures("agent")
def test_an_agent_without_root_makes_a_local_disk(source: Path) -> None:
    options = (*OPTIONS, "--backend", "lvmthin", "--host", AGENT)
    made = told("localdisk", "prepare", source, *options)
    assert "bytes" in made  # that were copied
    check(made, source)


@pytest.mark.full
@BACKENDS
@pytest.mark.usefixtures("agent")
def test_a_disk_of_an_agent_without_root_is_used_again_listed_and_removed(
    source: Path, backend: str
) -> None:
    check_life(source, backend, "--host", AGENT)


@pytest.mark.full
@BACKENDS
def test_a_user_without_root_does_the_same_without_an_agent(source: Path, backend: str) -> None:
    check_life(source, backend)


@pytest.mark.full
def test_nobody_who_copies_has_rights(agent: int, source: Path) -> None:
    """The agent, who starts its workers, a worker and its tool. `sudo` alone gets any."""
    number = pwd.getpwnam(USER).pw_uid
    with preparing(source, "--host", AGENT) as process:
        found = rootless.copying()
        for one in found.values():
            if one.name == "sudo":
                continue
            assert (one.users, one.capabilities) == ({number}, 0), one
        assert agent in found
        names = {one.name for one in found.values()}
        assert {"leasehold-spawn", "leasehold-job", "qemu-img"} <= names
        [job_id] = [one for one, status in jobs().items() if status == "running"]
        watched = as_user("job", "watch", job_id, "--host", AGENT)
        assert watched.code == 0
        assert f"{job_id} done" in watched.err + watched.out
        process.communicate(timeout=rootless.TIME)
        assert process.returncode == 0
        assert jobs()[job_id] == "done"


@pytest.mark.full
def test_without_the_rule_the_error_names_the_device_and_the_rule(source: Path) -> None:
    """And with the rule the same command succeeds."""
    away = RULE.with_suffix(".away")
    RULE.rename(away)
    rootless.reload_rules()
    try:
        failed = as_user("localdisk", "prepare", source, *OPTIONS, "--json")
    finally:
        away.rename(RULE)
        rootless.reload_rules()
    [name] = lvm("lvs", "--noheadings", "-o", "lv_name", "@UPDATING").split()
    assert failed.error["kind"] == "ReadOnly"
    for word in (f"/dev/ovirt-local/{name}", "Permission denied", RULE.name):
        assert word in failed.error["message"]
    [unused] = told("localdisk", "gc", "--dry-run")["unused"]
    assert (unused["vol_id"], unused["removed"]) == (name, False)
    made = told("localdisk", "prepare", source, *OPTIONS)
    assert made["vol_id"] == name
    check(made, source)


@pytest.mark.full
def test_gc_removes_what_a_copy_that_was_killed_has_left(source: Path) -> None:
    with preparing(source):
        for pid, one in rootless.of_user().items():
            if one.name == "leasehold":
                os.kill(pid, signal.SIGKILL)
    [unused] = told("localdisk", "gc")["unused"]
    assert unused["removed"], unused
    assert lvm("lvs", "--noheadings", "-o", "lv_name").split() == [POOL]


@pytest.mark.parametrize("owner", ["vdsm", "root"])
def test_the_devices_of_local_disks_are_given_away_and_no_others(host: str, owner: str) -> None:
    """Not a pool, in which all of them lie, nor what else is in the group. Without oVirt there is
    no vdsm."""
    if owner == "root":
        rootless.remove_user("vdsm")
    try:
        lvm("lvcreate", "-qq", "-y", "-Wn", "-L", "4M", "-n", VOL, host)
        given = {path.name: access(path) for path in Path("/dev").glob("dm-*")}
    finally:
        if owner == "root":
            rootless.add_user(*VDSM)
    lvm("lvcreate", "-qq", "-y", "-Wn", "-L", "4M", "-n", "other", host)
    lvm("lvcreate", "-qq", "-y", "--type", "thin-pool", "-L", "4M", "-n", "small", host)
    disk = Path("/dev", host, VOL).resolve().name
    assert given[disk] == (owner, GROUP, 0o660)
    others = [path for path in Path("/dev").glob("dm-*") if path.name != disk]
    assert len(others) > 3
    assert GROUP not in {access(path)[1] for path in others}
