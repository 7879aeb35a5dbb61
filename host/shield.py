"""Waiting that an abort does not end, but the end of the agent does."""

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from jobs.job import Left


class Shield:
    """Not thread safe: it belongs to the trio thread."""

    def __init__(self) -> None:
        self._scopes: set[trio.CancelScope] = set()
        self._leaving = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Go on in the body, whatever is cancelled around it. Left: the agent goes."""
        with trio.CancelScope(shield=True) as scope:
            self._scopes.add(scope)
            try:
                if self._leaving:
                    scope.cancel()
                yield
            finally:
                self._scopes.discard(scope)
        if scope.cancelled_caught:
            raise Left

    async def watch(self) -> None:
        """Until it is cancelled, which ends all bodies."""
        try:
            await trio.sleep_forever()
        finally:
            self._leaving = True
            for scope in self._scopes:
                scope.cancel()
