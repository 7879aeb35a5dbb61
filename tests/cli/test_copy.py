"""`leasehold copy`: results, refusals, and what the lease says afterwards."""

import os
import pty
import subprocess
import uuid
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cli.run import PATIENCE, Cli, ended, until

pytestmark = pytest.mark.tools("qemu-img")

MIB = 1 << 20
JOB = "5b3ad4a8-3a1b-4a36-8f2e-b0f4c27be1d3"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom(2 * MIB))
    return path


@pytest.fixture
def sd(cli: Cli, tmp_path: Path) -> str:
    return cli.domain(tmp_path / "mount")


def job_status(cli: Cli, sd: str, lease: str) -> object:
    return cli("lease", "status", sd, lease, "--json").json["metadata"]["job_status"]


def test_a_copy_tells_its_job_and_its_result(cli: Cli, source: Path, tmp_path: Path) -> None:
    told = cli("copy", source, tmp_path / "target", "--json")
    assert told.code == 0
    assert (tmp_path / "target").read_bytes() == source.read_bytes()
    result = told.json
    assert (result["status"], result["progress"], result["job_type"]) == ("done", 100, "storage")
    assert result["virtual_size"] == result["bytes"] == 2 * MIB
    assert set(result) >= {"id", "description", "seconds", "rate", "verified", "path_taken"}
    assert result["id"] == result["job_id"] == result["lease_id"]
    leases = cli("lease", "list", result["sd_id"], "--json").json["leases"]
    assert leases == [], "the lease is removed after success"


def test_a_copy_for_people(cli: Cli, source: Path, tmp_path: Path) -> None:
    told = cli("copy", source.name, "target", cwd=tmp_path)
    assert told.code == 0
    assert told.out.startswith("copied 2.00M in ")
    assert "job " in told.err
    assert (tmp_path / "target").read_bytes() == source.read_bytes()
    told = cli("copy", source.name, "./target", "--quiet", cwd=tmp_path)
    assert (told.code, told.out, told.err) == (0, "", "")


def test_the_lease_is_kept_when_asked(cli: Cli, source: Path, tmp_path: Path, sd: str) -> None:
    copy = ("copy", source, tmp_path / "t", "--domain", sd, "--job-id", JOB, "--keep-lease")
    assert cli(*copy, "--json").json["lease_id"] == JOB
    record = cli("lease", "status", sd, JOB, "--json").json["metadata"]
    assert (record["job_status"], record["generation"]) == ("SUCCEEDED", 1)
    told = cli(*copy, "--json")
    assert (told.code, told.error["code"]) == (6, 912), "a job id is used once"


def test_a_pending_lease_is_taken_up_with_its_generation(
    cli: Cli, source: Path, tmp_path: Path, sd: str
) -> None:
    cli("lease", "create", sd, JOB, "--job-id", JOB, "--generation", 999)
    copy = ("copy", source, tmp_path / "t", "--domain", sd, "--job-id", JOB, "--keep-lease")
    assert cli(*copy).code == 0
    record = cli("lease", "status", sd, JOB, "--json").json["metadata"]
    assert (record["job_status"], record["generation"]) == ("SUCCEEDED", 0)


def test_after_a_fence_the_job_id_is_refused_and_a_new_one_works(
    cli: Cli, source: Path, tmp_path: Path, sd: str
) -> None:
    cli("lease", "create", sd, JOB, "--job-id", JOB)
    cli("lease", "fence", sd, JOB, "--job-id", JOB, "--generation", 0)
    copy = ("copy", source, tmp_path / "t", "--domain", sd, "--job-id")
    told = cli(*copy, JOB, "--json")
    assert (told.code, told.error["code"]) == (6, 912)
    assert "use a new one" in cli(*copy, JOB).err
    assert not (tmp_path / "t").exists()
    assert cli(*copy, uuid.uuid4()).code == 0


def test_the_lease_of_another_job_is_refused(
    cli: Cli, source: Path, tmp_path: Path, sd: str
) -> None:
    cli("lease", "create", sd, JOB, "--job-id", uuid.uuid4())
    told = cli("copy", source, tmp_path / "t", "--domain", sd, "--job-id", JOB, "--json")
    assert (told.code, told.error["code"]) == (6, 2009)


