"""The storage domains that this host knows: where each is, and as which host it has joined it.

Kept in the state folder.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

import msgspec
import structlog
import trio

from host import local, looking
from leases.delta import LAST_HOST
from processes import atomic_file
from protocol.errors import BadParameter, Error, StorageDomainDoesNotExist
from storage import domain
from storage.domain import Domain

log = structlog.get_logger()

FILE = "agent-domains.json"  # not that of the command, which may live in the same folder
MOUNT_TIME = 10.0  # seconds; a mount that hangs must not keep the agent from starting
AbsolutePath = Annotated[str, msgspec.Meta(pattern=r"\A/")]
HostId = Annotated[int, msgspec.Meta(ge=1, le=LAST_HOST)]


class Known(msgspec.Struct, frozen=True):
    """domains: the folder (<mount>/<id>) of each by its id. host_ids: as which this host is to be
    in the lockspace, of those that were activated and not deactivated since."""

    version: Literal[1] = 1
    domains: dict[UUID, AbsolutePath] = {}
    host_ids: dict[UUID, HostId] = {}


class Domains:
    """Not thread safe: it belongs to the trio thread."""

    def __init__(
        self, state: Path, folders: dict[str, str], host_ids: dict[str, int] | None = None
    ) -> None:
        self._file = state / FILE
        self._folders = folders
        self._host_ids = host_ids or {}
        self._lock = trio.Lock()

    @classmethod
    async def opened(cls, state: Path, mounts: Iterable[str]) -> "Domains":
        """Those of the file and those in the mounts; a damaged one hides no other, and neither
        does a mount that does not answer.

        Raises BadParameter: the file is damaged; OSError.
        """
        await local.run(partial(state.mkdir, parents=True, exist_ok=True))
        known = await local.run(_read, state / FILE)
        made = cls(
            state,
            {str(sd_id): folder for sd_id, folder in known.domains.items()},
            {str(sd_id): host_id for sd_id, host_id in known.host_ids.items()},
        )
        async with trio.open_nursery() as nursery:
            for mount in mounts:
                nursery.start_soon(made._find, mount)
        return made

    @property
    def folders(self) -> dict[str, str]:
        """The folder of each by its id."""
        return dict(self._folders)

    @property
    def host_ids(self) -> dict[str, int]:
        """As which host this one is to be in the lockspaces of those that are activated."""
        return dict(self._host_ids)

    async def load(self, sd_id: str) -> Domain:
        """Read a domain anew.

        Raises StorageDomainDoesNotExist (358): not known, or gone from its place; and what
        storage.domain.load raises.
        """
        folder = self._folders.get(sd_id)
        if folder is None:
            raise StorageDomainDoesNotExist(sd_id)
        return await load(sd_id, folder)

    async def remember(self, one: Domain, host_id: int | None = None) -> None:
        """Know a domain from now on, in this place, and join it as this host whenever it is left.

        host_id: None leaves that as it is. OSError: it could not be written down.
        """
        async with self._lock:
            host_ids = dict(self._host_ids)
            if host_id is not None:
                host_ids[one.id] = host_id
            await self._keep({**self._folders, one.id: one.path}, host_ids)

    async def forget_host_id(self, sd_id: str) -> None:
        """Join a domain no more. OSError: it could not be written down."""
        async with self._lock:
            host_ids = {key: self._host_ids[key] for key in self._host_ids if key != sd_id}
            await self._keep(self._folders, host_ids)

    async def _keep(self, folders: dict[str, str], host_ids: dict[str, int]) -> None:
        if (folders, host_ids) == (self._folders, self._host_ids):
            return
        known = Known(
            domains={UUID(sd_id): folder for sd_id, folder in folders.items()},
            host_ids={UUID(sd_id): host_id for sd_id, host_id in host_ids.items()},
        )
        await local.run(atomic_file.write, self._file, msgspec.json.encode(known))
        self._folders, self._host_ids = folders, host_ids

    async def _find(self, mount: str) -> None:
        with trio.move_on_after(MOUNT_TIME) as scope:
            self._folders |= await looking.look(mount, _found, mount)
        if scope.cancelled_caught:
            log.error("no storage domains opened", mount=mount, error="it does not answer")


async def load(sd_id: str, folder: str) -> Domain:
    """The domain in a folder. Raises as `read`."""
    # A client that goes away does not wait for storage that hangs, nor does any other domain.
    return await looking.look(folder, read, sd_id, folder)


def read(sd_id: str, folder: str) -> Domain:
    """`load`, blocking. Raises as storage.domain.load; 358 names the id."""
    try:
        return domain.load(folder)
    except StorageDomainDoesNotExist:
        raise StorageDomainDoesNotExist(sd_id) from None


def _read(path: Path) -> Known:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Known)
    except FileNotFoundError:
        return Known()
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as e:
        reason = f"{path} is damaged ({e}): repair it, or remove it and activate the domains again"
        raise BadParameter("folders.state", reason) from None


def _found(mount: str) -> dict[str, str]:
    def tell(path: str, error: Error) -> None:
        log.error("storage domain left out", path=path, error=str(error))

    try:
        return {one.id: one.path for one in domain.find(mount, damaged=tell)}
    except Error as e:
        log.error("no storage domains opened", mount=mount, error=str(e))
        return {}
