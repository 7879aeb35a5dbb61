"""The cluster that the tests of a run share: one for all, and gone with the last of them."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.ceph_keeper import ROOT
from tests.servers import ended

pytestmark = [pytest.mark.full, pytest.mark.tools("ceph-mon", "ceph-mgr", "ceph-osd", "ceph")]

# Uses it until the end of its standard input; a word there has it ask the cluster something.
USER = """
import json, sys
from pathlib import Path
from tests.ceph_keeper import shared
with shared(Path(sys.argv[1])) as cluster:
    print(json.dumps({"folder": str(cluster.folder), "pids": cluster.pids}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(cluster.ceph("osd", "stat")["num_up_osds"]), flush=True)
"""


class User:
    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def said(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def asks(self) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write("?\n")
        self.process.stdin.flush()
        return self.said()


@contextmanager
def user(place: Path) -> Iterator[User]:
    argv = [sys.executable, "-c", USER, str(place)]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield User(process)
        finally:
            process.kill()


def test_a_cluster_outlives_who_started_it_and_ends_with_the_last_user(tmp_path: Path) -> None:
    with ExitStack() as stack:
        users = [stack.enter_context(user(tmp_path)) for _ in range(3)]  # at once
        told = [one.said() for one in users]
        assert told[0] == told[1] == told[2]
        users[0].process.kill()
        users[1].process.send_signal(signal.SIGINT)
        users[1].process.wait(20)
        assert users[2].asks() == 1
        late = stack.enter_context(user(tmp_path))
        assert late.said() == told[0]
        users[2].process.kill()
        assert late.asks() == 1
        late.process.communicate(timeout=20)
        assert not Path(told[0]["folder"]).exists(), "the last user did not wait for the end"
    assert all(ended(pid) for pid in told[0]["pids"].values())


def test_when_all_users_are_killed_at_once_nothing_stays_and_the_next_has_a_new_one(
    tmp_path: Path,
) -> None:
    with user(tmp_path) as one, user(tmp_path) as other:
        told = one.said()
        assert other.said() == told
        one.process.kill()
        other.process.kill()
    with user(tmp_path) as late:
        new = late.said()
        assert new["pids"].keys() == told["pids"].keys()
        assert new["folder"] != told["folder"]
        assert all(ended(pid) for pid in told["pids"].values())
        late.process.communicate(timeout=20)
    assert all(ended(pid) for pid in new["pids"].values())
