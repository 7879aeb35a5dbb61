"""What copies may use of the attached volumes, and which of them copies do use."""

import os
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import trio

from endpoints import disk
from endpoints.locks import Lock, Mode, held
from endpoints.url import NbdUnixUrl, PathUrl, Url, parse
from protocol.errors import BadParameter, ManagedVolumeInUse

# The urls, sources and destinations alike, of the copies that have not ended.
Copies: TypeAlias = Callable[[], Awaitable[Iterable[str]]]


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
        """No copy uses the volume in the body, and none begins. Raises ManagedVolumeInUse."""
        self.leaving.add(vol_id)
        try:
            url = parse(path)
            if any(_same(url, text) for text in [*self._named, *await self._copies()]):
                raise ManagedVolumeInUse(vol_id, "a copy to or from it has not ended")

            def waiting(lock: Lock) -> None:
                raise ManagedVolumeInUse(vol_id, "a process of this host copies it")

            # A device that hangs keeps the thread.
            locks = await trio.to_thread.run_sync(
                disk.locks, url, Mode.EXCLUSIVE, abandon_on_cancel=True
            )
            async with held(locks, waiting):
                yield
        finally:
            self.leaving.discard(vol_id)


def _same(url: Url, text: str) -> bool:
    try:
        return parse(text).key == url.key
    except BadParameter:
        return False
