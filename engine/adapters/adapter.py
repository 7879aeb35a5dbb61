"""What an adapter of ours can do. The program around it is engine/adapters/program.py."""

from abc import ABC, abstractmethod
from typing import Any

import msgspec

from protocol.managed import ConnectionInfo, Connector


class Created(msgspec.Struct, frozen=True):
    """created: just now, so that it reads as zeros. False: it was there, with that size."""

    created: bool


class Stats(msgspec.Struct, frozen=True):
    """The names are those of cinder's drivers; capacities in GiB."""

    total_capacity_gb: float
    free_capacity_gb: float
    storage_protocol: str
    volume_backend_name: str
    vendor_name: str = "leasehold"
    thin_provisioning_support: bool = True


class VolumeInfo(msgspec.Struct, frozen=True):
    """size: bytes. snapshots: their ids. hosts: those that it is connected for."""

    size: int
    snapshots: list[str]
    hosts: list[str]


class Adapter(ABC):
    """Each command can be repeated after it failed or was killed, and then completes.

    What is not there is an error (NoSuchManagedVolume, NoSuchManagedSnapshot), but for a host that
    is to be disconnected and is not connected. Volumes have whole GiB.
    """

    @abstractmethod
    async def create_volume(self, volume: str, gib: int) -> Created:
        """Raises ManagedVolumeExists: there is one of another size."""

    @abstractmethod
    async def delete_volume(self, volume: str) -> None:
        """Raises ManagedVolumeInUse: it is connected, or has snapshots."""

    @abstractmethod
    async def connect_volume(self, volume: str, connector: Connector) -> ConnectionInfo:
        """Let one more host in. Again: the same answer."""

    @abstractmethod
    async def disconnect_volume(self, volume: str, connector: Connector | None) -> None:
        """Shut a host out; None: every host. It is cut off at once, whether it has detached or not:
        when this returns, nothing that it sent will still be written."""

    @abstractmethod
    async def extend_volume(self, volume: str, gib: int) -> None: ...

    @abstractmethod
    async def save_device(self, volume: str, device: Any, connector: Connector | None) -> None:
        """Keep what a host told of its device. None: of the only host. ManagedVolumeInUse: which
        host is meant is not clear."""

    @abstractmethod
    async def get_connection_info(self, volume: str, connector: Connector | None) -> dict[str, Any]:
        """The answer of connect_volume, and the device, if one was saved. None: as above."""

    @abstractmethod
    async def storage_stats(self) -> Stats: ...

    @abstractmethod
    async def clone_volume(self, volume: str, new: str) -> None:
        """A volume of its own with the content of another; nothing ties them together."""

    @abstractmethod
    async def create_snapshot(self, volume: str, snapshot: str) -> None: ...

    @abstractmethod
    async def remove_snapshot(self, volume: str, snapshot: str) -> None: ...

    @abstractmethod
    async def create_volume_from_snapshot(self, volume: str, snapshot: str, new: str) -> None: ...

    @abstractmethod
    async def revert_to_snapshot(self, volume: str, snapshot: str) -> None:
        """Raises ManagedVolumeInUse: it is connected."""

    @abstractmethod
    async def list_volumes(self) -> list[str]: ...

    @abstractmethod
    async def volume_info(self, volume: str) -> VolumeInfo: ...
