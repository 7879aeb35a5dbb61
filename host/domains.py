"""The storage domains that this host knows: where each is. Kept in the state folder."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

import msgspec
import structlog
import trio

from processes import atomic_file
from protocol.errors import BadParameter, Error, StorageDomainDoesNotExist
from storage import domain
from storage.domain import Domain

log = structlog.get_logger()

FILE = "domains.json"
AbsolutePath = Annotated[str, msgspec.Meta(pattern=r"\A/")]


class Known(msgspec.Struct, frozen=True):
    """domains: the folder (<mount>/<id>) of each by its id."""

    version: Literal[1] = 1
    domains: dict[UUID, AbsolutePath] = {}


class Domains:
    """Not thread safe: it belongs to the trio thread."""

    def __init__(self, state: Path, known: dict[str, str]) -> None:
        self._file = state / FILE
        self._known = known
        self._lock = trio.Lock()

    @classmethod
    async def opened(cls, state: Path, mounts: Iterable[str]) -> "Domains":
        """Those of the file and those in the mounts; a damaged one hides no other.

        Raises BadParameter: the file is damaged; OSError.
        """
        await trio.to_thread.run_sync(partial(state.mkdir, parents=True, exist_ok=True))
        made = cls(state, await trio.to_thread.run_sync(_read, state / FILE))
        for mount in mounts:
            made._known |= await trio.to_thread.run_sync(_found, mount)
        return made

    @property
    def folders(self) -> dict[str, str]:
        """The folder of each by its id."""
        return dict(self._known)

    async def load(self, sd_id: str) -> Domain:
        """Read a domain anew.

        Raises StorageDomainDoesNotExist (358): not known, or gone from its place; and what
        storage.domain.load raises.
        """
        folder = self._known.get(sd_id)
        if folder is None:
            raise StorageDomainDoesNotExist(sd_id)
        return await load(sd_id, folder)

    async def remember(self, one: Domain) -> None:
        """Know a domain from now on, in this place. OSError: it could not be written down."""
        async with self._lock:
            if self._known.get(one.id) == one.path:
                return
            new = {**self._known, one.id: one.path}
            content = msgspec.json.encode(Known(domains={UUID(key): new[key] for key in new}))
            await trio.to_thread.run_sync(atomic_file.write, self._file, content)
            self._known = new


async def load(sd_id: str, folder: str) -> Domain:
    """The domain in a folder. Raises as storage.domain.load; 358 names the id."""
    try:
        # It only reads: a client that goes away does not wait for storage that hangs.
        return await trio.to_thread.run_sync(domain.load, folder, abandon_on_cancel=True)
    except StorageDomainDoesNotExist:
        raise StorageDomainDoesNotExist(sd_id) from None


def _read(path: Path) -> dict[str, str]:
    try:
        known = msgspec.json.decode(path.read_bytes(), type=Known)
    except FileNotFoundError:
        return {}
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as e:
        reason = f"{path} is damaged ({e}): repair it, or remove it and activate the domains again"
        raise BadParameter("folders.state", reason) from None
    return {str(sd_id): folder for sd_id, folder in known.domains.items()}


def _found(mount: str) -> dict[str, str]:
    def tell(path: str, error: Error) -> None:
        log.error("storage domain left out", path=path, error=str(error))

    try:
        return {one.id: one.path for one in domain.find(mount, damaged=tell)}
    except Error as e:
        log.error("no storage domains opened", mount=mount, error=str(e))
        return {}
