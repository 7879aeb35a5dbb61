"""Inputs that are nearly right, and a limit for readers that do not come to an end."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st

SHARE = 18_000  # inputs of a full run that each property tries, or more
EXAMPLES = 1_000  # but at least so many examples
QUICK = 100  # inputs otherwise
FEWEST = 20  # but at least so many examples
CPU_LIMIT = 5.0  # seconds for one input, of this process only: a slow machine is no hang

Test = TypeVar("Test", bound=Callable[..., None])
Edit = tuple[int, bytes]


full_run: dict[str, int] = {}  # inputs that a full run tries, by format


def full() -> bool:
    return settings.get_current_profile_name() == "full"


def tries(format: str, each: int = 1) -> Callable[[Test], Test]:
    """Mark a property of `format`; `each`: inputs that one example of it tries, at least."""
    examples = max(EXAMPLES, -(-SHARE // each))
    quick = max(FEWEST, QUICK // each)

    def mark(test: Test) -> Test:
        full_run[format] = full_run.get(format, 0) + examples * each
        return settings(max_examples=examples if full() else quick)(test)

    return mark


class Hangs(BaseException):
    """No reader of ours catches it."""


@contextmanager
def bounded() -> Iterator[None]:
    """Raise Hangs when the body uses more processor time than any input may cost."""

    def hangs(number: int, frame: FrameType | None) -> None:
        raise Hangs

    signal.signal(signal.SIGVTALRM, hangs)
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def edits(size: int) -> st.SearchStrategy[list[Edit]]:
    """One to four places in `size` bytes, and what to write there."""
    place = st.tuples(st.integers(0, size - 1), st.binary(min_size=1, max_size=12))
    return st.lists(place, min_size=1, max_size=4)


some = st.integers(1, 255)  # bits to flip: never none


def edited(data: bytes, changes: list[Edit]) -> bytes:
    """`data` with the edits, in its old length."""
    for at, new in changes:
        data = data[:at] + new[: len(data) - at] + data[at + len(new) :]
    return data


def flipped(data: bytes, at: int, by: int) -> bytes:
    """With the byte at `at` changed by the bits of `by`."""
    return data[:at] + bytes([data[at] ^ by]) + data[at + 1 :]


# As json.loads gives them, lone surrogates and numbers beyond all ranges included.
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.integers(-2, 1001)
    | st.floats()
    | st.text(st.characters(), max_size=12)
    | st.uuids().map(str)
)
JSON: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
