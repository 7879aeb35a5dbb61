"""The storage of a known domain, through its adapter."""

import os
from dataclasses import dataclass
from pathlib import Path

from cli.home import home
from cli.managed_known import ManagedDomain, found
from cli.managed_options import revealed
from engine.adapter_programs import PLACE, AdapterPrograms, Driver
from engine.managed_storage import ManagedStorage

ADAPTERS = "LEASEHOLD_ADAPTERS"  # a folder in place of PLACE
DATABASE = "managed-adapters.sqlite"  # of cinderlib; ours keep nothing


@dataclass(frozen=True)
class Opened:
    """name: as the user calls it."""

    name: str
    domain: ManagedDomain
    storage: ManagedStorage

    @property
    def id(self) -> str:
        return str(self.domain.id)


def opened(name: str) -> Opened:
    """The domain with this name or id.

    Raises NoSuchManagedDomain (4209), AdapterMissing (4200), BadParameter (1000): its secrets
    cannot be had.
    """
    key, domain = found(name)
    return Opened(key, domain, storage(domain))


def storage(domain: ManagedDomain) -> ManagedStorage:
    """Raises as `opened`."""
    made = ManagedStorage(Driver(domain.options, revealed(domain.secrets)), programs())
    made.programs.program(made.driver)
    return made


def programs() -> AdapterPrograms:
    place = Path(os.environ.get(ADAPTERS) or PLACE)
    return AdapterPrograms(
        managedblock=place / "managedblock",
        cinderlib=place / "cinderlib",
        database=f"sqlite:///{home() / DATABASE}",
    )
