"""`leasehold engine serve|init|config|login|logout`: the engine as a process."""

import json
import os
import signal
import socket
import ssl
import stat
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.config import Config
from tests.cli.engine_cli import EngineCli
from tests.cli.run import Cli, Ended, until
from tests.engine_service import ADMIN, PASSWORD, Engine, engine, initialized, sqlite_url
from tests.faults.command import Command, command
from tests.tgt_server import free_port

JSON = {"LEASEHOLD_ENGINE_LOG_FORMAT": "json"}
SLOW = {"WATCHDOG_USEC": "300000"}


@pytest.fixture
def cli(tmp_path: Path) -> EngineCli:
    return EngineCli(tmp_path / "home")


@pytest.fixture
def leasehold(tmp_path: Path) -> Iterator[Command]:
    with command(tmp_path) as made:
        yield made


@pytest.fixture
def database(leasehold: Command, tmp_path: Path) -> str:
    """That of an engine which is ready for its first start."""
    url = sqlite_url(tmp_path)
    initialized(leasehold, url)
    return url


def ok(ended: Ended) -> Ended:
    assert ended.code == 0, ended
    return ended


def records(made: Engine) -> list[dict[str, object]]:
    return [json.loads(line) for line in made.log.splitlines()]


# --- init ----------------------------------------------------------------------------------------


def test_init_makes_all_that_is_needed_and_prints_the_password_once(cli: EngineCli) -> None:
    first = ok(cli("init", "--json")).json
    state = cli.home / "engine"
    assert first["key_file"] == str(state / "secrets.key")
    assert first["database"] == f"sqlite:///{state / 'engine.sqlite'}"
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in state.iterdir()} == {
        "secrets.key": 0o600,
        "engine.sqlite": 0o600,
        "engine.sqlite.engine": 0o600,
    }
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert first["password"] not in (state / "engine.sqlite").read_text("latin-1")
    assert len(first["password"]) >= 24


def test_init_takes_a_password_from_stdin_and_does_not_print_it(cli: EngineCli) -> None:
    told = ok(cli("init", "--user", "anna", "--password-stdin", stdin="long enough\n"))
    assert told.out.startswith("anna may do all\n")
    assert "long enough" not in told.out + told.err


@pytest.mark.parametrize(
    ("words", "stdin", "said"),
    [
        (("--password-stdin",), "", "stdin is empty"),
        (("--password-stdin",), "short\n", "8 to 1024 characters"),
        (("--user", "a b\n"), "", "user"),
        (("--set", "database.url=mysql://x"), "", "sqlite:////FILE or postgresql://"),
        (("--set", "folders.state=/dev/null/x"), "", "/dev/null"),
    ],
)
def test_what_init_cannot_use_is_told(
    cli: EngineCli, words: tuple[str, ...], stdin: str, said: str
) -> None:
    ended = cli("init", *words, stdin=stdin)
    assert ended.code == 2, ended
    assert said in ended.err


def test_init_gives_an_administrator_a_new_password(
    leasehold: Command, database: str, tmp_path: Path
) -> None:
    with engine(leasehold, database) as made:
        token = made.token
    initialized(leasehold, database)  # the same again
    with engine(leasehold, database) as made:
        assert EngineCli(tmp_path / "home", made.url, token)("whoami").code == 6  # it ended
        assert EngineCli(tmp_path / "home", made.url, made.token)("whoami").code == 0


# --- serve ---------------------------------------------------------------------------------------


def test_it_serves_from_when_it_says_so_until_it_is_asked_to_stop(
    leasehold: Command, database: str
) -> None:
    with engine(leasehold, database, environment=SLOW) as made:
        assert made.get("/ovirt-engine/api")["product_info"]["name"] == "leasehold"
        for _ in range(3):
            made.manager.until("WATCHDOG=1")
        assert made.stop() == 0
        made.manager.until("STOPPING=1", 1.0)
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", made.port), 5)


def test_ctrl_c_stops_it_too_and_a_closed_terminal_does_not(
    leasehold: Command, database: str
) -> None:
    with engine(leasehold, database) as made:
        made.running.signal(signal.SIGHUP)
        assert made.get("disks") == {}
        made.running.signal(signal.SIGINT)
        assert made.running.process.wait(60) == 0


def test_who_follows_events_does_not_keep_it_from_stopping(
    leasehold: Command, database: str, cli: EngineCli
) -> None:
    with engine(leasehold, database) as made:
        follower = EngineCli(cli.home, made.url, made.token)
        with follower.started("event", "watch", "--timeout", "0.1") as watching:
            assert watching.stderr is not None
            try:
                assert "following the events" in watching.stderr.readline()
                began = time.monotonic()
                assert made.stop() == 0
                assert time.monotonic() - began < 5  # no connection was cut off in the end
                assert watching.wait(60) == 5
            finally:
                watching.kill()


