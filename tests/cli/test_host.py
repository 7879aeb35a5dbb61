"""`leasehold host`, and domains of sanlock, with real daemons."""

import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.run import ROOT, Cli, ended, until
from tests.sanlock_hosts import IO_TIMEOUT, Host, running
from tests.servers import WAIT

pytestmark = pytest.mark.tools("sanlock", "setpriv")

NAME = "cli-host"


@dataclass(frozen=True)
class HostCli(Cli):
    """The command on a host, which a run directory of sanlock makes."""

    run_dir: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "SANLOCK_RUN_DIR": str(self.run_dir)}

    def shared(self, mount: Path, io_timeout: int = IO_TIMEOUT) -> str:
        """A new domain of sanlock; returns its id."""
        made = self(
            *("domain", "create", mount, "--leases", 3, "--json"),
            *("--store", "sanlock", "--io-timeout", io_timeout),
        )
        assert made.code == 0, made
        return str(made.json["id"])

    def ids(self, sd: str) -> Path:
        return Path(self("domain", "info", sd, "--json").json["path"], "dom_md", "ids")

    def join(self, sd: str, host_id: int = 1) -> None:
        done = self("host", "join", sd, "--host-id", host_id, "--no-watchdog")
        assert done.code == 0, done

    def state(self, sd: str) -> tuple[str, int | None]:
        told = self("host", "status", sd, "--json").json
        return told["state"], told["host_id"]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Short, for sockets; other users may enter it."""
    folder = Path(tempfile.mkdtemp(prefix="lh-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def host(folder: Path) -> Iterator[Host]:
    with running(NAME, folder, 1) as host:
        yield host


@pytest.fixture
def cli(host: Host, tmp_path: Path) -> HostCli:
    return HostCli(tmp_path / "home", host.run_dir)


@pytest.fixture
def nowhere(tmp_path: Path) -> HostCli:
    """Where no daemon runs; the same home."""
    return HostCli(tmp_path / "home", tmp_path)


def test_a_domain_of_sanlock_is_created_joined_used_and_left(cli: HostCli, tmp_path: Path) -> None:
    sd = cli.shared(tmp_path / "m")
    told = cli("domain", "info", sd, "--json").json
    assert (told["store"], told["joined"]) == ("sanlock", False)
    # Before it is joined.
    assert cli.state(sd) == ("not joined", None)
    told = cli("lease", "create", sd, "l", "--json")
    assert (told.code, told.error["code"]) == (6, 4008)
    assert f"leasehold host join {sd} --host-id N" in told.error["message"]
    told = cli("lease", "create", sd, "l", "--store", "sanlock", "--json")
    assert (told.code, told.error["code"]) == (6, 4011)
    told = cli("host", "join", sd, "--host-id", 3)
    assert (told.code, "--no-watchdog" in told.err) == (6, True)
    # Joining.
    told = cli("host", "join", sd, "--host-id", 3, "--no-watchdog", "--json")
    assert told.code == 0
    member = {"sd_id": sd, "host_id": 3, "host_name": NAME, "generation": 1, "io_timeout": 1}
    assert told.json == member
    told = cli("host", "join", sd, "--host-id", 3, "--json")  # so it is, whatever its watchdog
    assert (told.code, told.json) == (0, member)
    told = cli("host", "join", sd, "--host-id", 4, "--no-watchdog", "--json")
    assert (told.code, told.error["code"], told.error["data"]["verb"]) == (6, 661, "join")
    assert "host id 3" in told.error["message"]
    # Joined.
    told = cli("domain", "info", sd, "--json").json
    assert (told["store"], told["joined"]) == ("sanlock", True)
    until(lambda: cli("host", "status", sd, "--json").json["hosts"][0]["state"] == "live")
    told = cli("host", "status", sd, "--json").json
    (known,) = told.pop("hosts")
    assert told.pop("version")
    assert told == {**member, "state": "joined", "watchdog": False}
    assert (known["host_id"], known["name"], known["generation"]) == (3, NAME, 1)
    assert NAME in cli("host", "status", sd).out
    for store in ("auto", "sanlock"):
        assert cli("lease", "create", sd, f"l-{store}", "--store", store).code == 0
        assert cli("lease", "status", sd, f"l-{store}", "--store", store, "--json").code == 0
    assert cli("lease", "create", sd, "l", "--store", "embedded").code == 6
    assert cli("lease", "create", sd, "x" * 49, "--store", "sanlock").code == 2
    (tmp_path / "disk").write_bytes(b"x" * 4096)
    told = cli("copy", tmp_path / "disk", tmp_path / "copy", "--domain", sd, "--store", "sanlock")
    assert told.code == 0, told
    # Leaving.
    assert cli("host", "leave", sd, "--json").json == {"sd_id": sd}
    assert cli("host", "leave", sd).code == 0
    assert cli.state(sd) == ("not joined", None)


def test_a_lease_that_is_held_keeps_the_host_in(cli: HostCli, host: Host, tmp_path: Path) -> None:
    sd = cli.shared(tmp_path / "m")
    cli.join(sd)
    assert cli("lease", "create", sd, "l").code == 0
    place = cli("lease", "info", sd, "l", "--json").json
    where = f"{sd.encode()!r}, b'l', [({place['path']!r}, {place['offset']})]"
    holder = subprocess.Popen(
        [
            "/usr/bin/python3",
            "-c",
            f"import sanlock as s; s.acquire({where}, slkfd=s.register()); print(flush=True);"
            " input()",
        ],
        env=cli.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout
        holder.stdout.readline()
        told = cli("host", "leave", sd, "--json")
        holder.kill()
    assert (told.code, told.error["code"], told.error["data"]["verb"]) == (6, 661, "leave")
    assert f"leasehold lease list {sd}" in told.error["message"]
    assert until(lambda: cli("host", "leave", sd).code == 0)


def test_joining_tells_how_long_it_will_take_and_ends_at_ctrl_c(
    cli: HostCli, tmp_path: Path
) -> None:
    """Of an embedded domain, whose lockspace then has the usual io_timeout: 21 s."""
    sd = cli.domain(tmp_path / "m")
    with cli.started("host", "join", sd, "--host-id", 1, "--no-watchdog", "--json") as process:
        assert process.stderr
        line = process.stderr.readline()
        while "left" not in line:  # the first may come before the daemon has begun
            assert line
            line = process.stderr.readline()
        assert line.startswith("leasehold: joining ")
        assert cli.state(sd) == ("joining or leaving", 1)
        process.send_signal(signal.SIGINT)
        told = ended(process)
    assert (told.code, told.error["code"]) == (4, 443)
    assert cli.state(sd) == ("not joined", None)
    assert cli("domain", "info", sd, "--json").json["store"] == "sanlock"


def test_a_host_whose_name_will_not_last_is_warned(folder: Path, tmp_path: Path) -> None:
    with running(f"{uuid.uuid4()}.x", folder, 1) as host:
        cli = HostCli(tmp_path / "home", host.run_dir)
        sd = cli.shared(tmp_path / "m")
        told = cli("host", "join", sd, "--host-id", 1, "--no-watchdog", "--json")
        assert told.json["host_name"] == host.name
        assert "made up the name" in told.err


def test_a_writer_of_the_former_life_keeps_the_host_out_until_it_is_gone(
    folder: Path, tmp_path: Path
) -> None:
    """The daemon dies and is started again; a process that holds a lease does not die with it."""
    with running("again", folder, 1) as host:
        cli = HostCli(tmp_path / "home", host.run_dir)
        sd = cli.shared(tmp_path / "m")
        cli.join(sd)
        code = f"from leases import writers; writers.covered({sd!r}); print(flush=True); input()"
        with subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=cli.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as writer:
            assert writer.stdout
            writer.stdout.readline()
            host.kill()
            host.start()
            with cli.started("host", "join", sd, "--host-id", 1, "--no-watchdog") as process:
                assert process.stderr
                line = process.stderr.readline()
                assert "waiting for up to 10 s: processes of this host can still write" in line
                assert f" {writer.pid};" in line
                assert cli.state(sd) == ("not joined", None)
                writer.kill()
                assert ended(process).code == 0
        assert cli("host", "status", sd, "--json").json["generation"] == 2


@pytest.mark.parametrize("arguments", [("join", "--host-id", "1"), ("leave",), ("status",)])
def test_without_a_daemon_there_is_no_host(
    cli: HostCli, nowhere: HostCli, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    sd = cli.shared(tmp_path / "m")
    verb, *options = arguments
    told = nowhere("host", verb, sd, *options, "--json")
    assert (told.code, told.error["code"]) == (5, 4012)
    assert str(nowhere.run_dir) in told.error["message"]
    told = nowhere("lease", "list", sd, "--store", "sanlock", "--json")
    assert (told.code, told.error["code"]) == (5, 4012)
    assert nowhere("domain", "info", sd, "--json").json["joined"] is None
    told = nowhere("lease", "create", sd, "l")  # auto
    assert (told.code, "`leasehold host join SD --host-id N`" in told.err) == (5, True)
    assert nowhere("lease", "list", sd, "--json").code == 0


def test_a_domain_of_the_embedded_store_needs_no_daemon(nowhere: HostCli, tmp_path: Path) -> None:
    sd = nowhere.domain(tmp_path / "m")
    assert nowhere("lease", "create", sd, "l").code == 0
    assert nowhere("domain", "info", sd, "--json").json["joined"] is False


def test_a_daemon_that_refuses_the_user_says_who_may(
    cli: HostCli, folder: Path, tmp_path: Path
) -> None:
    """Its socket is of mode 0660."""
    home = folder / "home of nobody"
    other = HostCli(home, cli.run_dir)
    sd = other.shared(folder / "mount")
    shutil.chown(home, "nobody")
    for path in home.iterdir():
        shutil.chown(path, "nobody")
    as_nobody = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]
    if subprocess.run([*as_nobody, "test", "-r", ROOT / "cli" / "main.py"], check=False).returncode:
        pytest.skip("this checkout is where only its owner can read")
    done = subprocess.run(
        [*as_nobody, sys.executable, "-m", "cli.main", "host", "status", sd],
        env=other.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    assert (done.returncode, done.stdout) == (5, "")
    assert "become root, or a member of the group sanlock" in done.stderr


def test_a_daemon_that_is_stopped_is_not_waited_for(folder: Path, tmp_path: Path) -> None:
    with running("stopped", folder, 1) as host:
        cli = HostCli(tmp_path / "home", host.run_dir)
        sd = cli.shared(tmp_path / "m")
        host.signal(signal.SIGSTOP)
        with (
            cli.started("host", "status", sd, "--json") as status,
            cli.started("lease", "list", sd, "--store", "sanlock", "--json") as leases,
        ):
            for told in (ended(status), ended(leases)):
                assert (told.code, told.error["code"]) == (5, 4012)
                assert "may be stopped" in told.error["message"]


def test_a_lockspace_of_another_domain_is_refused(cli: HostCli, tmp_path: Path) -> None:
    sd, other = cli.shared(tmp_path / "m"), cli.shared(tmp_path / "m")
    shutil.copyfile(cli.ids(other), cli.ids(sd))
    told = cli("host", "join", sd, "--host-id", 1, "--no-watchdog", "--json")
    assert (told.code, told.error["code"]) == (6, 661)
    assert other in told.error["message"]


def test_the_leases_of_another_domain_are_refused(cli: HostCli, tmp_path: Path) -> None:
    """A lease volume of another lockspace."""
    sd, other = cli.shared(tmp_path / "m"), cli.shared(tmp_path / "m")
    cli.join(sd)
    shutil.copyfile(cli.ids(other).with_name("xleases"), cli.ids(sd).with_name("xleases"))
    told = cli("lease", "create", sd, "l", "--json")
    assert (told.code, told.error["code"]) == (6, 4005), told
    assert f"belongs to another domain, '{other}'" in told.error["message"]
    assert cli("host", "leave", sd).code == 0


def test_nothing_of_a_membership_is_remembered_by_the_command(cli: HostCli, tmp_path: Path) -> None:
    sd = cli.shared(tmp_path / "m")
    before = {path: path.read_bytes() for path in cli.home.iterdir() if path.is_file()}
    cli.join(sd)
    assert {path: path.read_bytes() for path in cli.home.iterdir() if path.is_file()} == before
    assert cli("host", "leave", sd).code == 0


@pytest.mark.full
def test_the_id_of_a_host_that_died_is_free_after_more_than_a_minute(
    cli: HostCli, folder: Path, tmp_path: Path
) -> None:
    sd = cli.shared(tmp_path / "m")
    with running("dead", folder, 1) as dead:
        dead.join(sd, cli.ids(sd))
    with cli.started("host", "join", sd, "--host-id", 1, "--no-watchdog", "--json") as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert '"generation": 2' in out
    assert "0:01:0" in err  # more than a minute left, at the beginning
    assert cli("host", "leave", sd).code == 0
