"""Which leases of local disks this host has made in a storage domain that others use too.

    <state>/local-disk-leases/<job id>    a Note, as JSON

The configuration has named that domain, so nobody but this host will delete such a lease. Its
record does not tell it from those of other jobs. So a note is written before the lease is made, and
removed when that is gone: what has a note of this host is the lease of one of its local disks.
"""

from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import msgspec
import structlog

from processes import atomic_file

log = structlog.get_logger()

FOLDER = "local-disk-leases"


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """sd_id: of the domain with the lease. hardware_id: of the host that has made it: a state
    folder may have been copied to another one with its system."""

    sd_id: UUID
    hardware_id: str


@dataclass(frozen=True)
class Notes:
    """Those in `folder`, of this host. Its calls block for a moment and raise OSError."""

    folder: Path
    hardware_id: str

    def write(self, job_id: str, sd_id: str) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        note = Note(sd_id=UUID(sd_id), hardware_id=self.hardware_id)
        atomic_file.write(self.folder / job_id, msgspec.json.encode(note))

    def domain(self, job_id: str) -> str | None:
        """The id of the domain that has the lease of this job; None: there is no such note."""
        try:
            note = msgspec.json.decode((self.folder / job_id).read_bytes(), type=Note)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError as e:
            log.warning("note of a lease is damaged", lease=job_id, error=str(e))
            return None
        return str(note.sd_id) if note.hardware_id == self.hardware_id else None

    def jobs(self) -> list[str]:
        """The ids of all that have a note."""
        try:
            names = [path.name for path in self.folder.iterdir() if not path.name.startswith(".")]
        except FileNotFoundError:
            return []
        return sorted(name for name in names if self.domain(name) is not None)

    def remove(self, job_id: str) -> None:
        (self.folder / job_id).unlink(missing_ok=True)
