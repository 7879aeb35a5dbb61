"""The stores under test, described so that a child process can open the same one."""

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from leases.embedded import EmbeddedStore
from leases.geometry import Geometry
from leases.sanlock_store import SanlockStore
from leases.store import Store
from leases.volume import format_volume
from tests.sanlock_hosts import SD_ID, Hosts

# The last: the other processes are by turns on another host and on this one.
KINDS = ["embedded", "sanlock", "sanlock on two hosts"]


@dataclass(frozen=True)
class Site:
    """Where a store lives, as one JSON argument for a child. run_dirs: of the daemons, by turns."""

    kind: str
    folder: str
    ids: str
    run_dirs: tuple[str, ...] = ("",)
    sector: int = 512

    @property
    def argument(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, argument: str) -> "Site":
        return cls(**json.loads(argument))

    def environment(self, number: int) -> dict[str, str]:
        """Of the child with that number: 0, 1, 2 ..."""
        return {**os.environ, "SANLOCK_RUN_DIR": self.run_dirs[number % len(self.run_dirs)]}


def opened(site: Site) -> Store:
    """The store of `site`, as each process opens it for itself."""
    kind = EmbeddedStore if site.kind == "embedded" else SanlockStore
    xleases = str(Path(site.folder, "xleases"))
    return kind(SD_ID, xleases, site.ids, Geometry.of(site.sector))


def made(kind: str, folder: Path, *, leases: int, hosts: Hosts | None) -> Site:
    """A new store in `folder` with room for `leases` leases.

    hosts: for sanlock. All tests share their lockspace, for joining one takes seconds.
    """
    site = Site(kind, str(folder), str(folder / "ids"))
    if hosts is None:
        Path(site.ids).touch()
    else:
        others = [hosts.b, hosts.a] if kind == "sanlock on two hosts" else [hosts.a]
        run_dirs = tuple(str(host.run_dir) for host in others)
        site = replace(site, ids=str(hosts.ids), run_dirs=run_dirs)
    format_volume(opened(site).volume, now=1700000000, leases=leases)
    return site
