"""The subscriptions of one connection."""

from collections.abc import Iterator


class Refused(Exception):
    """The subscription cannot be made."""


class Subscriptions:
    """Destinations by subscription id. A subscription gets what goes below its destination too."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._destinations: dict[str, str] = {}
        self._ids: dict[str, list[str]] = {}

    def __len__(self) -> int:
        return len(self._destinations)

    def add(self, id: str, destination: str) -> None:
        if not id or not destination:
            raise Refused("SUBSCRIBE needs an id and a destination")
        if id in self._destinations:
            raise Refused("this subscription id is in use")
        if len(self._destinations) >= self._limit:
            raise Refused(f"more than {self._limit} subscriptions")
        self._destinations[id] = destination
        self._ids.setdefault(destination, []).append(id)

    def remove(self, id: str) -> None:
        """An id that is not there is no error."""
        destination = self._destinations.pop(id, None)
        if destination is None:
            return
        self._ids[destination].remove(id)
        if not self._ids[destination]:
            del self._ids[destination]

    def of(self, destination: str) -> Iterator[str]:
        """The ids of those who get what is sent to `destination`: a.b.c goes to a.b and a too."""
        yield from self._ids.get(destination, ())
        for kept, ids in self._ids.items():
            if destination.startswith(kept + "."):
                yield from ids