def test_a_client_that_is_silent_does_not_keep_it_from_stopping(
    leasehold: Command, database: str
) -> None:
    with (
        engine(leasehold, database) as made,
        socket.create_connection(("127.0.0.1", made.port)) as silent,
    ):
        silent.sendall(b"POST /ovirt-engine/sso/oauth/token HTTP/1.1\r\nhost: x\r\n")
        silent.sendall(b"content-type: application/x-www-form-urlencoded\r\n")
        silent.sendall(b"content-length: 10\r\n\r\nx")
        made.get("disks")
        made.running.signal(signal.SIGTERM)
        assert made.running.process.wait(20) == 0  # it would have 30 s to send the rest


def test_a_request_that_is_under_way_is_answered_before_it_stops(
    leasehold: Command, database: str
) -> None:
    form = f"grant_type=password&scope=ovirt-app-api&username={ADMIN}&password=wrong".encode()
    head = "POST /ovirt-engine/sso/oauth/token HTTP/1.1\r\nhost: x\r\n"
    head += "content-type: application/x-www-form-urlencoded\r\n"
    head += f"content-length: {len(form)}\r\n\r\n"
    with (
        engine(leasehold, database) as made,
        socket.create_connection(("127.0.0.1", made.port), timeout=30) as asking,
    ):
        asking.sendall(head.encode() + form[:5])
        made.get("disks")  # what came before this was read
        made.running.signal(signal.SIGTERM)
        until(lambda: refused(made.port))
        asking.sendall(form[5:])
        assert asking.recv(65536).startswith(b"HTTP/1.1 401 ")
        assert made.running.process.wait(60) == 0


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_there_is_one_engine_for_one_database(leasehold: Command, database: str) -> None:
    with (
        engine(leasehold, database) as made,
        engine(leasehold, database, ready=False) as second,
    ):
        assert second.running.process.wait(60) == 6
        assert "another engine" in second.log
        assert f"process {made.pid}" in second.log
        assert made.get("disks") == {}


def test_init_is_refused_while_the_engine_runs(leasehold: Command, database: str) -> None:
    with engine(leasehold, database), pytest.raises(AssertionError, match="another engine"):
        initialized(leasehold, database)


def test_an_engine_that_stands_by_takes_over_and_can_be_stopped_before(
    leasehold: Command, database: str
) -> None:
    with (
        engine(leasehold, database) as made,
        engine(leasehold, database, "database.standby=true", ready=False) as second,
    ):
        until(lambda: "stands by" in second.log)
        assert second.stop() == 0
        with engine(leasehold, database, "database.standby=true", ready=False) as third:
            until(lambda: "stands by" in third.log)
            made.kill()
            third.manager.until("READY=1")
            third.login()
            assert third.get("disks") == {}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["listen.plain="], "nobody could come in"),
        (["listen.plain=192.0.2.1:1"], "no loopback address"),
        (["listen.plain=*:0"], "no loopback address"),
        (["listen.tls=*:1"], "listen.tls needs the certificate"),
        (["listen.plain=127.0.0.1:65536"], "listen.plain"),
        (["database.url=sqlite://"], "sqlite:////FILE"),
        (["no.such=1"], "no such setting"),
        (["nonsense"], "SECTION.KEY=VALUE"),
        (["folders.state=/dev/null/x"], "/dev/null"),
        (
            [
                "listen.tls=127.0.0.1:0",
                "certificates.certificate=/none",
                "certificates.key=/none",
            ],
            "/none",
        ),
    ],
)
def test_what_cannot_be_is_told(cli: EngineCli, settings: list[str], said: str) -> None:
    options = [word for one in settings for word in ("--set", one)]
    ended = cli("serve", "--set", "listen.plain=127.0.0.1:0", *options)
    assert ended.code == 2, ended
    assert said in ended.err


