"""What an exception group tells: work that runs in nurseries ends in one."""

from collections.abc import Iterator

from protocol.errors import ActionStopped, Error


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions in `error` that are not groups, in order."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


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
