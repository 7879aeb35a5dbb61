"""`leasehold copy --dry-run`: everything is checked, nothing is written."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.run import Cli

pytestmark = pytest.mark.tools("qemu-img")

MIB = 1 << 20


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "100M"], check=True)
    subprocess.run(["qemu-io", "-c", "write 0 3M", path], check=True, stdout=subprocess.DEVNULL)
    return path


def test_it_tells_the_plan_and_makes_nothing(cli: Cli, source: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    told = cli("copy", source, tmp_path / "new.raw", "--dry-run", "--json")
    assert told.code == 0, told
    plan = told.json
    assert plan["dry_run"] is True
    assert plan["source"]["virtual_size"] == 100 * MIB
    assert plan["source"]["data"] == plan["needed"] == 3 * MIB
    assert (plan["target"]["exists"], plan["target"]["size"]) == (False, 100 * MIB)
    assert plan["target"]["free"] > 0
    assert plan["tool"] == "qemu-img"
    assert "--target-is-zero" in plan["path_taken"]
    assert any("zero" in reason for reason in plan["why"])
    assert sorted(tmp_path.iterdir()) == before
    assert not cli.home.exists(), "not even a domain for leases"


def test_the_plan_is_what_the_copy_then_does(cli: Cli, source: Path, tmp_path: Path) -> None:
    arguments = "copy", source, tmp_path / "new.qcow2", "--format", "qcow2"
    plan = cli(*arguments, "--dry-run", "--json").json
    result = cli(*arguments, "--json").json
    assert result["path_taken"] == plan["path_taken"]
    assert result["bytes"] == plan["source"]["data"]


def test_people_are_told_sizes_and_reasons(cli: Cli, source: Path, tmp_path: Path) -> None:
    told = cli("copy", source, tmp_path / "new.raw", "--dry-run", "--limit", "1M")
    assert "100M, 3.00M of data" in told.out
    assert "would be created" in told.out
    assert "held back to 1048576 bytes a second" in told.out
    assert told.out.endswith("nothing was written\n")


def test_an_existing_target_stays_as_it_is(cli: Cli, source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(os.urandom(MIB) + bytes(99 * MIB))
    content, time = target.read_bytes(), target.stat().st_mtime_ns
    plan = cli("copy", source, target, "--dry-run", "--json").json
    assert plan["target"]["exists"] is True
    assert (target.read_bytes(), target.stat().st_mtime_ns) == (content, time)


@pytest.mark.parametrize(
    ("source_name", "target_name", "code", "kind"),
    [
        ("nothing", "new", 3, "ImageMissing"),
        ("source.qcow2", "source.qcow2", 2, "SameImage"),
        ("source.qcow2", "small", 2, "TooSmall"),
        ("source.qcow2", "nbd+unix:///?socket=/no/such/socket", 3, "ImageMissing"),
    ],
)
def test_it_finds_what_a_copy_would_find(
    cli: Cli, source: Path, source_name: str, target_name: str, *, code: int, kind: str
) -> None:
    (source.parent / "small").write_bytes(bytes(MIB))
    told = cli("copy", source_name, target_name, "--dry-run", "--json", cwd=source.parent)
    assert (told.code, told.error["kind"]) == (code, kind)


def test_the_lease_is_looked_at_too(cli: Cli, source: Path, tmp_path: Path) -> None:
    sd = cli.domain(tmp_path / "mount")
    job = "5b3ad4a8-3a1b-4a36-8f2e-b0f4c27be1d3"
    arguments = "copy", source, tmp_path / "new.raw", "--domain", sd, "--job-id", job
    assert cli(*arguments, "--dry-run", "--json").json["tracked_by"].startswith("a new lease in")
    assert cli("lease", "list", sd, "--json").json == {"leases": []}
    assert cli(*arguments, "--keep-lease").code == 0
    told = cli(*arguments, "--dry-run", "--json")
    assert (told.code, told.error["code"]) == (6, 912)
    nowhere = "copy", source, tmp_path / "new.raw", "--domain", job, "--dry-run", "--json"
    assert (cli(*nowhere).code, cli(*nowhere).error["kind"]) == (3, "StorageDomainDoesNotExist")
