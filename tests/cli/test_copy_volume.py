"""`leasehold copy` from and to SD/IMG/VOL."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.cli.run import Cli, ended, until, writers

pytestmark = pytest.mark.tools("qemu-img")

MIB = 1 << 20


@pytest.fixture
def sd(cli: Cli, tmp_path: Path) -> str:
    return cli.domain(tmp_path / "mount")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom(4 * MIB))
    return path


def made(cli: Cli, sd: str, *options: str) -> dict[str, Any]:
    volume = cli("volume", "create", sd, "--size", "4M", *options, "--json").json
    return {**volume, "name": f"{sd}/{volume['img_id']}/{volume['vol_id']}"}


def state(cli: Cli, volume: dict[str, Any]) -> tuple[str, int]:
    names = volume["sd_id"], volume["img_id"], volume["vol_id"]
    found = cli("volume", "info", *names, "--json").json
    return found["legality"], found["generation"]


def test_a_file_is_copied_to_a_volume_and_on_to_another(
    cli: Cli, sd: str, source: Path, tmp_path: Path
) -> None:
    one, other = made(cli, sd), made(cli, sd)
    told = cli("copy", source, one["name"].upper(), "--json")
    assert told.code == 0, told
    result = told.json
    assert (result["status"], result["vol_id"], result["sd_id"]) == ("done", one["vol_id"], sd)
    assert "lease_id" not in result
    assert cli("copy", one["name"], other["name"], "--verify", "--json").json["verified"] is True
    assert cli("copy", other["name"], tmp_path / "back").code == 0
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    assert state(cli, one) == state(cli, other) == ("LEGAL", 1)


def test_an_aborted_copy_leaves_the_volume_illegal_and_says_so(
    cli: Cli, sd: str, source: Path
) -> None:
    volume = made(cli, sd)
    with cli.started("copy", source, volume["name"], "--limit", "100K") as process:
        until(lambda: writers(Path(volume["path"])))
        names = sd, volume["img_id"], volume["vol_id"]
        assert cli("volume", "info", *names, "--json").json["owners"] == [1]
        second = cli("copy", source, volume["name"], "--json")
        assert (second.code, second.error["code"]) == (6, 651)
        process.send_signal(signal.SIGINT)
        told = ended(process)
    assert told.code == 4
    assert "its volume is ILLEGAL, generation 0" in told.err
    assert f"leasehold volume info {sd} {volume['img_id']} {volume['vol_id']}" in told.err
    assert not writers(Path(volume["path"]))
    assert cli("copy", source, volume["name"]).code == 0
    assert state(cli, volume) == ("LEGAL", 1)


def test_an_illegal_volume_is_no_source(cli: Cli, sd: str, source: Path, tmp_path: Path) -> None:
    volume = made(cli, sd)
    with cli.started("copy", source, volume["name"], "--limit", "100K") as process:
        until(lambda: writers(Path(volume["path"])))
        process.kill()
        process.wait()
    told = cli("copy", volume["name"], tmp_path / "target", "--json")
    assert (told.code, told.error["kind"]) == (2, "IllegalVolume")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "kind"),
    [
        (["{source}", "{nowhere}/{img}/{vol}"], 3, "StorageDomainDoesNotExist"),
        (["{source}", "{sd}/{nowhere}/{vol}"], 3, "ImageDoesNotExistInSD"),
        (["{source}", "{sd}/{img}/{nowhere}"], 3, "VolumeDoesNotExist"),
        (["{sd}/{img}/{nowhere}", "{new}"], 3, "VolumeDoesNotExist"),
        (["{sd}/{img}/{vol}", "{sd}/{img}/{vol}"], 2, "SameImage"),
        (["{source}", "{sd}/{img}/{vol}", "--domain", "{sd}"], 2, "BadParameter"),
        (["{source}", "{sd}/{img}/{vol}", "--job-id", "{nowhere}"], 2, "BadParameter"),
        (["{source}", "{sd}/{img}/{vol}", "--keep-lease"], 2, "BadParameter"),
        (["{sd}/{img}/{vol}", "{new}", "--source-format", "raw"], 2, "BadParameter"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    cli: Cli, sd: str, source: Path, tmp_path: Path, *, arguments: list[str], code: int, kind: str
) -> None:
    volume = made(cli, sd)
    facts = {
        "source": source,
        "sd": sd,
        "img": volume["img_id"],
        "vol": volume["vol_id"],
        "new": tmp_path / "new",
        "nowhere": "00000000-0000-4000-8000-000000000000",
    }
    told = cli("copy", *(one.format(**facts) for one in arguments), "--json")
    assert (told.code, told.error["kind"]) == (code, kind)
    assert state(cli, volume) == ("LEGAL", 0)
    assert not (tmp_path / "new").exists()
