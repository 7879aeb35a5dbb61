"""`leasehold pki`: what it makes is what openssl takes, and what it says is what is to be done."""

import os
import re
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cli.pki import OF_ROOT, place
from host.config import Config
from tests.cli.run import Cli

pytestmark = pytest.mark.tools("openssl")


@pytest.fixture
def pki(cli: Cli) -> Path:
    """An authority in the default place of this user."""
    assert cli("pki", "init").code == 0
    return cli.home / "pki"


def verified(issued: dict[str, Any], *options: str) -> bool:
    """Does openssl take it? options: for which purpose, and for which host."""
    argv = ["openssl", "verify", "-x509_strict", "-CAfile", issued["ca"], *options]
    done = subprocess.run([*argv, issued["certificate"]], capture_output=True, check=False)
    return done.returncode == 0


def public_key(*argv: str) -> str:
    return subprocess.run(["openssl", *argv], capture_output=True, text=True, check=True).stdout


def test_a_certificate_of_a_host_is_good_for_its_names_and_as_a_server_only(
    cli: Cli, pki: Path
) -> None:
    names = ("host1.example.com", "--address", "192.0.2.11", "--address", "host1")
    told = cli("pki", "issue", *names, "--host", "--json")
    assert told.code == 0, told
    issued = told.json
    assert (issued["role"], issued["name"]) == ("host", "host1.example.com")
    assert issued["addresses"] == ["host1.example.com", "192.0.2.11", "host1"]
    for host in ("host1.example.com", "host1"):
        assert verified(issued, "-purpose", "sslserver", "-verify_hostname", host)
    assert verified(issued, "-verify_ip", "192.0.2.11")
    assert not verified(issued, "-verify_hostname", "host2.example.com")
    assert not verified(issued, "-purpose", "sslclient")


@pytest.mark.parametrize("role", ["engine", "monitor"])
def test_a_certificate_of_a_client_names_its_role_and_is_good_as_a_client_only(
    cli: Cli, pki: Path, role: str
) -> None:
    issued = cli("pki", "issue", "someone", "--role", role, "--days", 7, "--json").json
    assert verified(issued, "-purpose", "sslclient")
    assert not verified(issued, "-purpose", "sslserver")
    subject = public_key("x509", "-in", issued["certificate"], "-noout", "-subject")
    assert f"OU = {role}" in subject
    week = ("-checkend", str(6 * 86400)), ("-checkend", str(8 * 86400))
    ends = [
        subprocess.run(
            ["openssl", "x509", "-noout", "-in", issued["certificate"], *option],
            capture_output=True,
            check=False,
        ).returncode
        for option in week
    ]
    assert ends == [0, 1]


def test_key_and_certificate_belong_together_and_the_key_is_for_its_owner(
    cli: Cli, pki: Path
) -> None:
    issued = cli("pki", "issue", "someone", "--role", "engine", "--json").json
    of_key = public_key("pkey", "-in", issued["key"], "-pubout")
    assert public_key("x509", "-in", issued["certificate"], "-noout", "-pubkey") == of_key
    for key in pki.rglob("key.pem"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600, key


def test_it_says_what_belongs_into_the_configuration(cli: Cli, pki: Path) -> None:
    told = cli("pki", "issue", "host1.example.com", "--host")
    _, text = told.out.split("\n\n", 1)
    config = msgspec.convert(tomllib.loads(text), Config)
    assert config.listen.tls == ("*:54321",)
    files = config.certificates
    assert verified({"ca": files.ca, "certificate": files.certificate})
    assert files.key == str(pki / "host1.example.com" / "key.pem")


def test_it_says_how_a_client_uses_its_certificate(cli: Cli, pki: Path) -> None:
    """With the options of the commands that call a host."""
    out = cli("pki", "issue", "someone", "--role", "monitor").out
    options = out.splitlines()[-1].split()
    assert options[:2] == ["--host", "tls://NAME-OF-A-HOST"]
    options[1] = "tls://127.0.0.1:1"  # where nobody listens
    told = cli("job", "list", *options, "--json")
    assert (told.code, told.error["kind"]) == (5, "CannotConnect")


def test_nothing_is_replaced_unless_asked_for(cli: Cli, pki: Path) -> None:
    issue = ("pki", "issue", "someone", "--role", "engine")
    first = cli(*issue, "--json").json
    key = Path(first["key"]).read_text()
    for again in (("pki", "init"), issue):
        told = cli(*again, "--json")
        assert (told.code, told.error["code"]) == (2, 1000)
        assert "--replace" in told.error["message"]
    assert Path(first["key"]).read_text() == key
    assert cli(*issue, "--replace").code == 0
    assert Path(first["key"]).read_text() != key
    assert (pki / "someone.old-1" / "key.pem").read_text() == key
    assert cli("pki", "init", "--replace", "--name", "other").code == 0
    assert not verified({**first, "ca": str(pki / "ca" / "ca.pem")})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "--host, --role engine and --role monitor"),
        (("--host", "--role", "engine"), "--host, --role engine and --role monitor"),
        (("--role", "host"), "--role"),
        (("--role", "engine", "--address", "a.example.com"), "only with --host"),
        (("--host", "--address", "no name"), "neither a host name nor an address"),
        (("--host", "--days", "0"), "days"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_made(
    cli: Cli, pki: Path, options: tuple[str, ...], message: str
) -> None:
    told = cli("pki", "issue", "someone", *options, "--json")
    assert (told.code, told.error["code"]) == (2, 1000)
    assert message in told.error["message"]
    assert [path.name for path in pki.iterdir()] == ["ca"]


def test_without_an_authority_it_says_how_to_make_one(cli: Cli, tmp_path: Path) -> None:
    told = cli("pki", "issue", "someone", tmp_path / "pki", "--role", "engine")
    assert told.code == 2
    assert "`leasehold pki init`" in told.err


def test_another_folder_may_be_named_and_its_paths_are_told_in_full(
    cli: Cli, tmp_path: Path
) -> None:
    assert cli("pki", "init", "site", cwd=tmp_path).code == 0
    issued = cli("pki", "issue", "someone", "site", "--role", "engine", "--json", cwd=tmp_path).json
    assert issued["ca"] == str(tmp_path / "site" / "someone" / "ca.pem")
    assert not cli.home.exists()


def test_by_default_root_has_it_beside_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEASEHOLD_HOME", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert place(None) == OF_ROOT
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", "/home/someone/data")
    assert place(None) == Path("/home/someone/data/leasehold/pki")


def test_without_openssl_it_says_what_to_install(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    told = cli("pki", "init", "--json")
    assert (told.code, told.error["kind"]) == (1, "ToolMissing")
    assert re.search(r"install the package openssl\b", told.error["message"])
    assert not (cli.home / "pki" / "ca").exists()
