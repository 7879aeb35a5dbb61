"""Managed block storage for tests of the command: real servers, and adapters that misbehave."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.ceph_cluster import POOL, CephCluster
from tests.cli.run import Cli, Ended
from tests.managed import ADAPTER, Scripted, scripted
from tests.servers import users
from tests.tgt_server import TgtServer, tgt_server

NAME = "array1"
KEY = "CEPH_KEY_OF_THE_TEST"
# A vendor's adapter that is ours, but for what a script says that is there for the command.
_ADAPTER = """\
#!{python} -I
import json, os, sys
command, driver, database, correlation, *arguments = sys.argv[1:]
folder = {folder!r}
with open(folder + "/adapter-calls", "a") as calls:
    calls.write(command + "\\n")
options = json.loads(driver)
options["adapter"] = "file"
argv = [{ours!r}, command, json.dumps(options), database, correlation, *arguments]
try:
    with open(f"{{folder}}/adapter-{{command}}.py") as script:
        exec(script.read())
except FileNotFoundError:
    pass
os.execv(argv[0], argv)
"""


@dataclass(frozen=True)
class ManagedCli(Cli):
    """more: of the environment."""

    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, **self.more}

    def told(self, **more: str) -> "ManagedCli":
        """With these variables, too."""
        return replace(self, more={**self.more, **more})

    def managed(self, *words: object) -> Ended:
        return self("managed", *words)

    def done(self, *words: object) -> Any:
        """The object that a command prints, which succeeds."""
        ended = self("managed", *words, "--json")
        assert ended.code == 0, ended
        return ended.json


@dataclass(frozen=True)
class Storage:
    """A domain that the command knows as NAME. folder: of its files; what it has open names it."""

    cli: ManagedCli
    folder: Path
    server: TgtServer | None = None
    cluster: CephCluster | None = None

    def volume(self, size: str = "1G") -> str:
        volume: str = self.cli.done("volume", "create", NAME, "--size", size)["id"]
        return volume

    def attach(self, volume: str) -> str:
        """The path or url."""
        made = self.cli.done("attach", NAME, volume)
        place: str = made["managed_path"] or made["path"]
        return place

    def hosts(self, volume: str) -> list[str]:
        """That it is connected for."""
        hosts: list[str] = self.cli.done("volume", "info", NAME, volume)["hosts"]
        return hosts

    def nothing_is_attached(self, volume: str) -> None:
        """Not on the host, not in the storage, not in our notes; no process, no secret."""
        assert self.cli.done("list") == {"volumes": []}
        assert self.hosts(volume) == []
        assert self.processes() == []
        run = self.cli.home / "managed" / "run"
        assert not run.exists() or list(run.iterdir()) == []
        notes = self.cli.home / "managed-connections.json"
        assert not notes.exists() or json.loads(notes.read_text())["connections"] == []

    def look(self, volume: str, size: int) -> bytes:
        """The first bytes of a volume that is not attached, as the storage has them."""
        if self.cluster is None:
            with (self.folder / "volumes" / volume / "disk").open("rb") as disk:
                return disk.read(size)
        image = f"rbd:{POOL}/volume-{volume}:id=admin:conf={self.cluster.conf}"
        file = self.cli.home / "looked"
        argv = ["qemu-img", "dd", "-f", "raw", "-O", "raw", f"bs={size}", "count=1"]
        subprocess.run([*argv, f"if={image}", f"of={file}"], check=True, timeout=60)
        return file.read_bytes()

    def processes(self) -> list[str]:
        found = []
        for pid in users(self.folder):
            with suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                found.append(b" ".join(words).decode())
        return [name for name in found if not name.startswith("tgtd ")]


@contextmanager
def reaped(folder: Path) -> Iterator[None]:
    """Servers of volumes outlive the commands: what a failed test leaves running ends with it."""
    try:
        yield
    finally:
        for pid in users(folder):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextmanager
def storage(kind: str, folder: Path, cluster: CephCluster | None = None) -> Iterator[Storage]:
    """One of the kinds file, tgt, chap, ceph. folder: of the test alone."""
    with reaped(folder), _storage(kind, folder, cluster) as made:
        yield made


@contextmanager
def _storage(kind: str, folder: Path, cluster: CephCluster | None) -> Iterator[Storage]:
    disks = folder / "managed disks"
    cli = ManagedCli(folder / "home")
    path = f"path={disks}"
    if kind == "ceph":
        assert cluster is not None
        made = Storage(cli.told(**{KEY: cluster.key}), disks, cluster=cluster)
        places = ["--option", f"pool={POOL}", "--option", f"mon_host={cluster.mon_host}"]
        made.cli.done(
            *("domain", "add", NAME, "--adapter", "ceph", *places, "--secret", f"key=env:{KEY}")
        )
        yield made
    elif kind == "file":
        cli.done("domain", "add", NAME, "--adapter", "file", "--option", path)
        yield Storage(cli, disks)
    else:
        with tgt_server() as server:
            options = [path, f"portal={server.portal}", f"socket={server.socket}"]
            options += ["chap=true"] if kind == "chap" else []
            words = [word for one in options for word in ("--option", one)]
            cli.done("domain", "add", NAME, "--adapter", "tgt", *words)
            yield Storage(cli, disks, server=server)


@dataclass(frozen=True)
class Vendor(Storage):
    """By an adapter and a helper that are not ours, and that do as they are told."""

    helper: Scripted = field(kw_only=True)

    def script(self, command: str, text: str) -> None:
        """Python for a command of the adapter, which may change `argv`, or end there."""
        (self.folder / f"adapter-{command}.py").write_text(text)

    def usual(self) -> None:
        """The adapter does again what it should."""
        for one in self.folder.glob("adapter-*.py"):
            one.unlink()
        self.script("connect_volume", _THEIR_HELPER)

    @property
    def attaching(self) -> str:
        """What its helper does to attach: it tells the url that the adapter told."""
        return _ATTACHING

    @property
    def calls(self) -> list[str]:
        """The commands that its adapter was asked for."""
        path = self.folder / "adapter-calls"
        return path.read_text().splitlines() if path.exists() else []

    def connected(self) -> list[str]:
        return sorted(str(one) for one in self.folder.glob("disks/volumes/*/connections/*.json"))

    def volumes(self) -> list[str]:
        place = self.folder / "disks" / "volumes"
        return sorted(one.name for one in place.iterdir()) if place.exists() else []


@contextmanager
def vendor(folder: Path) -> Iterator[Vendor]:
    """Its domain is added; `helper` tells the url of the connection, unless it is scripted.

    folder: of the test alone.
    """
    with reaped(folder):
        yield _vendor(folder)


def _vendor(folder: Path) -> Vendor:
    place = folder / "vendor"
    helper = scripted(place)
    helper.script("attach", _ATTACHING)
    program = place / "managedblock" / "array-adapter"
    program.parent.mkdir()
    ours = str(Path(sys.executable).with_name("file-adapter"))
    program.write_text(
        _ADAPTER.format(python=os.path.realpath(sys.executable), folder=str(place), ours=ours)
    )
    program.chmod(0o755)
    more = {"LEASEHOLD_ADAPTERS": str(place), "LEASEHOLD_MANAGED_HELPERS": helper.helpers}
    made = Vendor(ManagedCli(folder / "home", more), place, helper=helper)
    made.usual()
    option = f"path={place / 'disks'}"
    made.cli.done("domain", "add", NAME, "--adapter", "array", "--option", option)
    return made


_ATTACHING = "print(json.dumps({'path': json.loads(told)['data']['url']}))"
_THEIR_HELPER = f"""
import subprocess
done = subprocess.run(argv, capture_output=True, text=True)
sys.stderr.write(done.stderr)
print(done.stdout.replace('"adapter":"file"', '"adapter":"{ADAPTER}"'))
sys.exit(done.returncode)
"""
