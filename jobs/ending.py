"""How work ended: whether an abort was the cause, and which error tells the most.

Work that runs in nurseries ends in exception groups, and a cancellation may come out as another
error. Everything here is a pure question about an exception that was raised.
"""

from collections.abc import Iterator

import trio

from protocol.errors import ActionStopped, Error


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions in `error` that are not groups, in order."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


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


def telling(error: Exception) -> Exception:
    """The one error to show for `error`: of a group, the first of ours that says something."""
    found = [leaf for leaf in leaves(error) if isinstance(leaf, Exception)]
    return min(found, key=_vagueness) if found else error


def _vagueness(error: Exception) -> int:
    if isinstance(error, ActionStopped):
        return 3
    if not isinstance(error, Error):
        return 2
    return int(type(error) is Error)


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
