"""Tasks in the background of a body."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def background() -> AsyncGenerator[trio.Nursery]:
    """A nursery for the body, whose tasks are cancelled at its end.

    An error of the body comes out as it is, in no group. One of a task ends the body, in a group.
    """
    error: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        except Exception as e:  # passed on below, without the group that a nursery makes
            error = e
        nursery.cancel_scope.cancel()
    if error is not None:
        raise error
