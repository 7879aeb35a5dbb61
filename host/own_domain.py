"""The storage domain of this host alone, in its state folder: it keeps the leases of the copies to
its local disks.

Locks of this host's kernel keep them, also where sanlock keeps the leases of all other domains: no
other host ever joins it, and no other could write to a local disk.
"""

import os
from pathlib import Path

from endpoints.domain import StoreKind
from storage.domain import Domain

FOLDER = "local-disks"


def mount(state: Path) -> Path:
    """The folder that it is made in, on first use. state: the state folder."""
    return state / FOLDER


def is_own(domain: Domain, mount: Path) -> bool:
    """Is it the one in this folder?"""
    return os.path.dirname(domain.path) == os.path.realpath(mount)


def store_of(domain: Domain, mount: Path, configured: StoreKind) -> StoreKind:
    """Who keeps the leases of a domain. configured: who keeps those of all but our own."""
    return "embedded" if is_own(domain, mount) else configured
