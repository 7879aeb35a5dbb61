"""The unit of the engine, with a real systemd, set up as the operator's guide says."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd_host import HOST_TOOLS, Booted, booted, until

TOP = Path(__file__).parents[2]
ENGINE = "leasehold-engine"
PKI = "/etc/leasehold/pki"
CONFIG = "/etc/leasehold/engine.toml"
URL = "https://engine.test:8443"
ENGINE_TOML = f"""\
[listen]
tls = ["*:8443"]
plain = []
[certificates]
certificate = "{PKI}/engine.test/cert.pem"
key = "{PKI}/engine.test/key.pem"
[hosts]
ca = "{PKI}/engine/ca.pem"
certificate = "{PKI}/engine/cert.pem"
key = "{PKI}/engine/key.pem"
"""

pytestmark = pytest.mark.tools(*HOST_TOOLS, "openssl")


@pytest.fixture
def host() -> Iterator[Booted]:
    """With an engine that was set up and does not run yet."""
    with booted() as host:
        host(TOP / "scripts" / "install")
        host("sh", "-c", "echo 127.0.0.1 engine.test >> /etc/hosts")
        host("leasehold", "pki", "init")
        host("leasehold", "pki", "issue", "engine", "--role", "engine")
        host("leasehold", "pki", "issue", "engine.test", "--host")
        host.write(CONFIG, ENGINE_TOML)
        host("sh", "-c", "echo secret-word | leasehold engine init --password-stdin")
        yield host


def log_in(host: Booted) -> None:
    words = f"leasehold engine login {URL} --ca {PKI}/ca/ca.pem"
    host("sh", "-c", f"echo secret-word | {words}")


def hosts(host: Booted) -> list[str]:
    """What the engine tells of its hosts."""
    told = json.loads(host("leasehold", "engine", "host", "list", "--json"))
    return [one["name"] for one in told["hosts"]]


def shown(host: Booted) -> str:
    """The certificate that the engine shows."""
    ask = "openssl s_client -connect engine.test:8443 </dev/null 2>/dev/null"
    return host("sh", "-c", f"{ask} | openssl x509 -noout -fingerprint")


def test_an_engine_that_is_killed_or_restarted_is_there_again_with_all_that_it_knew(
    host: Booted,
) -> None:
    host("systemctl", "enable", "--now", ENGINE)
    log_in(host)
    host("leasehold", "engine", "host", "add", "host1", "tls://host1.test:54321")
    for what in (
        ("kill", "--kill-whom=main", "--signal=KILL", ENGINE),
        ("restart", ENGINE),
    ):
        before = host.property(ENGINE, "MainPID")
        host("systemctl", *what)
        host.reaches(ENGINE, "running", other_than=before)
        assert hosts(host) == ["host1"], what
    host("systemctl", "stop", ENGINE)
    assert host.property(ENGINE, "ActiveState") == "inactive"
    assert host.property(ENGINE, "Result") == "success"


def test_an_engine_that_hangs_is_started_anew(host: Booted) -> None:
    host.change(ENGINE, "[Service]\nWatchdogSec=1\nTimeoutAbortSec=1\n")
    host("systemctl", "start", ENGINE)
    host("systemctl", "kill", "--kill-whom=main", "--signal=STOP", ENGINE)
    until(lambda: host.property(ENGINE, "NRestarts") == "1", lambda: host.log)
    until(lambda: host.property(ENGINE, "ActiveState") == "active", lambda: host.log)
    log_in(host)


def test_an_engine_with_a_bad_configuration_is_not_tried_again(host: Booted) -> None:
    host("sh", "-c", f"echo nonsense >> {CONFIG}")
    host("systemctl", "start", ENGINE, check=False)
    assert host.property(ENGINE, "ActiveState") == "failed"
    assert host.property(ENGINE, "NRestarts") == "0"
    assert CONFIG in host.log


def test_a_new_certificate_is_shown_after_a_reload(host: Booted) -> None:
    host("systemctl", "start", ENGINE)
    before, process = shown(host), host.property(ENGINE, "MainPID")
    host("leasehold", "pki", "issue", "engine.test", "--host", "--replace")
    assert shown(host) == before
    host("systemctl", "reload", ENGINE)
    until(lambda: shown(host) != before, lambda: host.log)
    assert host.property(ENGINE, "MainPID") == process
