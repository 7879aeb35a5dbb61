"""Managed domains whose adapters are real, and fail when they are told to."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.adapter_programs import Driver, Program
from engine.managed_storage import ManagedStorage
from protocol.errors import AdapterStalled
from tests.conformance.adapters import InProcess, Site, file_site, tgt_site

LOST = "lost"  # it was done, and the answer did not come
KILLED = "killed"


@dataclass(frozen=True)
class Faulty(InProcess):
    """plan: by command, what happens at each call: an exception, LOST, or None. ours: False: it
    behaves as the adapter of a vendor, who chooses ids and lists nothing. did: all calls."""

    plan: dict[str, list[Any]] = field(default_factory=dict)
    did: list[str] = field(default_factory=list)
    is_ours: bool = True

    def program(self, driver: Driver) -> Program:
        return replace(super().program(driver), ours=self.is_ours)

    async def call(self, driver: Driver, command: str, *arguments: str, seconds: float) -> str:
        self.did.append(" ".join((command, *arguments)))
        plan = self.plan.get(command)
        fate = plan.pop(0) if plan else None
        if isinstance(fate, BaseException):
            raise fate
        answer = await super().call(driver, command, *arguments, seconds=seconds)
        if fate == LOST:
            raise AdapterStalled("array", command, seconds)
        if isinstance(fate, tuple):  # done, and then this
            raise fate[0]
        return answer


@dataclass
class Array:
    """A domain."""

    site: Site
    adapter: Faulty

    @property
    def storage(self) -> ManagedStorage:
        return ManagedStorage(self.site.driver, self.adapter)

    def fails(self, command: str, *how: Any) -> None:
        self.adapter.plan.setdefault(command, []).extend(how)

    def calls(self, command: str) -> int:
        return sum(1 for one in self.adapter.did if one.split()[0] == command)

    def write(self, volume: str, byte: int, at: int = 0) -> None:
        """A sector of a volume, past all hosts."""
        with self._disk(volume).open("r+b") as file:
            file.seek(at)
            file.write(bytes([byte]) * 512)

    def read(self, volume: str, at: int = 0) -> int:
        with self._disk(volume).open("rb") as file:
            file.seek(at)
            return file.read(1)[0]

    def size(self, volume: str) -> int:
        return self._disk(volume).stat().st_size

    def volumes(self) -> dict[str, list[str]]:
        """What the storage has: {volume: its snapshots}."""
        folder = self.site.folder / "disks" / "volumes"
        if not folder.exists():
            return {}
        return {
            one.name: sorted(path.name for path in (one / "snapshots").glob("*"))
            for one in sorted(folder.iterdir())
        }

    def _disk(self, volume: str) -> Path:
        return self.site.folder / "disks" / "volumes" / volume / "disk"


@contextmanager
def array(kind: str, folder: Path, *, ours: bool = True) -> Iterator[Array]:
    """kind: "file" or "tgt"."""
    made = file_site(folder) if kind == "file" else tgt_site(folder, chap=False)
    with made as site:
        yield Array(site, Faulty(is_ours=ours))
