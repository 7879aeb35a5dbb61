"""A body that is cancelled when what it stands on is lost."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def watched(
    lost: Callable[[], Awaitable[Exception]], beside: Callable[[], Awaitable[object]]
) -> AsyncGenerator[None]:
    """Run both beside the body, until it ends.

    When `lost` returns the body is cancelled, and what it returned is raised. The body's own error
    comes out in no group.
    """
    found: Exception | None = None
    failure: BaseException | None = None
    # Shielded: a body that is cancelled may still have something to do that needs them.
    watching = trio.CancelScope(shield=True)

    async def watch(body: trio.CancelScope) -> None:
        def end(e: Exception) -> None:
            nonlocal found
            found = found or e
            body.cancel()

        async def accompany() -> None:
            try:
                await beside()
            except Exception as e:
                end(e)

        with watching:
            async with trio.open_nursery() as both:
                both.start_soon(accompany)
                end(await lost())

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, nursery.cancel_scope)
            try:
                yield
            except BaseException as e:  # a Cancelled too: it is raised again below
                failure = e
            watching.cancel()
    except BaseException:
        if failure is None:  # cancelled from outside as the body ended
            raise
    if found is not None and (failure is None or _only_cancelled(failure)):
        raise found from failure
    if failure is not None:
        raise failure


def _only_cancelled(failure: BaseException) -> bool:
    """Of a body with tasks of its own, it comes in groups."""
    if isinstance(failure, BaseExceptionGroup):
        return all(map(_only_cancelled, failure.exceptions))
    return isinstance(failure, trio.Cancelled)