@pytest.mark.parametrize(
    ("arguments", "code", "kind"),
    [
        (("missing", "t"), 3, "ImageMissing"),
        (("source", "no/folder/t"), 3, "ImageMissing"),
        (("source", "/dev/no-such-device"), 3, "ImageMissing"),
        (("source", "source"), 2, "SameImage"),
        (("source", "link"), 2, "SameImage"),
        (("source", "small"), 2, "TooSmall"),
        (("source", "."), 2, "ImageRefused"),
        (("source", "t", "--source-format", "qcow2"), 2, None),
        (("source", "nbd://localhost:1/x"), 5, "CannotConnect"),
        (("source", "t", "--domain", JOB), 3, "StorageDomainDoesNotExist"),
    ],
    ids=str,
)
def test_what_is_found_before_the_job_makes_no_job_and_no_lease(
    cli: Cli, source: Path, arguments: tuple[str, ...], code: int, kind: str | None
) -> None:
    folder = source.parent
    (folder / "link").symlink_to(source)
    (folder / "small").write_bytes(bytes(MIB))
    told = cli("copy", *arguments, "--json", cwd=folder)
    assert told.code == code
    assert kind in (None, told.error["kind"])
    assert not (folder / "t").exists()
    assert (folder / "small").read_bytes() == bytes(MIB)
    for row in cli("domain", "list", "--json").json["domains"]:
        assert cli("lease", "list", row["id"], "--json").json["leases"] == []


def test_a_backing_file_in_another_folder_must_be_allowed(cli: Cli, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "base").write_bytes(os.urandom(MIB))
    top = tmp_path / "top.qcow2"
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(other / "base")]
    subprocess.run([*create, str(top)], check=True)
    told = cli("copy", top, tmp_path / "t", "--json")
    assert (told.code, told.error["kind"]) == (2, "ImageRefused")
    assert cli("copy", top, tmp_path / "t", "--allow", other).code == 0
    assert (tmp_path / "t").read_bytes() == (other / "base").read_bytes()


def test_a_qcow2_target_is_made(cli: Cli, source: Path, tmp_path: Path) -> None:
    assert cli("copy", source, tmp_path / "t", "--format", "qcow2").code == 0
    assert (tmp_path / "t").read_bytes()[:4] == b"QFI\xfb"


@pytest.mark.tools("nbdkit")
def test_a_failure_in_the_job_is_exit_1_and_its_lease_stays(cli: Cli, tmp_path: Path) -> None:
    """The source can be read up to 1 MiB: only the copy itself finds out."""
    socket = tmp_path / "socket"
    url = f"nbd+unix:///?socket={socket}"
    read = f"test $4 -lt {MIB} && head -c $3 /dev/zero || {{ echo EIO >&2; exit 1; }}"
    kit = ["nbdkit", "-f", "-U", str(socket), "eval", "get_size=echo 4M", f"pread={read}"]
    with subprocess.Popen(kit, stderr=subprocess.DEVNULL) as server, ExitStack() as stack:
        stack.callback(server.kill)
        until(socket.exists)
        told = cli("copy", url, tmp_path / "t", "--json")
        assert told.code == 1, told
        data = told.error["data"]
        assert data["job"]["status"] == "failed"
        assert data["job_id"] == data["lease_id"]
        assert data["lease"]["metadata"]["job_status"] == "FAILED"
        assert job_status(cli, data["sd_id"], data["job_id"]) == "FAILED"
        assert "leasehold lease status" in cli("copy", url, tmp_path / "t").err


def test_processes_that_race_for_the_first_use_share_one_domain(
    cli: Cli, source: Path, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        running = [
            stack.enter_context(cli.started("copy", source, tmp_path / f"t{number}", "--json"))
            for number in range(4)
        ]
        told = [ended(process) for process in running]
    assert [one.code for one in told] == [0] * 4, told
    assert len({one.json["sd_id"] for one in told}) == 1
    assert len([*(cli.home / "leases").iterdir()]) == 1
    assert len(cli("domain", "list", "--json").json["domains"]) == 1


def test_the_default_domain_is_found_again_after_it_was_closed(
    cli: Cli, source: Path, tmp_path: Path
) -> None:
    sd = cli("copy", source, tmp_path / "a", "--json").json["sd_id"]
    cli("domain", "close", sd)
    assert cli("copy", source, tmp_path / "b", "--json").json["sd_id"] == sd
    assert cli("domain", "info", sd).code == 0


def test_a_terminal_shows_a_bar_and_keeps_its_cursor(
    cli: Cli, source: Path, tmp_path: Path
) -> None:
    master, slave = pty.openpty()
    with cli.started("copy", source, tmp_path / "t", "--limit", "2M", stderr=slave) as process:
        os.close(slave)
        shown = b""
        while piece := _read(master):
            shown += piece
        assert process.wait(PATIENCE) == 0
    os.close(master)
    text = shown.decode()
    assert "━" in text
    assert "of 2.00M" in text
    assert "\x1b[?25l" not in text, "a hidden cursor stays hidden when the process is killed"


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # EIO: nobody has the other side open
        return b""
