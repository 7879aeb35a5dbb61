"""Inputs that are nearly right, and a limit for readers that do not come to an end."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from hypothesis import strategies as st

CPU_LIMIT = 5.0  # seconds for one input, of this process only: a slow machine is no hang

Edit = tuple[int, bytes]
Flip = tuple[int, int]


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


def flips(places: range) -> st.SearchStrategy[Flip]:
    """One byte of those places, and what it is changed by: never nothing."""
    return st.tuples(st.sampled_from(places), st.integers(1, 255))


def edited(data: bytes, changes: list[Edit]) -> bytes:
    """`data` with the edits, in its old length."""
    for at, new in changes:
        data = data[:at] + new[: len(data) - at] + data[at + len(new) :]
    return data


def flipped(data: bytes, flip: Flip) -> bytes:
    at, by = flip
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
