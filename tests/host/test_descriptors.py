"""Clients never take the descriptors that jobs need."""

import subprocess

from host.descriptors import FEWEST, of_clients
from host.wire.limits import DEFAULT
from processes.tool import PYTHON
from tests.cli.run import ROOT


def test_where_there_is_room_clients_get_what_the_page_says() -> None:
    assert of_clients(60_000) == DEFAULT


def test_where_there_is_little_room_clients_get_no_more_than_that() -> None:
    for room in (-5, 0, 100, 300, 1000, 2000, 2600):
        found = of_clients(room)
        assert found.connections + found.entering <= max(room, 2 * FEWEST)
        assert found.connections >= found.entering >= FEWEST


def test_the_process_may_open_as_many_as_it_was_given() -> None:
    code = """
import resource
from host.descriptors import limits
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 900))
found = limits(concurrency=2)
print(*resource.getrlimit(resource.RLIMIT_NOFILE), found.connections + found.entering)
"""
    done = subprocess.run(
        [PYTHON, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True, timeout=60
    )
    assert done.stdout.split() == ["900", "900", str(900 - 64 - 16)]
