"""What the shell completes."""

import os
import subprocess
from pathlib import Path

import pytest

from jobs.status import Status
from tests.cli.run import COMMAND, PATIENCE, Cli


def completed(cli: Cli, *words: str) -> list[str]:
    """The completions of the last word of a command line, as bash asks for them."""
    asked = {
        "_LEASEHOLD_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(("leasehold", *words)),
        "COMP_CWORD": str(len(words)),
    }
    done = subprocess.run(
        COMMAND,
        env={**os.environ, **cli.environment, **asked},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_commands_and_options_are_completed(cli: Cli) -> None:
    assert completed(cli, "lea") == ["lease"]
    assert "--dry-run" in completed(cli, "copy", "--d")
    assert completed(cli, "job", "re") == ["resolve"]
    assert set(completed(cli, "job", "list", "--status", "")) == {status.value for status in Status}


@pytest.mark.parametrize(
    "words", [("domain", "info"), ("lease", "list"), ("volume", "list"), ("job", "resolve")]
)
def test_known_storage_domains_are_completed(
    cli: Cli, tmp_path: Path, words: tuple[str, str]
) -> None:
    sd = cli.domain(tmp_path / "mount")
    assert completed(cli, *words, sd[:4]) == [sd]
    assert completed(cli, *words, "zz") == []


def test_a_damaged_home_completes_nothing_and_says_nothing(cli: Cli) -> None:
    cli.home.mkdir()
    (cli.home / "domains.json").write_text("{")
    assert completed(cli, "domain", "info", "a") == []
