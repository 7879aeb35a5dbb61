"""The kinds of managed storage, each with a real server: what tests of all adapters need of them.

A host is a client of the server with an identity of its own, made of what connect_volume answered
for it and of nothing else.
"""

import fcntl
import json
import socket
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from engine.adapter_programs import AdapterPrograms, Driver
from engine.adapters import ceph, file, program, tgt
from engine.adapters.adapter import Adapter
from engine.managed_storage import ManagedStorage, Times
from protocol.managed import ConnectionInfo, Connector
from tests.ceph_cluster import POOL, CephCluster
from tests.servers import users
from tests.tgt_server import TgtServer, tgt_server

ADAPTERS: dict[str, tuple[type[Any], Callable[..., Adapter]]] = {
    "file": (file.Options, lambda options, stack: file.FileAdapter(options)),
    "tgt": (tgt.Options, lambda options, stack: tgt.TgtAdapter(options)),
    "ceph": (ceph.Options, ceph.adapter),
}
KINDS = ("file", "tgt", "chap", "ceph")
TOOLS = {
    "file": ["qemu-nbd", "qemu-img", "qemu-io"],
    "tgt": ["tgtd", "tgtadm", "qemu-img", "qemu-io"],
    "chap": ["tgtd", "tgtadm", "qemu-img", "qemu-io"],
    "ceph": ["ceph-mon", "ceph-mgr", "ceph-osd", "ceph", "rbd", "qemu-img", "qemu-io"],
}
REFUSED = 3  # seconds; a client of Ceph that is not let in tries for five minutes by default
ALLOWED = 60


@dataclass(frozen=True)
class Image:
    """What a tool of QEMU opens. objects: the arguments that its secrets are read by."""

    name: str
    objects: tuple[str, ...] = ()

    def words(self) -> list[str]:
        return [*self.objects, "-f", "raw", self.name]


def node(**fields: Any) -> str:
    return "json:" + json.dumps({"driver": "raw", "file": fields})


class InProcess(AdapterPrograms):
    """The adapters of ours without their processes; all else is the same."""

    async def call(self, driver: Driver, command: str, *arguments: str, seconds: float) -> str:
        words = [json.dumps({**driver.options, **driver.secret}), "-", "X", *arguments]
        options, adapter = ADAPTERS[str(driver.adapter)]
        with ExitStack() as stack:
            line = await program.answer(
                ["adapter", command, *words], options, partial(adapter, stack=stack)
            )
        return line.removeprefix("X:")


@dataclass
class Site(ABC):
    """A storage domain. folder: for whatever the test keeps."""

    kind: str
    folder: Path
    driver: Driver
    volumes: list[str] = field(default_factory=list)

    @property
    def storage(self) -> ManagedStorage:
        """The adapter in this process, which takes no time to start."""
        return ManagedStorage(self.driver, InProcess(), Times())

    def program(self, seconds: float = 120.0, **options: Any) -> ManagedStorage:
        """The real program. seconds: until it is killed. options: more of the driver."""
        driver = Driver({**self.driver.options, **options}, self.driver.secret)
        nowhere = self.folder / "nowhere"
        programs = AdapterPrograms(managedblock=nowhere, cinderlib=nowhere)
        return ManagedStorage(driver, programs, Times(short=seconds, data=seconds))

    def new_volume(self) -> str:
        """An id."""
        self.volumes.append(str(uuid4()))
        return self.volumes[-1]

    def connector(self, host: str) -> Connector:
        return Connector(host, ip="127.0.0.1", initiator=f"iqn.2026-01.org.example:{host}")

    @abstractmethod
    def image(self, info: ConnectionInfo, host: str, *, timeout: int = ALLOWED) -> Image:
        """What a host opens. timeout: seconds until it gives up."""

    @abstractmethod
    def look(self, volume: str, size: int) -> bytes:
        """The first bytes of a volume as the storage has them, past all hosts."""

    @abstractmethod
    def traces(self) -> dict[str, list[str]]:
        """What the storage and this machine have of the volumes of the test, by what it is."""

    @abstractmethod
    def hung(self, volume: str) -> AbstractContextManager[dict[str, Any]]:
        """The storage is there but never answers, with these driver options."""

    def processes(self) -> list[str]:
        """What runs for the volumes of the test, but for servers that are always there."""
        found = []
        for pid in {pid for volume in self.volumes for pid in users(volume)}:
            with suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                found.append(b" ".join(words).decode())
        return [name for name in found if not name.startswith("tgtd ")]

    def opens(self, info: ConnectionInfo, host: str) -> bool:
        image = self.image(info, host, timeout=REFUSED)
        done = subprocess.run(
            ["qemu-img", "info", *image.words()], capture_output=True, timeout=60, check=False
        )
        return done.returncode == 0

    def write(self, info: ConnectionInfo, host: str, *commands: str) -> None:
        """Commands of qemu-io(1), as a host."""
        words = [word for command in (*commands, "flush") for word in ("-c", command)]
        argv = ["qemu-io", *words, *self.image(info, host).words()]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr + done.stdout

    def size(self, info: ConnectionInfo, host: str) -> int:
        image = self.image(info, host)
        argv = ["qemu-img", "info", "--output=json", *image.words()]
        text = subprocess.run(argv, capture_output=True, timeout=60, check=True).stdout
        size: int = json.loads(text)["virtual-size"]
        return size

    @contextmanager
    def writer(self, info: ConnectionInfo, host: str) -> Iterator["subprocess.Popen[bytes]"]:
        """A host that writes the numbers 1, 2, 3 ... over the first 64 KiB, one every 5 ms."""
        commands = [f"write -P {i % 250 + 1} 0 64k" for i in range(4000)]
        words = [word for one in commands for word in ("-c", one, "-c", "sleep 5")]
        argv = ["qemu-io", *words, *self.image(info, host).words()]
        with (self.folder / f"writer-{host}").open("wb") as output:
            process = subprocess.Popen(argv, stdout=output, stderr=output)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


