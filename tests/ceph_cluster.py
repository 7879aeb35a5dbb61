"""A real Ceph cluster on loopback: one monitor, one manager, one OSD that keeps its data in memory.

It takes some seconds to start: the tests of a run share one (tests/ceph_keeper.py, the fixture
`ceph_cluster`). The daemons are children of the process that started it and end with it.
Source: ceph-mon(8), ceph-osd(8), ceph(8), version 16.
"""

import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tests.tgt_server import free_port

POOL = "rbd"
PATIENCE = 60.0  # seconds; a cluster that takes longer is broken
LOOK = 0.05
_CONF = """
[global]
fsid = {fsid}
mon host = {mon_host}
mon initial members = a
# Each change of users or of the OSD map waits for others that might come, a second by default.
paxos propose interval = 0.02
paxos min wait = 0.01
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
keyring = {folder}/keyring
run dir = {folder}/run
admin socket = {folder}/run/$name.asok
pid file =
log file = {folder}/log/$name.log
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd class update on start = false
mon allow pool size one = true
mon allow pool delete = true
mon warn on pool no redundancy = false
mon data avail warn = 1
mon data avail crit = 1
memstore device bytes = 4294967296
rbd default features = 61
mgr initial modules =
[mon.a]
mon data = {folder}/mon
[osd.0]
osd data = {folder}/osd
osd objectstore = memstore
[mgr.x]
mgr data = {folder}/mgr
"""
_USERS = {
    "mon.": {"mon": "allow *"},
    "client.admin": {"mon": "allow *", "osd": "allow *", "mgr": "allow *"},
    "mgr.x": {"mon": "allow profile mgr", "osd": "allow *"},
    "osd.0": {"mon": "allow profile osd", "mgr": "allow profile osd", "osd": "allow *"},
}


@dataclass
class CephCluster:
    """A cluster that runs. Its keyring is that of client.admin; the pool `rbd` is for images.

    pids: of its daemons, by their names.
    """

    folder: Path
    mon_host: str
    pids: dict[str, int] = field(default_factory=dict)

    @property
    def conf(self) -> Path:
        return self.folder / "ceph.conf"

    @property
    def keyring(self) -> Path:
        return self.folder / "keyring"

    @property
    def key(self) -> str:
        """The secret of client.admin."""
        return self.tool("ceph-authtool", "--print-key", "--name", "client.admin", self.keyring)

    def ceph(self, *arguments: str) -> Any:
        """What a command of ceph answers, as JSON."""
        return msgspec.json.decode(self.tool("ceph", *arguments, "--format", "json") or "null")

    def rbd(self, *arguments: str) -> Any:
        return msgspec.json.decode(self.tool("rbd", *arguments, "--format", "json") or "null")

    def tool(self, *argv: object) -> str:
        """Run a tool of Ceph that must succeed; what it printed."""
        own = {**os.environ, "CEPH_CONF": str(self.conf)}
        words = [str(word) for word in argv]
        done = subprocess.run(
            words, env=own, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout.strip()


@dataclass
class OwnCluster(CephCluster):
    """A cluster whose daemons are children of this process."""

    processes: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def start(self, name: str, *argv: str) -> None:
        """A daemon, in the foreground. From the main thread: it dies with the thread that asked."""
        with (self.folder / "log" / f"{name}.out").open("wb") as output:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *argv, "-f", "--conf", str(self.conf)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self.processes.append(process)
        self.pids[name] = process.pid

    def stop(self) -> None:
        for process in self.processes:
            process.kill()  # nothing of it is kept
            process.wait()


@contextmanager
def ceph_cluster() -> Iterator[CephCluster]:
    """A cluster of its own, for as long as the body runs."""
    folder = Path(tempfile.mkdtemp(prefix="lh-ceph-", dir="/tmp"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        for name in ("mon", "osd", "mgr", "run", "log"):
            (folder / name).mkdir()
        mon_host = f"[v2:127.0.0.1:{free_port()},v1:127.0.0.1:{free_port()}]"
        cluster = OwnCluster(folder, mon_host)
        stack.callback(cluster.stop)
        _start(cluster)
        yield cluster


def _start(cluster: OwnCluster) -> None:
    fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
    folder = cluster.folder
    cluster.conf.write_text(_CONF.format(fsid=fsid, mon_host=cluster.mon_host, folder=folder))
    cluster.tool("ceph-authtool", "--create-keyring", cluster.keyring)
    for name, rights in _USERS.items():
        caps = [word for pair in rights.items() for word in ("--cap", *pair)]
        cluster.tool("ceph-authtool", cluster.keyring, "--gen-key", "-n", name, *caps)
    at = [folder / "monmap", "--fsid", fsid]
    cluster.tool("monmaptool", "--create", "--clobber", "--addv", "a", cluster.mon_host, *at)
    mkfs = ["--mkfs", "--monmap", folder / "monmap", "--keyring", cluster.keyring]
    cluster.tool("ceph-mon", "-i", "a", *mkfs)
    cluster.start("mon.a", "ceph-mon", "-i", "a")
    cluster.tool("ceph", "osd", "new", osd)
    cluster.start("mgr.x", "ceph-mgr", "-i", "x")
    cluster.tool("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
    cluster.start("osd.0", "ceph-osd", "-i", "0")
    cluster.tool("ceph", "osd", "pool", "create", POOL, "8")
    cluster.tool("rbd", "pool", "init", POOL)
    deadline = time.monotonic() + PATIENCE
    while not any(pool["name"] == POOL for pool in cluster.ceph("df")["pools"]):
        assert time.monotonic() < deadline, "the manager does not count"
        time.sleep(LOOK)
