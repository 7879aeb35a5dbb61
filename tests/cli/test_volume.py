"""`leasehold volume`."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.run import Cli

IMG = "66666666-7777-4888-8999-aaaaaaaaaaaa"
BASE = "11111111-0000-4000-8000-000000000001"
TOP = "11111111-0000-4000-8000-000000000002"
NOBODY = "11111111-0000-4000-8000-000000000003"

pytestmark = pytest.mark.tools("qemu-img")


@pytest.fixture
def sd(cli: Cli, tmp_path: Path) -> str:
    return cli.domain(tmp_path / "mount")


def test_create_info_list(cli: Cli, sd: str) -> None:
    assert cli("volume", "list", sd, "--json").json == {"volumes": []}
    told = cli(
        "volume", "create", sd, "--image", IMG.upper(), "--id", BASE, "--size", "1M", "--json"
    )
    base = told.json
    assert (base["sd_id"], base["img_id"], base["vol_id"]) == (sd, IMG, BASE)
    assert (base["format"], base["capacity"], base["type"]) == ("raw", 1 << 20, "SPARSE")
    assert os.stat(base["path"]).st_size == 1 << 20
    # The image is that of the parent, the format the one that has parents, the size the parent's.
    top = cli("volume", "create", sd, "--id", TOP, "--parent", BASE, "--json").json
    assert (top["img_id"], top["format"], top["capacity"]) == (IMG, "qcow2", 1 << 20)
    assert (top["parent"], top["voltype"], top["legality"]) == (BASE, "LEAF", "LEGAL")
    found = cli("volume", "info", sd, IMG, TOP, "--json").json
    assert found.pop("chain") == [TOP, BASE]
    assert found.pop("actual_size") > 0
    assert found.pop("owners") == []
    assert found == top
    rows = cli("volume", "list", sd, "--json").json["volumes"]
    assert rows == [{**base, "voltype": "INTERNAL"}, top]


def test_people_are_told_the_same(cli: Cli, sd: str) -> None:
    assert "no volumes" in cli("volume", "list", sd).out
    made = cli("volume", "create", sd, "--image", IMG, "--id", BASE, "--size", "1M")
    assert f"created volume {BASE} of image {IMG}" in made.out
    assert f"{IMG}  {BASE}  raw" in cli("volume", "list", sd).out
    text = cli("volume", "info", sd, IMG, BASE).out
    assert "legality:    LEGAL" in text
    assert "parent:      none" in text


def test_a_preallocated_volume_takes_its_space(cli: Cli, sd: str) -> None:
    made = cli("volume", "create", sd, "--size", "2M", "--preallocated", "--json").json
    assert os.stat(made["path"]).st_blocks * 512 >= 2 << 20
    assert made["type"] == "PREALLOCATED"


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        ((), 2, 1000),
        (("--size", "0"), 2, 1000),
        (("--size", "many"), 2, 1000),
        (("--size", "1M", "--format", "vmdk"), 2, 1000),
        (("--size", "1M", "--format", "qcow2", "--preallocated"), 2, 1000),
        (("--parent", NOBODY), 3, 201),
        (("--parent", NOBODY, "--image", IMG), 3, 254),
        (("--size", "1M", "--image", "../x"), 2, 1000),
    ],
    ids=str,
)
def test_what_cannot_be_created_is_named(
    cli: Cli, sd: str, arguments: tuple[str, ...], code: int, error: int
) -> None:
    told = cli("volume", "create", sd, *arguments, "--json")
    assert (told.code, told.error["code"]) == (code, error)
    assert cli("volume", "list", sd, "--json").json == {"volumes": []}


def test_present_states_that_refuse_a_volume_are_exit_6(cli: Cli, sd: str) -> None:
    create = ("volume", "create", sd, "--image", IMG, "--json")
    assert cli(*create, "--id", BASE, "--size", "1M").code == 0
    told = cli(*create, "--id", BASE, "--size", "1M")
    assert (told.code, told.error["kind"]) == (6, "VolumeExists")
    assert cli(*create, "--id", TOP, "--parent", BASE).code == 0
    told = cli(*create, "--parent", BASE)
    assert (told.code, told.error["kind"]) == (6, "VolumeHasChild")


def test_unknown_volumes_are_exit_3(cli: Cli, sd: str) -> None:
    assert cli("volume", "info", sd, IMG, BASE, "--json").error["code"] == 254
    cli("volume", "create", sd, "--image", IMG, "--size", "1M")
    told = cli("volume", "info", sd, IMG, BASE, "--json")
    assert (told.code, told.error["code"]) == (3, 201)
    assert cli("volume", "list", NOBODY).code == 3


def test_a_damaged_volume_does_not_hide_the_others(cli: Cli, sd: str) -> None:
    bad = cli("volume", "create", sd, "--image", IMG, "--size", "1M", "--json").json
    good = cli("volume", "create", sd, "--image", IMG, "--size", "1M", "--json").json
    Path(bad["path"] + ".meta").write_text("NONE=##\nEOF\n")
    rows = cli("volume", "list", sd, "--json").json["volumes"]
    assert rows[0] == good
    assert rows[1]["path"] == bad["path"]
    assert "partly deleted" in rows[1]["error"]
    told = cli("volume", "info", sd, IMG, bad["vol_id"], "--json")
    assert (told.code, told.error["code"]) == (2, 751)


def test_a_volume_whose_chain_lies_is_shown_with_the_reason(cli: Cli, sd: str) -> None:
    cli("volume", "create", sd, "--image", IMG, "--id", BASE, "--size", "1M")
    top = cli("volume", "create", sd, "--id", TOP, "--parent", BASE, "--json").json
    argv = ["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd"]
    subprocess.run([*argv, top["path"]], check=True)
    found = cli("volume", "info", sd, IMG, TOP, "--json").json
    assert "chain" not in found
    assert "/etc/passwd" in found["error"]
