"""What packaging/rootless/install puts into place for an agent without root, and that the unit of
systemd lets such an agent work. Whole copies: tests/guest/inside/test_rootless.py."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.installers import run
from tests.systemd_host import HOST_TOOLS, Booted, booted

TOP = Path(__file__).parents[2]
INSTALL = TOP / "packaging" / "rootless" / "install"
AGENT = "unix:/run/leasehold/agent.socket"
USER = "leasehold"
PUT = {
    "etc/sudoers.d/leasehold-lvm": (TOP / "packaging/sudoers.d/leasehold-lvm", 0o440),
    "etc/udev/rules.d/57-leasehold-localdisk.rules": (
        TOP / "packaging/udev/57-leasehold-localdisk.rules",
        0o644,
    ),
    "etc/systemd/system/leasehold-agent.service.d/leasehold-agent.conf": (
        TOP / "packaging/rootless/leasehold-agent.conf",
        0o644,
    ),
}
HOST_TOML = """\
[localdisk]
helper = ["sudo", "-n", "/usr/local/bin/leasehold-lvm-helper"]
volume_group = "no-such-group"
[storage]
mounts = ["/srv/leasehold"]
[endpoints]
directories = ["/srv/disks"]
"""
install = partial(run, INSTALL)


def test_rights_rules_and_the_drop_in_are_put_into_place_as_often_as_one_likes(
    tmp_path: Path,
) -> None:
    for _ in range(2):
        done = install(DESTDIR=str(tmp_path))
        assert (done.returncode, done.stderr) == (0, "")
    there = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    assert there == set(map(Path, PUT))
    for name, (source, mode) in PUT.items():
        assert (tmp_path / name).read_bytes() == source.read_bytes()
        assert (tmp_path / name).stat().st_mode & 0o777 == mode


def test_an_argument_that_it_does_not_know_is_refused(tmp_path: Path) -> None:
    done = install("--root", DESTDIR=str(tmp_path))
    assert (done.returncode, list(tmp_path.iterdir())) == (2, [])


def test_the_page_names_all_that_is_installed() -> None:
    page = (TOP / "docs" / "localdisk.md").read_text()
    for source, _ in PUT.values():
        assert f"`{source.relative_to(TOP)}`" in page
    assert "packaging/rootless/install" in page


@pytest.mark.tools(*HOST_TOOLS, "systemctl", "sudo", "useradd", "lvm", "qemu-img")
def test_the_unit_lets_an_agent_without_root_copy_and_reach_lvm() -> None:
    """There is no volume group: that LVM says so, it was asked."""
    with booted() as host:
        host.write("/var/lib/leasehold/left/by-root", "")
        host(TOP / "scripts" / "install")
        for _ in range(2):
            host(INSTALL)
        host.write("/etc/leasehold/host.toml", HOST_TOML)
        host("install", "-d", "-o", USER, "/srv/disks", "/srv/leasehold")
        host("sh", "-c", "head -c 4M /dev/urandom > /srv/disks/source")
        by_user(host, "domain", "create", "/srv/leasehold", "--leases", "5")
        host("systemctl", "start", "leasehold-agent")
        pid = host.property("leasehold-agent", "MainPID")
        assert host("stat", "-c", "%U", f"/proc/{pid}", "/var/lib/leasehold/left/by-root") == (
            f"{USER}\n{USER}"
        )
        listed = by_user(host, "localdisk", "list", "--host", AGENT)
        assert listed["error"]["kind"] == "VolumeGroupMissing", listed
        copy = ("/srv/disks/source", "/srv/disks/target", "--source-format", "raw")
        job_id = by_user(host, "job", "submit", *copy, "--host", AGENT)["job_id"]
        by_user(host, "job", "watch", job_id, "--host", AGENT)
        host("cmp", "/srv/disks/source", "/srv/disks/target")


def by_user(host: Booted, *words: str) -> Any:
    """What a command of the user tells last."""
    lines = host("sudo", "-u", USER, "leasehold", *words, "--json", check=False).splitlines()
    return json.loads(lines[-1])
