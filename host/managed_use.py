"""What copies may use of the attached volumes, and which of them copies do use."""

import os
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import trio

from endpoints import disk
from endpoints.external import local_name
from endpoints.locks import Lock, Mode, held
from endpoints.url import NbdUnixUrl, PathUrl, Url, parse
from host import looking
from protocol.errors import BadParameter, ManagedVolumeInUse

ANSWER_TIME = 5.0  # seconds for all paths to answer to which file or device they lead


@dataclass(frozen=True)
class Named:
    """A source or a destination of a copy. job_id: empty: it is just being begun.

    real: paths that had no link in them when the copy was taken in, so they lead to nothing else:
    the worker refuses one that has become a link since.
    """

    url: str
    job_id: str = ""
    real: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.url} of job {self.job_id or 'that is just being begun'}"


# What is named by the copies that have not ended.
Copies: TypeAlias = Callable[[], Awaitable[Iterable[Named]]]


@dataclass(frozen=True)
class Attached:
    """What clients may name because it is attached just now. folder: with the links, None: none.

    links: to devices. urls: of volumes, devices among them, as the helpers have told them.
    """

    folder: str | None = None
    links: frozenset[str] = frozenset()
    urls: frozenset[Url] = frozenset()

    def found(self, url: Url) -> Url | None:
        """The url by which an attached volume that is named so is opened; None: it is none.

        Raises BadParameter: it is the link of a volume that is not attached.
        """
        if isinstance(url, PathUrl) and self.has_link(url):
            if os.path.normpath(url.path) not in self.links:
                raise BadParameter("url", f"{url.path} is not attached to this host")
            return PathUrl(os.path.normpath(url.path))
        if url not in self.urls:
            return None
        # The worker refuses a socket whose name leads through a link: it may lead elsewhere later.
        if isinstance(url, NbdUnixUrl):
            return replace(url, socket=os.path.realpath(url.socket))
        return url

    def has_link(self, url: PathUrl) -> bool:
        """Is it the name of a link, whether that is there or not?"""
        return os.path.dirname(os.path.normpath(url.path)) == self.folder

    def is_device(self, url: PathUrl) -> bool:
        """Is it the name of a device or of a link to one?"""
        return url in self.urls or self.has_link(url)


NOTHING = Attached()


class Uses:
    """Which volumes copies use. Not thread safe: it belongs to the trio thread."""

    def __init__(self, copies: Copies) -> None:
        self._copies = copies
        self._named: Counter[str] = Counter()  # urls of copies that are just being begun
        self.leaving: set[str] = set()  # ids of volumes that are being detached

    @contextmanager
    def named(self, *urls: Any) -> Iterator[None]:
        """A copy that names these is being begun in the body: what it names is not detached."""
        texts = [url for url in urls if isinstance(url, str)]
        self._named.update(texts)
        try:
            yield
        finally:
            self._named.subtract(texts)
            self._named += Counter()  # drops those that are zero

    @asynccontextmanager
    async def none(self, vol_id: str, path: str) -> AsyncGenerator[None]:
        """No copy uses the volume in the body, and none begins.

        Raises ManagedVolumeInUse, also where it is not known: a path that may lead to it hangs.
        """
        self.leaving.add(vol_id)
        try:
            locks = await self._locks(vol_id, parse(path))

            def waiting(lock: Lock) -> None:
                raise ManagedVolumeInUse(vol_id, "a process of this host copies it")

            async with held(locks, waiting):
                yield
        finally:
            self.leaving.discard(vol_id)

    async def _locks(self, vol_id: str, url: Url) -> list[Lock]:
        """Those of the volume, which no copy names. Raises as `none`."""
        named = [*map(Named, self._named), *await self._copies()]
        asked = str(url)
        with trio.move_on_after(ANSWER_TIME):
            # One that hangs keeps its thread: each has one at a time, and none of the others'.
            locks = await looking.look(
                f"volume {vol_id}", disk.locks, url, Mode.EXCLUSIVE, at_once=1
            )
            real = await _real(url)
            for one in named:
                asked = str(one)
                if await _leads_to(one, url, real):
                    raise ManagedVolumeInUse(vol_id, "a copy to or from it has not ended")
            return locks
        silent = f"{asked} has not answered for {ANSWER_TIME:g} s"
        raise ManagedVolumeInUse(vol_id, f"whether a copy uses it is not known: {silent}")


async def _leads_to(one: Named, volume: Url, real: str | None) -> bool:
    """Is it the volume that is named? real: as `_real` of the volume."""
    try:
        url = parse(one.url)
    except BadParameter:
        return False
    if type(url) is not type(volume) or _export(url) != _export(volume):
        return False
    path, volume_path = local_name(url), local_name(volume)
    if path is None or volume_path is None:
        return url.key == volume.key  # all in the text
    if _same_text(path, volume_path):
        return True
    return (path if path in one.real else await _real(url)) == real


def _same_text(*paths: str) -> bool:
    return len(set(map(os.path.normpath, paths))) == 1


def _export(url: Url) -> str | None:
    return url.export if isinstance(url, NbdUnixUrl) else None


async def _real(url: Url) -> str | None:
    """Where the path that a url names leads to; None: it names none."""
    path = local_name(url)
    if path is None:
        return None
    return await looking.look(f"name {path}", os.path.realpath, path, at_once=1)