def test_a_port_that_is_taken_is_told(cli: EngineCli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = cli("serve", "--set", f"listen.plain=127.0.0.1:{port}")
    assert ended.code == 2
    assert f"listen.plain: 127.0.0.1:{port}" in ended.err


def test_metrics_and_health_are_told_where_they_are_configured(
    leasehold: Command, database: str
) -> None:
    port = free_port()
    with engine(leasehold, database, f"listen.metrics=127.0.0.1:{port}", environment=JSON) as made:
        made.get("disks")
        told = got(f"http://127.0.0.1:{port}/metrics")
        assert 'leasehold_engine_request_duration_seconds_count{method="GET"' in told
        health = json.loads(got(f"http://127.0.0.1:{port}/health"))
        assert health == {"status": "ok", "database": {"answers": True}, "hosts": {}}
        assert made.stop() == 0
        assert {"ready", "stopping; commands go on at the next start"} <= {
            one["event"] for one in records(made)
        }


def got(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return str(answer.read().decode())


# --- TLS -----------------------------------------------------------------------------------------


def test_it_is_reached_with_tls_and_reads_its_certificate_again(
    leasehold: Command, database: str, tmp_path: Path
) -> None:
    pki = tmp_path / "pki"
    plain = Cli(tmp_path / "home")
    ok(plain("pki", "init", pki))
    issue = ("pki", "issue", "localhost", pki, "--host", "--address", "127.0.0.1")
    issued = ok(plain(*issue, "--json")).json
    port = free_port()
    settings = (
        f"listen.tls=127.0.0.1:{port}",
        f"certificates.certificate={issued['certificate']}",
        f"certificates.key={issued['key']}",
    )
    with engine(leasehold, database, *settings) as made:
        anna, url = EngineCli(tmp_path / "home"), f"https://127.0.0.1:{port}"
        stranger = anna("login", url, stdin=PASSWORD)
        assert (stranger.code, "CERTIFICATE_VERIFY_FAILED" in stranger.err) == (5, True)
        ok(anna("login", url, "--ca", issued["ca"], stdin=PASSWORD))
        assert ok(anna("disk", "list")).out == "no disks\n"  # the authority was remembered
        first = certificate(port)
        ok(plain(*issue, "--replace"))
        made.running.signal(signal.SIGHUP)
        until(lambda: certificate(port) != first)
        ok(anna("disk", "list"))
        Path(issued["certificate"]).write_text("nonsense")
        second = certificate(port)
        made.running.signal(signal.SIGHUP)
        until(lambda: "the former one stays in use" in made.log)
        assert certificate(port) == second
        assert made.stop() == 0


def certificate(port: int) -> str:
    return ssl.get_server_certificate(("127.0.0.1", port), timeout=20)


# --- login ---------------------------------------------------------------------------------------


def test_who_logs_in_is_known_until_the_logout(
    leasehold: Command, database: str, tmp_path: Path
) -> None:
    anna = EngineCli(tmp_path / "anna")
    with engine(leasehold, database) as made:
        wrong = anna("login", made.url, "--json", stdin="not the word\n")
        assert (wrong.code, wrong.error["kind"]) == (6, "Unauthorized")
        ok(anna("login", made.url, stdin=PASSWORD))
        kept = tmp_path / "anna" / "engines.json"
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert PASSWORD not in kept.read_text()
        assert ok(anna("whoami")).out == f"{ADMIN} (admin) at {made.url}\n"
        stolen = json.loads(kept.read_text())["engines"][made.url]["token"]
        ok(anna("logout"))
        assert stolen not in kept.read_text()
        assert EngineCli(tmp_path / "other", made.url, stolen)("whoami").code == 6
        after = anna("disk", "list")
        assert (after.code, "no engine is known" in after.err) == (2, True)


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("http://127.0.0.1:1", 5, "cannot connect to http://127.0.0.1:1"),
        ("nonsense", 2, "no url of an engine"),
        ("ftp://127.0.0.1/", 2, "no url of an engine"),
        ("http://127.0.0.1:x", 2, "no url of an engine"),
        ("", 2, "no url of an engine"),
    ],
)
def test_an_engine_that_cannot_be_reached_is_told(
    cli: EngineCli, url: str, code: int, said: str
) -> None:
    ended = cli("login", url, stdin=PASSWORD)
    assert ended.code == code, ended
    assert said in ended.err


def test_what_answers_and_is_no_engine_is_told(cli: EngineCli) -> None:
    """Something else that speaks HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with EngineCli(cli.home, url, "x").started("disk", "list") as asking:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>")
                _, said = asking.communicate(timeout=60)
    assert asking.returncode == 5
    assert "no engine answers there" in said


def test_without_a_login_it_is_said_how(cli: EngineCli) -> None:
    ended = EngineCli(cli.home, "http://127.0.0.1:1")("disk", "list", "--json")
    assert (ended.code, ended.error["kind"]) == (6, "Unauthorized")
    assert "leasehold engine login" in ended.error["message"]


def test_a_damaged_file_of_logins_is_told_and_completes_nothing(cli: EngineCli) -> None:
    cli.home.mkdir()
    (cli.home / "engines.json").write_text("{")
    ended = cli("disk", "list")
    assert (ended.code, "engines.json is damaged" in ended.err) == (2, True)


# --- config --------------------------------------------------------------------------------------


def test_the_configuration_is_shown(cli: EngineCli, tmp_path: Path) -> None:
    file = tmp_path / "engine.toml"
    file.write_text('[hosts]\ngrace = "2m"\n')
    shown = ok(cli("config", "--config", file, "--set", "limits.burst=7")).out
    told = tomllib.loads(shown)
    assert (told["hosts"]["grace"], told["limits"]["burst"]) == ("2m", 7)
    assert told["folders"]["state"] == str(cli.home / "engine")
    file.write_text(shown)
    assert ok(cli("config", "--config", file)).out == shown
    assert ok(cli("config", "--json")).json["hosts"]["grace"] == 60.0
    assert tomllib.loads(ok(cli("config", "--defaults")).out) == {
        name: {} for name in Config.__struct_fields__
    }


def test_the_unit_of_systemd_starts_what_there_is() -> None:
    unit = Path(__file__).parents[2] / "packaging" / "systemd" / "leasehold-engine.service"
    text = unit.read_text()
    assert "ExecStart=/usr/local/bin/leasehold engine serve\n" in text
    assert "Type=notify\n" in text
    assert os.access(unit, os.R_OK)