class FileSite(Site):
    def image(self, info: ConnectionInfo, host: str, *, timeout: int = ALLOWED) -> Image:
        socket = info.data["url"].partition("?socket=")[2]
        return Image(node(driver="nbd", server={"type": "unix", "path": socket}, export="vol"))

    def look(self, volume: str, size: int) -> bytes:
        return _head(self.folder / "disks" / "volumes" / volume / "disk", size)

    def traces(self) -> dict[str, list[str]]:
        return {"files": _files(self.folder / "disks"), "processes": self.processes()}

    @contextmanager
    def hung(self, volume: str) -> Iterator[dict[str, Any]]:
        """Another command works on the volume, for ever."""
        with (self.folder / "disks" / "locks" / volume).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield {}


class TgtSite(Site):
    server: TgtServer

    def image(self, info: ConnectionInfo, host: str, *, timeout: int = ALLOWED) -> Image:
        data = info.data
        at = {"driver": "iscsi", "transport": "tcp", "portal": data["target_portal"]}
        at |= {"target": data["target_iqn"], "lun": data["target_lun"]}
        at |= {"initiator-name": self.connector(host).initiator}
        if "auth_method" not in data:
            return Image(node(**at))
        file = self.folder / f"chap-{host}"
        file.write_text(data["auth_password"])
        at |= {"user": data["auth_username"], "password-secret": "s"}
        return Image(node(**at), ("--object", f"secret,id=s,file={file}"))

    def look(self, volume: str, size: int) -> bytes:
        return _head(self.folder / "disks" / "volumes" / volume / "disk", size)

    def traces(self) -> dict[str, list[str]]:
        shown = self.server.show().splitlines()
        targets = [line for line in shown if line.startswith("Target ")]
        files = _files(self.folder / "disks")
        return {"files": files, "targets": targets, "processes": self.processes()}

    @contextmanager
    def hung(self, volume: str) -> Iterator[dict[str, Any]]:
        path = str(self.server.folder / "silent")
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(f"{path}.0")
            silent.listen()
            yield {"socket": path}


class CephSite(Site):
    cluster: CephCluster

    def image(self, info: ConnectionInfo, host: str, *, timeout: int = ALLOWED) -> Image:
        data = info.data
        conf, keyring = self.folder / f"{host}.conf", self.folder / f"{host}.keyring"
        keyring.write_text(data["keyring"])
        limit = f"client mount timeout = {timeout}"
        conf.write_text(f"[global]\nmon host = {data['mon_host']}\n{limit}\nkeyring = {keyring}\n")
        return Image(f"rbd:{data['name']}:id={data['auth_username']}:conf={conf}")

    def look(self, volume: str, size: int) -> bytes:
        file = self.folder / "looked"
        image = f"rbd:{POOL}/volume-{volume}:id=admin:conf={self.cluster.conf}"
        argv = ["qemu-img", "dd", "-f", "raw", "-O", "raw", f"bs={size}", "count=1"]
        subprocess.run([*argv, f"if={image}", f"of={file}"], check=True, timeout=60)
        return file.read_bytes()

    def traces(self) -> dict[str, list[str]]:
        images = [name for name in self.cluster.rbd("ls", POOL) if self._is_ours(name)]
        entities = [one["entity"] for one in self.cluster.ceph("auth", "ls")["auth_dump"]]
        found = [name for name in entities if self._is_ours(name)]
        return {"images": images, "users": found, "processes": self.processes()}

    def _is_ours(self, name: str) -> bool:
        return any(volume in name for volume in self.volumes)

    @contextmanager
    def hung(self, volume: str) -> Iterator[dict[str, Any]]:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            yield {"mon_host": f"[v2:127.0.0.1:{silent.getsockname()[1]}]"}


@contextmanager
def file_site(folder: Path) -> Iterator[Site]:
    yield FileSite("file", folder, Driver({"adapter": "file", "path": str(folder / "disks")}))


@contextmanager
def tgt_site(folder: Path, *, chap: bool) -> Iterator[Site]:
    with tgt_server() as server:
        options = {"adapter": "tgt", "path": str(folder / "disks"), "portal": server.portal}
        site = TgtSite("tgt", folder, Driver({**options, "socket": server.socket, "chap": chap}))
        site.server = server
        yield site


@contextmanager
def ceph_site(folder: Path, cluster: CephCluster) -> Iterator[Site]:
    options = {"adapter": "ceph", "pool": POOL, "mon_host": cluster.mon_host}
    site = CephSite("ceph", folder, Driver(options, {"key": cluster.key}))
    site.cluster = cluster
    yield site


def _files(place: Path) -> list[str]:
    """All but the folders that are always there."""
    return sorted(str(path.relative_to(place)) for path in place.glob("*/**/*"))


def _head(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        return file.read(size)
