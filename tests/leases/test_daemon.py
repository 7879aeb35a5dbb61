"""The registration with the daemon, as far as a socket is one."""

import os
import socket
from collections.abc import Iterator

import pytest

from leases import daemon


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Our end of a registration, and the daemon's."""
    ours, its = socket.socketpair()
    with ours, its:
        yield ours, its


def test_a_registration_is_gone_when_the_daemon_has_closed_it(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, its = pair
    before = descriptors()
    assert not daemon.gone(ours.fileno())
    its.close()
    assert daemon.gone(ours.fileno())
    assert daemon.gone(ours.fileno())
    assert descriptors() == before - 1  # its


def test_what_is_no_socket_is_gone_and_no_descriptor_is_left() -> None:
    fd = os.open("/dev/null", os.O_RDONLY)
    before = descriptors()
    assert daemon.gone(fd)
    with pytest.raises(OSError, match="Socket operation on non-socket"):
        daemon.cancel(fd)
    assert descriptors() == before
    os.close(fd)
    assert daemon.gone(fd)
    assert descriptors() == before - 1


def test_a_registration_that_is_cancelled_ends_for_both(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, its = pair
    daemon.cancel(ours.fileno())
    assert its.recv(1) == b""
    assert daemon.gone(ours.fileno())
    its.close()
    daemon.cancel(ours.fileno())
