"""`leasehold lease`."""

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.run import Cli

JOB = "5b3ad4a8-3a1b-4a36-8f2e-b0f4c27be1d3"
OTHER = "8e4a4c9a-5f0e-4b2a-9b5d-1d5d0a0c7a11"
MIB = 1 << 20


@pytest.fixture
def sd(cli: Cli, tmp_path: Path) -> str:
    return cli.domain(tmp_path / "mount")


@contextmanager
def owned(cli: Cli, sd: str, lease: str) -> Iterator[None]:
    """The lease as if a job of this host held it: its slot locked."""
    place = cli("lease", "info", sd, lease, "--json").json
    fd = os.open(place["path"], os.O_RDWR)
    lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, place["offset"], MIB, 0)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, lock)
        yield
    finally:
        os.close(fd)


def test_the_life_of_a_lease(cli: Cli, sd: str) -> None:
    place = cli("lease", "create", sd, JOB, "--job-id", JOB.upper(), "--json").json
    assert set(place) == {"sd_id", "lease_id", "path", "offset"}
    assert cli("lease", "info", sd, JOB, "--json").json == place
    status = cli("lease", "status", sd, JOB, "--json").json
    record = status["metadata"]
    assert (status["owners"], type(status["version"])) == ([], int)
    assert (record["job_id"], record["job_status"], record["generation"]) == (JOB, "PENDING", 0)
    assert "PENDING" in cli("lease", "status", sd, JOB).out

    fence = ("lease", "fence", sd, JOB, "--job-id", JOB, "--generation")
    told = cli(*fence, 0, "--json").json
    assert (told["job_status"], told["generation"]) == ("FENCED", 1)
    assert cli("lease", "status", sd, JOB, "--json").json["metadata"]["job_status"] == "FENCED"
    (row,) = cli("lease", "list", sd, "--json").json["leases"]
    assert (row["lease_id"], row["owners"]) == (JOB, [])
    assert (row["job_status"], row["generation"]) == ("FENCED", 1)
    assert JOB in cli("lease", "list", sd).out

    assert cli("lease", "delete", sd, JOB).code == 0
    assert cli("lease", "delete", sd, JOB).code == 0, "a missing lease is no error"
    assert cli("lease", "list", sd, "--json").json == {"leases": []}
    assert cli("lease", "status", sd, JOB, "--json").error["code"] == 936
    assert cli("lease", "status", sd, JOB).code == 3


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--job-id", OTHER, "--generation", 0), 2009),
        (("--job-id", JOB, "--generation", 1), 911),
        (("--job-id", JOB, "--generation", 0, "--status", "FAILED"), 912),
    ],
)
def test_a_fence_that_expects_something_else_is_refused(
    cli: Cli, sd: str, arguments: tuple[object, ...], code: int
) -> None:
    cli("lease", "create", sd, JOB, "--job-id", JOB, "--generation", 0)
    told = cli("lease", "fence", sd, JOB, *arguments, "--json")
    assert (told.code, told.error["code"]) == (6, code)
    assert cli("lease", "status", sd, JOB, "--json").json["metadata"]["job_status"] == "PENDING"


def test_create_again_is_no_error_while_pending_and_one_with_other_metadata_is(
    cli: Cli, sd: str
) -> None:
    create = ("lease", "create", sd, JOB, "--job-id")
    place = cli(*create, JOB, "--json").json
    assert cli(*create, JOB, "--json").json == place
    assert cli(*create, OTHER).code == 6
    assert cli(*create, JOB, "--generation", 1).code == 6


def test_a_lease_without_a_job(cli: Cli, sd: str) -> None:
    assert cli("lease", "create", sd, "any-name").code == 0
    assert cli("lease", "status", sd, "any-name", "--json").json["metadata"] == {}
    assert "no job" in cli("lease", "status", sd, "any-name").out
    (row,) = cli("lease", "list", sd, "--json").json["leases"]
    assert (row["job_status"], row["generation"]) == (None, None)


def test_a_lease_that_is_held_says_so_and_cannot_be_fenced_or_deleted(cli: Cli, sd: str) -> None:
    cli("lease", "create", sd, JOB, "--job-id", JOB)
    with owned(cli, sd, JOB):
        status = cli("lease", "status", sd, JOB, "--json").json
        assert (status["owners"], "metadata" in status) == ([1], False)
        assert "held by host 1" in cli("lease", "status", sd, JOB).out
        assert "held by host 1" in cli("lease", "list", sd).out
        told = cli("lease", "fence", sd, JOB, "--job-id", JOB, "--generation", 0, "--json")
        assert (told.code, told.error["code"]) == (6, 651)
        told = cli("lease", "delete", sd, JOB, "--json")
        assert (told.code, told.error["code"]) == (6, 651)
        assert cli("lease", "delete", sd, JOB, "--force").code == 0
        assert cli("lease", "info", sd, JOB).code == 3


def test_a_full_volume_is_refused_by_name(cli: Cli, sd: str) -> None:
    for number in range(5):
        assert cli("lease", "create", sd, f"l{number}").code == 0
    told = cli("lease", "create", sd, "l5", "--json")
    assert (told.code, told.error["kind"]) == (6, "NoSpace")


def test_a_damaged_value_block_is_told_and_hides_no_other_lease(cli: Cli, sd: str) -> None:
    place = cli("lease", "create", sd, "bad", "--json").json
    cli("lease", "create", sd, JOB, "--job-id", JOB)
    with Path(place["path"]).open("r+b") as volume:
        volume.seek(place["offset"] + 2002 * 512)
        volume.write(b"\x1b[31mgarbage".ljust(512, b"\0"))
    told = cli("lease", "status", sd, "bad", "--json")
    assert (told.code, told.error["code"]) == (6, 703)
    bad, good = cli("lease", "list", sd, "--json").json["leases"]
    assert "error" in bad
    assert good["job_status"] == "PENDING"
    assert "\x1b" not in cli("lease", "list", sd).out
