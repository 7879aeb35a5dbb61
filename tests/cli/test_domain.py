"""`leasehold domain`."""

import json
import uuid
from pathlib import Path

import pytest

from tests.cli.run import Cli

SD = "1dd9f4a2-0c59-4c1c-9d31-6a1d0d4ad2ef"


def test_create_open_list_info_close(cli: Cli, tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    made = cli("domain", "create", mount, "--id", SD.upper(), "--leases", 3, "--json").json
    assert (made["id"], made["path"]) == (SD, str(mount / SD))
    assert (made["block_size"], made["alignment"]) == (512, 1 << 20)
    assert cli("domain", "list", "--json").json == {"domains": [made]}
    told = cli("domain", "info", SD, "--json").json
    assert told == {**made, "store": "embedded", "joined": False}
    assert SD in cli("domain", "info", SD).out
    assert cli("domain", "close", SD, "--json").json == {"id": SD}
    assert cli("domain", "list", "--json").json == {"domains": []}
    assert cli("domain", "info", SD).code == 3
    assert cli("domain", "close", SD).code == 3
    assert cli("domain", "open", mount, "--json").json == {"domains": [made]}
    assert cli("domain", "info", SD).code == 0


def test_create_with_4096_byte_sectors(cli: Cli, tmp_path: Path) -> None:
    made = cli("domain", "create", tmp_path / "m", "--block-size", 4096, "--leases", 1, "--json")
    assert (made.json["block_size"], made.json["alignment"]) == (4096, 8 << 20)


def test_a_path_is_remembered_as_an_absolute_one(cli: Cli, tmp_path: Path) -> None:
    made = cli("domain", "create", "m", "--leases", 1, "--json", cwd=tmp_path).json
    assert cli("domain", "info", made["id"], "--json").json["path"].startswith(str(tmp_path))


def test_an_id_that_is_used_is_refused(cli: Cli, tmp_path: Path) -> None:
    cli("domain", "create", tmp_path, "--id", SD, "--leases", 1)
    told = cli("domain", "create", tmp_path, "--id", SD, "--leases", 1, "--json")
    assert (told.code, told.error["code"]) == (6, 365)


def test_an_unknown_domain_is_exit_3_and_says_how_to_open_it(cli: Cli) -> None:
    told = cli("domain", "info", SD)
    assert told.code == 3
    assert "domain open PATH" in told.err
    assert cli("domain", "info", SD, "--json").error["code"] == 358


def test_open_finds_nothing_where_there_is_nothing(cli: Cli, tmp_path: Path) -> None:
    assert cli("domain", "open", tmp_path / "missing").code == 3
    told = cli("domain", "open", tmp_path, "--json")
    assert (told.code, told.error["code"]) == (3, 358)


def test_a_domain_that_is_gone_is_listed_with_the_reason(cli: Cli, tmp_path: Path) -> None:
    sd = cli.domain(tmp_path / "m")
    (tmp_path / "m").rename(tmp_path / "n")
    (row,) = cli("domain", "list", "--json").json["domains"]
    assert row["id"] == sd
    assert "error" in row
    assert cli("domain", "info", sd).code == 3
    assert cli("domain", "open", tmp_path / "n").code == 0
    assert cli("domain", "info", sd).code == 0


def test_a_folder_that_cannot_be_written_is_bad_input(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told = cli("domain", "create", tmp_path / "file" / "mount", "--json")
    assert told.code == 2


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        '{"version": 2, "domains": {}}',
        '{"version": 1, "domains": []}',
        '{"version": 1, "domains": {"x": "/y"}}',
        json.dumps({"version": 1, "domains": {SD: "relative"}}),
        json.dumps({"version": 1, "domains": {SD: 1}}),
        '{"version": 1, "domains": {}, "more": 1}',
        "[" * 100_000,
        "\x00",
    ],
    ids=lambda content: content[:20],
)
def test_a_damaged_file_in_the_home_is_named_and_never_written_over(
    cli: Cli, tmp_path: Path, content: str
) -> None:
    cli.home.mkdir()
    file = cli.home / "domains.json"
    file.write_text(content)
    told = cli("domain", "list", "--json")
    assert told.code == 2
    assert "domains.json is damaged" in told.error["message"]
    assert cli("domain", "create", tmp_path / "m", "--leases", 1).code == 2
    assert file.read_text() == content


def test_many_commands_at_once_lose_no_domain(cli: Cli, tmp_path: Path) -> None:
    ids = {str(uuid.uuid4()) for _ in range(6)}
    running = []
    for sd in ids:
        starting = cli.started("domain", "create", tmp_path, "--id", sd, "--leases", 1)
        running.append((starting, starting.__enter__()))
    for starting, process in running:
        process.communicate(timeout=30)
        starting.__exit__(None, None, None)
        assert process.returncode == 0
    assert {row["id"] for row in cli("domain", "list", "--json").json["domains"]} == ids


def test_open_remembers_the_others_beside_a_damaged_domain(cli: Cli, tmp_path: Path) -> None:
    good, bad = cli.domain(tmp_path / "mount"), cli.domain(tmp_path / "mount")
    (tmp_path / "mount" / bad / "dom_md" / "metadata").write_text("nonsense")
    other = Cli(tmp_path / "other home")
    told = other("domain", "open", tmp_path / "mount", "--json")
    assert [one["id"] for one in told.json["domains"]] == [good]
    assert f"{bad} is left out" in told.err
