"""What is asked of the local disks of this host, and what is answered."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

Backend: TypeAlias = Literal["lvm", "lvmthin"]
State: TypeAlias = Literal["filling", "ready"]


@dataclass(frozen=True)
class PrepareRequest:
    """A local disk that is to be there: a copy of a volume.

    vol_id, img_id: of that volume; the logical volume is named by the first. source: the message of
    its endpoint, as SDM.copy_data takes it: `{"endpoint_type": "div", sd_id, img_id, vol_id}` or
    `{"endpoint_type": "external", "url": PATH, "format": "raw"|"qcow2"}`. vm_id: whose disk it is.
    sd_id: the storage domain that keeps the lease of the copy; None: that of the configuration,
    else one of this host alone. start: a VM is about to write to it. again: copy even over what a
    VM has written. limit: bytes per second.
    """

    vol_id: str
    img_id: str
    backend: Backend
    source: Mapping[str, Any]
    vm_id: str | None = None
    sd_id: str | None = None
    start: bool = False
    again: bool = False
    limit: int | None = None
    verify: bool = False
    priority: int = 0
    flow_id: str = ""


@dataclass(frozen=True)
class Prepared:
    """A local disk as it is now.

    state: filling: job `job_id` copies to it; ready: it may be used, and is active. path: of its
    device. changed: the source has changed since it was copied, and it was used all the same,
    because a VM has written to it. reused: nothing had to be copied.
    """

    vol_id: str
    state: State
    path: str
    job_id: str | None = None
    changed: bool = False
    reused: bool = False

    def to_rpc(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Unused:
    """A local disk that nothing needs, by `reason`. removed: it was, or `failed` says why not."""

    vol_id: str
    vm_id: str | None
    reason: str
    removed: bool = False
    failed: str | None = None

    def to_rpc(self) -> dict[str, Any]:
        return asdict(self)
