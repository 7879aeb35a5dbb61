"""`leasehold managed` on real storage: from a new volume to a copy on it, and back."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from protocol.managed import GIB
from tests.cli.managed_storage import NAME, Storage, storage
from tests.cli.run import Cli
from tests.conformance.adapters import KINDS, TOOLS

full = pytest.mark.full  # those that run the command ten times or more

MIB = 1 << 20
SOURCE = 3 * MIB + 512
NOBODY = "99999999-aaaa-4bbb-8ccc-dddddddddddd"


def kinds(*names: str) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.tools(*TOOLS[name])) for name in names]


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def served(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    cluster = request.getfixturevalue("ceph_cluster") if kind == "ceph" else None
    with storage(kind, tmp_path, cluster) as made:
        yield made
        assert made.processes() == []


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Storage]:
    with storage("file", tmp_path) as made:
        yield made
        assert made.processes() == []


def source(folder: Path) -> Path:
    path = folder / "source"
    path.write_bytes(os.urandom(SOURCE))
    return path


def copied(cli: Cli, source: object, target: object) -> None:
    ended = cli("copy", source, target, "--source-format", "raw", "--quiet")
    assert ended.code == 0, ended


@pytest.mark.parametrize("kind", kinds("file", "tgt"), indirect=True)
def test_a_copy_to_an_attached_volume_arrives(served: Storage, tmp_path: Path) -> None:
    cli, original = served.cli, source(tmp_path)
    volume = served.volume()
    copied(cli, original, served.attach(volume))
    assert [row["state"] for row in cli.done("list")["volumes"]] == ["attached"]
    assert cli.done("detach", NAME, volume)["detached"] is True
    assert served.look(volume, SOURCE) == original.read_bytes()


@pytest.mark.parametrize("kind", kinds("file", "tgt"), indirect=True)
def test_a_snapshot_is_listed_until_it_is_deleted(served: Storage) -> None:
    cli, volume = served.cli, served.volume()
    snapshot = cli.done("snapshot", "create", NAME, volume)["id"]
    assert cli.done("snapshot", "list", NAME, volume) == {"snapshots": [snapshot]}
    assert cli.managed("volume", "delete", NAME, volume).code == 6
    cli.done("snapshot", "delete", NAME, volume, snapshot)
    cli.done("volume", "delete", NAME, volume)


@full
@pytest.mark.parametrize("kind", kinds(*KINDS), indirect=True)
def test_what_is_copied_to_an_attached_volume_comes_back_from_it(
    served: Storage, tmp_path: Path
) -> None:
    cli, original = served.cli, source(tmp_path)
    volume = served.volume()
    copied(cli, original, served.attach(volume))
    assert cli.done("detach", NAME, volume)["detached"] is True
    served.nothing_is_attached(volume)
    clone = cli.done("volume", "clone", NAME, volume)["id"]
    back = tmp_path / "back"
    copied(cli, served.attach(clone), back)
    cli.done("detach", NAME, clone)
    content = back.read_bytes()
    assert content[:SOURCE] == original.read_bytes()
    assert len(content) == GIB
    assert content.count(0) >= GIB - SOURCE
    served.nothing_is_attached(clone)
    for one in (volume, clone):
        cli.done("volume", "delete", NAME, one)
        assert cli.managed("volume", "info", NAME, one).code == 3


@full
@pytest.mark.parametrize("kind", kinds("file", "tgt", "ceph"), indirect=True)
def test_a_snapshot_is_gone_back_to_and_becomes_a_volume(served: Storage, tmp_path: Path) -> None:
    cli, first, second = served.cli, source(tmp_path), tmp_path / "second"
    second.write_bytes(os.urandom(SOURCE))
    volume = served.volume()
    copied(cli, first, served.attach(volume))
    cli.done("detach", NAME, volume)
    snapshot = cli.done("snapshot", "create", NAME, volume)["id"]
    assert cli.done("snapshot", "list", NAME, volume) == {"snapshots": [snapshot]}
    copied(cli, second, served.attach(volume))
    refused = cli.managed("snapshot", "revert", NAME, volume, snapshot)
    assert (refused.code, "in use" in refused.err) == (6, True)
    cli.done("detach", NAME, volume)
    new = cli.done("snapshot", "to-volume", NAME, volume, snapshot)["id"]
    cli.done("snapshot", "revert", NAME, volume, snapshot)
    for one in (volume, new):
        assert served.look(one, SOURCE) == first.read_bytes()
    cli.done("snapshot", "delete", NAME, volume, snapshot)
    assert cli.managed("snapshot", "revert", NAME, volume, snapshot).code == 3
    assert cli.done("volume", "info", NAME, volume)["snapshots"] == []
    for one in (volume, new):
        cli.done("volume", "delete", NAME, one)


def test_a_size_is_rounded_up_to_gib_and_that_is_said(files: Storage) -> None:
    cli = files.cli
    ended = cli.managed("volume", "create", NAME, "--size", "1025M", "--json")
    assert "rounded up to 2 GiB" in ended.err
    volume = ended.json["id"]
    assert ended.json == {"id": volume, "domain": NAME, "size": 2 * GIB, "is_zero": True}
    even = cli.managed("volume", "extend", NAME, volume, "--size", "3G")
    assert (even.code, even.err) == (0, "")
    assert "4 GiB" in cli.managed("volume", "extend", NAME, volume, "--size", str(3 * GIB + 1)).err
    assert cli.done("volume", "info", NAME, volume)["size"] == 4 * GIB
    assert cli.managed("volume", "create", NAME, "--size", "0").code == 2
    assert cli.done("volume", "list", NAME) == {"volumes": [volume]}


def test_a_volume_with_an_id_is_made_once(files: Storage) -> None:
    create = ("volume", "create", NAME, "--id", NOBODY, "--size")
    assert files.cli.done(*create, "1G")["is_zero"] is True
    assert files.cli.done(*create, "1G")["is_zero"] is False
    assert "there already" in files.cli.managed(*create, "1G").out
    refused = files.cli.managed(*create, "2G")
    assert refused.code == 6
    assert files.cli.done("volume", "list", NAME) == {"volumes": [NOBODY]}


@full
@pytest.mark.parametrize("kind", kinds("file", "tgt"), indirect=True)
def test_an_attached_volume_is_listed_and_kept(served: Storage) -> None:
    cli = served.cli
    volume = served.volume()
    assert cli.done("list") == {"volumes": []}
    place = served.attach(volume)
    [row] = cli.done("list")["volumes"]
    assert row.pop("path") == place
    expected = {"volume": volume, "domain": NAME, "host": None, "managed_path": None}
    assert row == {**expected, "state": "attached"}
    assert cli.managed("list").out == f"{volume}  {NAME}  attached  {place}\n"
    again = cli.managed("attach", NAME, volume, "--json")
    assert (again.code, again.error["code"]) == (6, 927)
    assert len(served.hosts(volume)) == 1, "it was disconnected"
    assert cli.managed("volume", "delete", NAME, volume).code == 6
    assert cli.managed("domain", "remove", NAME).code == 6
    assert cli.managed("attach", NAME, volume, "-q").code == 6
    cli.done("detach", NAME, volume)
    served.nothing_is_attached(volume)
    assert cli.done("detach", NAME, volume)["detached"] is False
    cli.done("volume", "delete", NAME, volume)
    cli.done("domain", "remove", NAME)
    assert cli.done("domain", "list") == {"domains": []}


def test_attach_prints_the_place_and_nothing_else(files: Storage) -> None:
    volume = files.volume()
    ended = files.cli.managed("attach", NAME, volume)
    [row] = files.cli.done("list")["volumes"]
    assert (ended.out, ended.err) == (f"{row['path']}\n", "")
    files.cli.done("detach", NAME, volume)


@full
@pytest.mark.parametrize("kind", kinds("file", "tgt"), indirect=True)
def test_a_volume_that_a_copy_writes_is_not_detached_but_by_force(
    served: Storage, tmp_path: Path
) -> None:
    cli, long = served.cli, tmp_path / "long"
    long.write_bytes(os.urandom(64 * MIB))
    volume = served.volume()
    place = served.attach(volume)
    order = ("copy", long, place, "--source-format", "raw", "--limit", "4M")
    job = (*order, "--json", "--stall-timeout", 3)  # an initiator tries to get in again for ever
    with cli.started(*job) as copy:
        _until_it_copies(copy)
        refused = cli.managed("detach", NAME, volume)
        assert (refused.code, copy.poll()) == (6, None), refused
        ended = cli.managed("detach", NAME, volume, "--force", "--json")
        assert ended.code == 0, ended
        assert len(ended.json["disconnected"]) == 1
        assert copy.wait(60) != 0
    assert served.hosts(volume) == []
    cli.done("detach", NAME, volume)  # should the copy have been still there
    served.nothing_is_attached(volume)


def _until_it_copies(copy: Any) -> None:
    assert copy.stderr is not None
    while "copying" not in (line := copy.stderr.readline()):
        assert line, "it ended"


@pytest.mark.parametrize("kind", kinds("file", "tgt"), indirect=True)
def test_one_host_is_shut_out_by_its_name_and_the_others_stay(served: Storage) -> None:
    cli = served.cli
    volume = served.volume()
    place = served.attach(volume)
    [host] = served.hosts(volume)
    assert cli.done("detach", NAME, volume, "--force", "--only", "other")["disconnected"] == [
        "other"
    ]
    assert served.hosts(volume) == [host]
    assert [row["path"] for row in cli.done("list")["volumes"]] == [place]
    assert cli.managed("detach", NAME, volume, "--only", host).code == 2
    cli.done("detach", NAME, volume, "--force", "--only", host)
    served.nothing_is_attached(volume)


def test_what_somebody_else_connected_is_left_alone(files: Storage, tmp_path: Path) -> None:
    volume = files.volume()
    files.attach(volume)
    here = files.cli.home
    stranger = files.cli.__class__(tmp_path / "stranger", files.cli.more)
    stranger.home.mkdir()
    (stranger.home / "managed.toml").write_bytes((here / "managed.toml").read_bytes())
    refused = stranger.managed("detach", NAME, volume)
    assert (refused.code, "--force" in refused.err) == (6, True)
    assert len(files.hosts(volume)) == 1
    files.cli.done("detach", NAME, volume)
    assert stranger.done("detach", NAME, volume)["detached"] is False


@pytest.mark.sample(14)
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("attach", "unknown", NOBODY), 3),
        (("attach", NAME, NOBODY), 3),
        (("detach", NAME, NOBODY), 3),
        (("volume", "info", NAME, NOBODY), 3),
        (("volume", "clone", NAME, NOBODY), 3),
        (("volume", "extend", NAME, NOBODY, "--size", "2G"), 3),
        (("volume", "delete", NAME, NOBODY), 3),
        (("snapshot", "create", NAME, NOBODY), 3),
        (("snapshot", "to-volume", NAME, NOBODY, "s"), 3),
        (("snapshot", "delete", NAME, NOBODY, "a b"), 2),
        (("attach", NAME, "no-uuid"), 2),
        (("volume", "create", NAME, "--size", "much"), 2),
        (("attach", NAME, NOBODY, "--host", "unix:/nowhere"), 5),
        (("list", "--host", "unix:/nowhere"), 5),
        (("list", "--host", "nonsense"), 2),
        (("detach", NAME, NOBODY, "--force", "--host", "unix:/nowhere"), 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_what_is_not_there_is_3_and_what_makes_no_sense_is_2(
    files: Storage, words: tuple[str, ...], code: int
) -> None:
    ended = files.cli.managed(*words, "--json")
    assert ended.code == code
    assert ended.error["message"]
    assert files.cli.done("volume", "list", NAME) == {"volumes": []}
    assert files.cli.done("list") == {"volumes": []}


def test_the_capacity_is_told_and_the_adapter(files: Storage) -> None:
    told = files.cli.done("domain", "info", NAME)
    assert told["stats"]["total_capacity_gb"] > told["stats"]["free_capacity_gb"] > 0
    assert Path(told["program"]).name == "file-adapter"
    assert "capacity:" in files.cli.managed("domain", "info", NAME).out
    assert files.cli.done("domain", "info", told["id"])["name"] == NAME
