"""vdsm as its hooks see it, and a host with local disks, for tests of the hooks.

The notes in tests/vectors/disk_hook.json say what its runner does. The LVM of the host is a
stand-in (tests/local_disks.py), or, in the guest, the real one.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import trio

from host.hooks.order import Prepare
from host.worker import NAME
from processes.lvm_report import LogicalVolume
from tests.agent_service import Service, service
from tests.cli.run import ROOT, Ended
from tests.faults.command import Command, Process, Running
from tests.local_disks import StandIn

VECTORS = Path(__file__).parent / "vectors" / "disk_hook.json"
MIB = 1 << 20
PATIENCE = 60.0  # seconds
# Before a hook or an agent: its copies to local disks take two MiB a second.
SLOW = """
import msgspec, host.local_disk_copy as c
made = c._spec
c._spec = lambda *a: msgspec.structs.replace(made(*a), limit=2 << 20)
"""


@cache
def vectors() -> Any:
    """It is shared: do not change it."""
    return json.loads(VECTORS.read_text())


@dataclass(frozen=True)
class Run:
    """One run of a hook. json: what vdsm reads of its file afterwards."""

    ended: Ended
    json: bytes

    @property
    def drive(self) -> Any:
        return json.loads(self.json)

    @property
    def code(self) -> int:
        return self.ended.code

    @property
    def words(self) -> str:
        return self.ended.err


@dataclass(frozen=True)
class Image:
    """A disk as vdsm has prepared it. drive: what it tells its hooks of that."""

    path: Path
    vol_id: str
    drive: dict[str, Any]
    content: bytes

    @property
    def data(self) -> bytes:
        """The same, as vdsm writes it for its hooks."""
        return json.dumps(self.drive).encode()


class Group(Protocol):
    """Where local disks are: a volume group of LVM, or one that stands in for it."""

    @property
    def settings(self) -> dict[str, str]:
        """Of the configuration of a host, by `section.key`."""
        ...

    def device(self, name: str) -> Path: ...

    def volumes(self) -> dict[str, LogicalVolume]:
        """As they are now, by name."""
        ...


G = TypeVar("G", bound=Group)


@dataclass
class GroupHost(Generic[G]):
    """command: whose folder and environment the hooks have. folder: short, for sockets."""

    command: Command
    folder: Path
    group: G
    settings: dict[str, str] = field(default_factory=dict)
    vm_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def socket(self) -> Path:
        return self.folder / "agent"

    @property
    def given(self) -> dict[str, str]:
        """The configuration, by `section.key`; the same for the agent and for hooks."""
        return {
            "listen.socket": str(self.socket),
            "folders.state": str(self.command.home),
            **self.group.settings,
            "localdisk.sources": str(self.command.folder),
            "endpoints.backing": str(self.command.folder),
            **self.settings,
        }

    @property
    def words(self) -> list[str]:
        """The same for `leasehold host serve --set`."""
        return [f"{name}={value}" for name, value in self.given.items()]

    def served(
        self,
        *settings: str,
        before: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> AbstractContextManager[Service]:
        """The agent of the host, as tests.agent_service.service."""
        words = (*self.words, *settings)
        return service(self.command, self.folder, *words, before=before, environment=environment)

    def workers(self) -> list[Process]:
        """The workers of its agents that live."""
        return [one for one in self.command.family() if _name(one.pid) == NAME]

    @property
    def images(self) -> Path:
        return self.command.folder / "rhev"

    def image(self, mib: int = 4, format: str = "cow", *, backed: bool = False) -> Image:
        """A new disk in a storage domain that the agent does not know."""
        ids = vectors()["inputs"]
        vol_id = str(uuid.uuid4())
        drive = dict(vectors()["drives"][f"file_{format}"]["after_prepareVolumePath"])
        folder = self.images / ids["sd"] / "images" / ids["image"]
        folder.mkdir(parents=True, exist_ok=True)
        path, raw = folder / vol_id, folder / f"{vol_id}.bytes"
        content = os.urandom(MIB) * mib
        raw.write_bytes(content)
        if format == "raw":
            raw.rename(path)
        else:
            base = path.with_name(f"{vol_id}-base") if backed else path
            convert = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, base]
            subprocess.run(convert, check=True)
            raw.unlink()
            if backed:
                create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base.name]
                subprocess.run([*create, path], check=True)
        drive.update(path=str(path), volumeID=vol_id)
        return Image(path, vol_id, drive, content)

    def environment(self, properties: Mapping[str, str]) -> dict[str, str]:
        """Of a hook of a VM with these custom properties."""
        named = {
            f"LEASEHOLD_{name.replace('.', '_').upper()}": value
            for name, value in self.given.items()
        }
        return self.command.environment({**named, "vmId": self.vm_id, **properties})

    @contextmanager
    def started(
        self,
        hook: str,
        properties: Mapping[str, str],
        data: bytes,
        *,
        variable: str = "_hook_json",
        before: str = "",
        prefix: tuple[str, ...] = (),
    ) -> Iterator[tuple[Running, Path]]:
        """A hook while it runs, and vdsm's file; killed and removed at the end.

        before: Python that is executed in it first. prefix: a program that starts it.
        """
        fd, name = tempfile.mkstemp(dir=self.command.folder)
        with open(fd, "wb") as file:
            file.write(data)
        out, err = Path(f"{name}.out"), Path(f"{name}.err")
        environment = {**self.environment(properties), variable: name, "PYTHONPATH": str(ROOT)}
        argv = [str(Path(sys.executable).with_name(f"leasehold-hook-{hook.replace('_', '-')}"))]
        if before:
            code = f"{before}\nfrom host.hooks.{hook} import main; main()"
            argv = [sys.executable, "-c", code]
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                [*prefix, *argv],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=environment,
                cwd=self.command.folder,
            )
        try:
            yield Running(process, out, err), Path(name)
        finally:
            process.kill()
            process.wait()
            Path(name).unlink(missing_ok=True)

    async def __call__(
        self, hook: str, properties: Mapping[str, str], data: bytes, **options: Any
    ) -> Run:
        """Run a hook to its end, as vdsm does."""
        with self.started(hook, properties, data, **options) as (running, path):
            ended = await running.wait(PATIENCE)
            return Run(ended, path.read_bytes())

    async def prepare(self, image: Image, backend: str = "lvm", **options: Any) -> Run:
        return await self("after_disk_prepare", {"localdisk": backend}, image.data, **options)

    async def destroy(self, **options: Any) -> Run:
        return await self(
            "after_vm_destroy",
            {"localdisk": "lvm"},
            b"<domain/>",
            variable="_hook_domxml",
            **options,
        )

    def device(self, image: Image) -> Path:
        return self.group.device(image.vol_id)

    def holds(self, image: Image) -> bool:
        """Whether the local disk of an image has its content."""
        return self.device(image).read_bytes()[: len(image.content)] == image.content


HookHost: TypeAlias = GroupHost[StandIn]


@contextmanager
def hook_host(command: Command, folder: Path) -> Iterator[HookHost]:
    """command: of tests.faults.command; folder: of tests.agent_service.agent_folder."""
    stand_in = Path(tempfile.mkdtemp(prefix="group-", dir=command.folder))
    try:
        yield HookHost(command, folder, StandIn.made(stand_in))
    finally:
        shutil.rmtree(stand_in, ignore_errors=True)


def order_of(image: Image, vm_id: str, **changed: str) -> Prepare:
    """What the hook of a VM with that disk wants done."""
    drive = image.drive
    given: dict[str, Any] = {
        "backend": "lvm",
        "sd_id": drive["domainID"],
        "img_id": drive["imageID"],
        "vol_id": image.vol_id,
        "vm_id": vm_id,
        "path": str(image.path),
        "format": "qcow2" if drive["format"] == "cow" else drive["format"],
        **changed,
    }
    return Prepare(**given)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


async def said(running: Running, words: str) -> None:
    """Wait until a hook that runs has said these words."""
    with trio.fail_after(PATIENCE):
        while words not in running.err.read_text(errors="replace"):
            assert not running.over, running.err.read_text(errors="replace")
            await trio.sleep(0.005)
