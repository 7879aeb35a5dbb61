"""The command line as such: version, help, errors in the arguments."""

import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from cli import VERSION
from cli.app import app
from tests.cli.run import ROOT, Cli

HEAVY = ("typer", "trio", "msgspec", "structlog", "rich")


def words_of(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command there is."""
    if hasattr(command, "commands"):
        for name, one in command.commands.items():
            yield from words_of(one, (*words, name))
    else:
        yield words


SD = "1dd9f4a2-0c59-4c1c-9d31-6a1d0d4ad2ef"
COMMANDS = list(words_of(get_command(app)))


def test_the_version_is_that_of_the_package() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        assert tomllib.load(file)["project"]["version"] == VERSION


def test_version_answers_without_importing_anything_of_weight(cli: Cli) -> None:
    code = (
        "import sys, cli.main; cli.main.main(['--version']);"
        f"sys.exit(sum(name in sys.modules for name in {HEAVY}))"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    print(f"leasehold --version: {1000 * (time.monotonic() - began):.0f} ms")
    assert (done.returncode, done.stdout.decode()) == (0, f"leasehold {VERSION}\n")
    assert cli("--version", "--json").json == {"name": "leasehold", "version": VERSION}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example_and_the_common_options(
    words: tuple[str, ...],
) -> None:
    found = CliRunner().invoke(app, [*words, "--help"])
    assert found.exit_code == 0
    assert f"Example: leasehold {' '.join(words)}" in found.output
    for option in ("--json", "--quiet", "--log-level"):
        assert option in found.output


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_example_of_every_command_can_be_read(words: tuple[str, ...]) -> None:
    command: Any = get_command(app)
    for word in words:
        command = command.commands[word]
    example = command.epilog.split("leasehold ", 1)[1].split()
    assert example[: len(words)] == list(words)
    with command.make_context("x", example[len(words) :]) as context:
        assert context.params


@pytest.mark.sample(12)
@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nonsense",),
        ("domain",),
        ("domain", "info"),
        ("domain", "info", "not-a-uuid"),
        ("domain", "list", "--store", "embedded"),
        ("domain", "create", "x", "--leases", "many"),
        ("domain", "create", "x", "--leases", "-1"),
        ("domain", "create", "x", "--block-size", "1024"),
        ("domain", "create", "x", "--io-timeout", "5"),
        ("domain", "create", "x", "--store", "embedded", "--io-timeout", "5"),
        ("domain", "create", "x", "--store", "sanlock", "--io-timeout", "0"),
        ("domain", "create", "x", "--store", "sanlock", "--io-timeout", "121"),
        ("domain", "create", "x", "--store", "other"),
        ("host", "join", SD),
        ("host", "join", SD, "--host-id", "0"),
        ("host", "join", SD, "--host-id", "2001"),
        ("host", "join", SD, "--host-id", "x"),
        ("domain", "create", ""),
        ("lease", "create", SD, "l", "--generation", "1"),
        ("lease", "info", SD, "with blank"),
        ("lease", "info", SD, "x" * 49),
        ("copy", "a"),
        ("copy", "a", "b", "--limit", "-1"),
        ("copy", "a", "b", "--limit", "0"),
        ("copy", "a", "b", "--format", "vmdk"),
        ("copy", "a", "b", "--job-id", "1"),
        ("copy", "a", "b", "--allow", "/does/not/exist"),
        ("copy", "a", "b", "--store", "other"),
        ("copy", "a", ""),
        ("copy", "a", "http://host/b"),
        ("copy", "a", "json:{}"),
        ("copy", "a\x1b[31m", "b"),
    ],
    ids=" ".join,
)
def test_bad_input_is_exit_2_with_one_line_or_one_json_object(
    cli: Cli, arguments: tuple[str, ...]
) -> None:
    told = cli(*arguments)
    assert told.code == 2
    assert told.out == ""
    assert told.err.startswith("leasehold: ")
    if arguments and arguments != ("domain",):  # these two show their help
        assert told.err.count("\n") == 1
    told = cli(*arguments, "--json")
    assert told.code == 2
    assert told.error["code"] == 1000
    assert not (cli.home / "leases").exists(), "nothing may be made for bad input"


def test_json_after_the_end_of_options_is_a_name(cli: Cli) -> None:
    told = cli("copy", "--", "--json")
    assert (told.code, told.out) == (2, "")
