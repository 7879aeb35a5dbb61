"""How work ended: whether an abort was the cause.

A cancellation may come out as another error. Everything here is a pure question about an exception
that was raised.
"""

from collections.abc import Iterator

import trio

from protocol.errors import ActionStopped


def stopped_by(error: BaseException, reason: str) -> bool:
    """Whether the cancellation with `reason` is what ended the work in `error`.

    So it is when `error` holds that Cancelled or ActionStopped, or an error that was raised while
    that Cancelled was passing (a cleanup that failed). An error beside a Cancelled with another
    reason came first: the nursery cancelled its other tasks because of that error.
    """
    return any(
        isinstance(cause, ActionStopped)
        or (isinstance(cause, trio.Cancelled) and cause.reason == reason)
        for cause in _causes(error)
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Every exception in `error` or on the way to it: members, causes, contexts; each once."""
    seen: set[int] = set()
    rest: list[BaseException | None] = [error]
    while rest:
        this = rest.pop()
        if this is None or id(this) in seen:
            continue
        seen.add(id(this))
        if isinstance(this, BaseExceptionGroup):
            rest.extend(this.exceptions)
        else:
            yield this
        rest += [this.__cause__, this.__context__]
