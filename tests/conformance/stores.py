"""The stores under test, described so that a child process can open the same one."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from leases.embedded import EmbeddedStore
from leases.geometry import Geometry
from leases.store import Store
from leases.volume import format_volume

KINDS = ["embedded"]  # a second store is added here and in `opened` and `made`


@dataclass(frozen=True)
class Site:
    """Where a store lives, as one JSON argument for a child."""

    kind: str
    sd_id: str
    folder: str
    sector: int = 512

    @property
    def argument(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, argument: str) -> "Site":
        return cls(**json.loads(argument))


def opened(site: Site) -> Store:
    """The store of `site`, as each process opens it for itself."""
    assert site.kind == "embedded"
    xleases, ids = (str(Path(site.folder, name)) for name in ("xleases", "ids"))
    return EmbeddedStore(site.sd_id, xleases, ids, Geometry.of(site.sector))


def made(kind: str, folder: Path, *, leases: int) -> Site:
    """A new store in `folder` with room for `leases` leases."""
    site = Site(kind, "11111111-2222-4333-8444-555555555555", str(folder))
    Path(folder, "ids").touch()
    format_volume(opened(site).volume, now=1700000000, leases=leases)
    return site
