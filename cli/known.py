"""The storage domains that this user knows: `domains.json` in the home, and the default one."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

import msgspec
import trio

from cli.home import VARIABLE, home, locked, usable, write_atomically
from protocol.errors import BadParameter, StorageDomainDoesNotExist
from storage import domain
from storage.domain import Domain

FILE = "domains.json"
DEFAULT = "leases"  # the mount of the default lease domain, in the home
DEFAULT_LEASES = 125

AbsolutePath = Annotated[str, msgspec.Meta(pattern=r"\A/")]


class Known(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """domains: the folder (<mount>/<id>) of each known domain by its id."""

    version: Literal[1] = 1
    domains: dict[UUID, AbsolutePath] = {}


def known() -> dict[str, str]:
    """Id and folder of every known domain. Raises BadParameter when the file is damaged."""
    return {str(sd_id): path for sd_id, path in _read(home() / FILE).domains.items()}


async def opened(sd_id: str) -> Domain:
    """The known domain `sd_id`, its metadata read anew.

    Raises StorageDomainDoesNotExist (358): not known, or gone from its place; and what
    storage.domain.load raises.
    """
    folder = known().get(sd_id)
    if folder is None:
        raise StorageDomainDoesNotExist(sd_id)
    return await trio.to_thread.run_sync(domain.load, folder)


async def remember(*domains: Domain) -> None:
    """Add domains; one that was known in another place is from now on known in this one."""
    await _change(lambda paths: {**paths, **{UUID(one.id): one.path for one in domains}})


async def forget(sd_id: str) -> None:
    """Forget a domain; nothing of it is touched. Raises StorageDomainDoesNotExist (358)."""

    def without(paths: dict[UUID, str]) -> dict[UUID, str]:
        if UUID(sd_id) not in paths:
            raise StorageDomainDoesNotExist(sd_id)
        return {key: path for key, path in paths.items() if key != UUID(sd_id)}

    await _change(without)


async def default_domain() -> Domain:
    """The domain in the home that holds the leases of copies without --domain.

    Made on first use; a second process waits for the first and finds its domain.
    """
    from endpoints.domain import create_domain

    async with locked(home()):
        chosen = await existing_default()
        if chosen is None:
            mount = str(home() / DEFAULT)
            chosen = await create_domain(mount, sd_id=None, leases=DEFAULT_LEASES)
    if known().get(chosen.id) != chosen.path:
        await remember(chosen)
    return chosen


async def existing_default() -> Domain | None:
    """The default domain, if it was made already."""
    mount = home() / DEFAULT
    with usable(mount):
        there = mount.is_dir()
    found = await trio.to_thread.run_sync(domain.find, str(mount)) if there else []
    return found[0] if found else None


async def _change(change: Callable[[dict[UUID, str]], dict[UUID, str]]) -> None:
    path = home() / FILE
    async with locked(home()):
        content = _read(path)
        changed = Known(domains=change(dict(content.domains)))
        write_atomically(path, msgspec.json.format(msgspec.json.encode(changed)) + b"\n")


def _read(path: Path) -> Known:
    """A missing file knows nothing; a damaged one is an error, and is never written over."""
    try:
        with usable(path):
            content = path.read_bytes() if path.exists() else None
        return Known() if content is None else msgspec.json.decode(content, type=Known)
    except (msgspec.DecodeError, RecursionError) as e:
        reason = f"{path} is damaged ({e}): repair it, or remove it and open the domains again"
        raise BadParameter(VARIABLE, reason) from None
