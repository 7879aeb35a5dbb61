"""Bad input: said at once, with its exit code and its facts; nothing is created or changed."""

import os
import shutil
import socket
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from tests import servers
from tests.cli.run import Ended
from tests.faults.command import PATIENCE, Command, command, new_job_id
from tests.faults.disks import small_file_system
from tests.servers import MIB, pattern, raw_image
from tests.storage.headers import Crafted, over

pytestmark = pytest.mark.tools("qemu-img", "qemu-nbd", "nbdcopy", "nbdinfo", "setpriv")
NOWHERE = "00000000-0000-4000-8000-00000000dead"
SECRET = "hunter2"


@pytest.fixture
async def leasehold(tmp_path: Path) -> Any:
    with command(tmp_path) as made:
        await made.prepared()
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Sources and targets of every kind."""
    made = tmp_path / "disks"
    made.mkdir()
    raw_image(made / "source", MIB, data=pattern(MIB))
    raw_image(made / "small", MIB // 2, data=pattern(1000, 2))
    raw_image(made / "target", MIB, data=pattern(1000, 3))
    raw_image(made / "read-only", MIB, data=pattern(1000, 4)).chmod(0o444)
    Crafted().write(made / "base")
    over("base", "qcow2").write(made / "overlay")
    (made / "symbolic").symlink_to("source")
    (made / "hard").hardlink_to(made / "source")
    (made / "to-base").symlink_to(made / "base")
    (made / "folder").mkdir()
    os.mkfifo(made / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(made / "socket"))
        yield made


def tree(folder: Path) -> dict[str, tuple[int, int, object]]:
    """What is in a folder: mode, inode, and content of every file."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content: object = status.st_rdev
        if stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        found[str(path)] = (status.st_mode, status.st_ino, content)
    return found


async def refused(leasehold: Command, folder: Path, *arguments: object, **options: Any) -> Ended:
    """Run a copy that must be refused in bounded time and change nothing."""
    before = tree(folder)
    job_id = () if "--job-id" in arguments else ("--job-id", new_job_id())
    with trio.fail_after(PATIENCE):
        end = await leasehold("copy", *arguments, *job_id, "--json", **options)
    assert tree(folder) == before
    assert await leasehold.leases() == []
    await leasehold.nothing_left()
    return end


def check(end: Ended, exit_code: int, code: int, kind: str, message: str, **data: object) -> None:
    """The exit code, and the one error object on stdout."""
    assert (end.code, end.error["code"], end.error["kind"]) == (exit_code, code, kind), end
    assert message in end.error["message"]
    assert end.error["data"].items() >= data.items()


SAME = (2, 4106, "SameImage", "are one image")
REFUSED = (2, 4102, "ImageRefused")
MISSING = (3, 4101, "ImageMissing")
BAD = (2, 1000, "BadParameter")
NO_DOMAIN = (3, 358, "StorageDomainDoesNotExist")
VOLUME = f"{NOWHERE}/{NOWHERE}/{NOWHERE}"
CASES: dict[str, tuple[tuple[str, ...], tuple[Any, ...]]] = {
    "source missing": (("gone", "new"), (*MISSING, "gone does not exist")),
    "source in a missing folder": (("no/source", "new"), (*MISSING, "no/source")),
    "source is a dangling link": (("dangling", "new"), (*MISSING, "dangling")),
    "target folder missing": (("source", "no/new"), (*MISSING, "no")),
    "target is a missing device": (("source", "/dev/leasehold-gone"), (*MISSING, "/dev/")),
    "target is a missing device below /dev": (("source", "/dev/vg0/gone"), (*MISSING, "/dev/")),
    "source is a missing device": (("/dev/leasehold-gone", "new"), (*MISSING, "/dev/")),
    "target socket missing": (("source", "nbd+unix:///?socket=/no/s"), (*MISSING, "/no/s")),
    "source socket missing": (("nbd+unix:///?socket=/no/s", "new"), (*MISSING, "/no/s")),
    "target too small": (("source", "small"), (2, 4104, "TooSmall", "is too small")),
    "target read-only": (("source", "read-only"), (2, 4105, "ReadOnly", "cannot be written")),
    "same file": (("source", "source"), SAME),
    "same file, by a link": (("source", "symbolic"), SAME),
    "same file, from a link": (("symbolic", "source"), SAME),
    "same file, by a hard link": (("source", "hard"), SAME),
    "same file, by another name": (("source", "folder/../source"), SAME),
    "target is a backing file": (("overlay", "base", "--format", "qcow2"), SAME),
    "target is a backing file, by a link": (("overlay", "to-base", "--format", "qcow2"), SAME),
    "source is a directory": (("folder", "new"), (*REFUSED, "directory")),
    "source is a FIFO": (("fifo", "new"), (*REFUSED, "FIFO")),
    "source is a socket": (("socket", "new"), (*REFUSED, "socket")),
    "source is a character device": (("/dev/zero", "new"), (*REFUSED, "character device")),
    "target is a directory": (("source", "folder"), (*REFUSED, "neither a file nor")),
    "target is a FIFO": (("source", "fifo"), (*REFUSED, "neither a file nor")),
    "target is a socket": (("source", "socket"), (*REFUSED, "neither a file nor")),
    "target is a character device": (("source", "/dev/null"), (*REFUSED, "neither a file nor")),
    "target is another format": (
        ("source", "target", "--format", "qcow2"),
        (2, 4103, "WrongFormat", "is raw"),
    ),
    "volume of an unknown domain as source": ((VOLUME, "new"), (*NO_DOMAIN, NOWHERE)),
    "volume of an unknown domain as target": (("source", VOLUME), (*NO_DOMAIN, NOWHERE)),
    "empty source": (("", "new"), (*BAD, "SRC")),
    "empty target": (("source", ""), (*BAD, "DST")),
    "limit of nothing": (("source", "new", "--limit", "0"), (*BAD, "--limit")),
    "limit below nothing": (("source", "new", "--limit", "-1"), (*BAD, "--limit")),
    "limit in words": (("source", "new", "--limit", "fast"), (*BAD, "--limit")),
    "job id in words": (("source", "new", "--job-id", "mine"), (*BAD, "--job-id")),
    "format in words": (("source", "new", "--format", "vmdk"), (*BAD, "--format")),
    "unknown option": (("source", "new", "--frob"), (*BAD, "--frob")),
    "one end": (("source",), (*BAD, "DST")),
    "allowed folder missing": (("source", "new", "--allow", "no"), (*BAD, "--allow")),
    "unknown domain": (("source", "new", "--domain", NOWHERE), (*NO_DOMAIN, NOWHERE)),
    "json: as source": (('json:{"driver":"null-co"}', "new"), (*BAD, "unknown protocol 'json'")),
    "json: as target": (("source", 'json:{"driver":"null-co"}'), (*BAD, "unknown protocol 'json'")),
    "http: as source": (("http://127.0.0.1/disk", "new"), (*BAD, "unknown protocol 'http'")),
    "fat: as source": (("fat:/etc", "new"), (*BAD, "unknown protocol 'fat'")),
    "ssh: as target": (("source", "ssh://host/disk"), (*BAD, "unknown protocol 'ssh'")),
}


@pytest.mark.sample(15)
@pytest.mark.parametrize("case", CASES)
async def test_refused_before_there_is_a_lease(case: str, leasehold: Command, folder: Path) -> None:
    (folder / "dangling").symlink_to("gone")
    words, (exit_code, code, kind, message) = CASES[case]
    devices = set(os.listdir("/dev"))
    end = await refused(leasehold, folder, *in_folder(folder, words))
    check(end, exit_code, code, kind, message)
    assert {name for name in set(os.listdir("/dev")) - devices if "leasehold" in name} == set()
    assert not Path("/dev/vg0").exists()


def in_folder(folder: Path, words: tuple[str, ...]) -> list[str]:
    """The words; the names of disks as absolute paths."""
    ends, options = words[:2], words[2:]
    names = [
        str(folder / end) if end and ":" not in end and not end.startswith(NOWHERE) else end
        for end in ends
    ]
    return [*names, *options]


async def test_no_server_on_the_port(leasehold: Command, folder: Path) -> None:
    with socket.socket() as bound:  # and does not listen: the port stays ours, and closed
        bound.bind(("127.0.0.1", 0))
        url = f"nbd://127.0.0.1:{bound.getsockname()[1]}/disk"
        for ends in ((folder / "source", url), (url, folder / "new")):
            check(
                await refused(leasehold, folder, *ends),
                5,
                4107,
                "CannotConnect",
                "refused",
                image=url,
            )


async def test_no_server_on_the_socket(leasehold: Command, folder: Path) -> None:
    """`socket` is bound, and nobody listens on it."""
    url = f"nbd+unix:///?socket={folder}/socket"
    end = await refused(leasehold, folder, folder / "source", url)
    check(end, 5, 4107, "CannotConnect", "refused")


async def test_server_that_speaks_something_else(
    leasehold: Command, folder: Path, tmp_path: Path
) -> None:
    with servers.garbage(tmp_path) as server:
        end = await refused(leasehold, folder, folder / "source", server.url)
    check(end, 5, 4107, "CannotConnect", "cannot connect")


async def test_read_only_export(leasehold: Command, folder: Path, tmp_path: Path) -> None:
    with servers.qemu_nbd(folder / "target", tmp_path, read_only=True) as server:
        end = await refused(leasehold, folder, folder / "source", server.url)
    check(end, 2, 4105, "ReadOnly", "read-only", image=server.url)


async def test_export_that_is_too_small(leasehold: Command, folder: Path, tmp_path: Path) -> None:
    with servers.qemu_nbd(folder / "small", tmp_path) as server:
        end = await refused(leasehold, folder, folder / "source", server.url)
    facts = {"image": server.url, "needed": MIB, "available": MIB // 2}
    check(end, 2, 4104, "TooSmall", "is too small", **facts)


async def test_unknown_export(leasehold: Command, folder: Path, tmp_path: Path) -> None:
    with servers.qemu_nbd(folder / "target", tmp_path, export="one") as server:
        url = server.url.replace("///one", "///two")
        end = await refused(leasehold, folder, folder / "source", url)
    check(end, 5, 4107, "CannotConnect", "two")


@pytest.mark.parametrize(
    "form", ["nbd+unix:///{export}?socket={path}", "nbd:unix:{path}:exportname={export}"]
)
async def test_same_export(form: str, leasehold: Command, folder: Path, tmp_path: Path) -> None:
    with servers.qemu_nbd(folder / "target", tmp_path) as server:
        link = tmp_path / "link"
        link.symlink_to(server.socket)
        for path in (server.socket, link):
            url = form.format(export=server.export, path=path)
            check(await refused(leasehold, folder, url, server.url), *SAME)


@pytest.mark.parametrize(
    "url",
    [
        f"iscsi://user%{SECRET}@127.0.0.1/iqn.2024-01.org.example:disk/0",
        f"iscsi://user:{SECRET}@127.0.0.1/iqn.2024-01.org.example:disk/0",
        f"iscsi://127.0.0.1/iqn.2024-01.org.example:disk/0?password={SECRET}",
        f"rbd:pool/image:key={SECRET}",
        f"rbd:pool/image:id=admin:password-secret={SECRET}",
        f"nbd://user:{SECRET}@127.0.0.1/disk",
        f"ssh://user:{SECRET}@127.0.0.1/disk",
    ],
)
async def test_secret_in_a_url_is_refused_and_not_repeated(
    url: str, leasehold: Command, folder: Path
) -> None:
    for ends in ((url, folder / "new"), (folder / "source", url)):
        end = await refused(leasehold, folder, *ends, "--log-level", "info")
        check(end, *BAD, "url")
        assert SECRET not in end.out + end.err


# --- the host ---------------------------------------------------------------------------------


TOOLS = ("qemu-img", "qemu-nbd", "qemu-io", "nbdcopy", "nbdinfo")


def path_without(folder: Path, *missing: str) -> dict[str, str]:
    """A search path on which some tools are not found."""
    place = folder / "bin"
    place.mkdir()
    for tool in set(TOOLS) - set(missing):
        if found := shutil.which(tool):
            (place / tool).symlink_to(found)
    return {"PATH": str(place)}


@pytest.mark.parametrize("source", ["source", "overlay"])
@pytest.mark.parametrize("options", [(), ("--source-format", "declared")])
async def test_qemu_img_is_missing(
    source: str, options: tuple[str, ...], leasehold: Command, folder: Path, tmp_path: Path
) -> None:
    declared = {"source": "raw", "overlay": "qcow2"}[source]
    words = [declared if one == "declared" else one for one in options]
    path = path_without(tmp_path, "qemu-img")
    end = await refused(
        leasehold, folder, folder / source, folder / "target", *words, environment=path
    )
    check(end, 1, 4110, "ToolMissing", "install the package qemu-utils", tool="qemu-img")


@pytest.mark.parametrize(
    ("tool", "package"),
    [("nbdcopy", "libnbd-bin"), ("nbdinfo", "libnbd-bin"), ("qemu-nbd", "qemu-utils")],
)
async def test_tool_of_the_nbd_road_is_missing(
    tool: str, package: str, leasehold: Command, folder: Path, tmp_path: Path
) -> None:
    path = path_without(tmp_path, tool)
    with servers.qemu_nbd(folder / "target", tmp_path) as server:
        end = await refused(leasehold, folder, folder / "source", server.url, environment=path)
    check(end, 1, 4110, "ToolMissing", f"install the package {package}", tool=tool)


@pytest.mark.parametrize("home", ["file/home", "file", "/proc/leasehold"])
async def test_home_that_cannot_be_written(home: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with command(tmp_path) as leasehold:
        end = await refused(
            leasehold,
            folder,
            folder / "source",
            folder / "new",
            environment={"LEASEHOLD_HOME": str(tmp_path / home)},
        )
    check(end, *BAD, "LEASEHOLD_HOME", name="LEASEHOLD_HOME")
    assert (tmp_path / "file").read_text() == "in the way"


async def test_disk_of_the_home_is_full(folder: Path, tmp_path: Path) -> None:
    with small_file_system(tmp_path, 8 * MIB) as disk, command(tmp_path) as leasehold:
        home = {"LEASEHOLD_HOME": str(disk / "home")}
        end = await refused(leasehold, folder, folder / "source", folder / "new", environment=home)
        check(end, 2, 351, "StorageDomainCreationError", "No space left on device")
        assert not list(disk.rglob("*dom_md*"))


async def test_domain_that_is_full(leasehold: Command, folder: Path) -> None:
    """There is no slot for one more lease."""
    found = leasehold.domain_folder()
    assert found is not None
    assert (await leasehold("domain", "open", leasehold.home / "leases")).code == 0
    while (made := await leasehold("lease", "create", found.id, uuid.uuid4())).code == 0:
        pass
    assert made.code == 6
    before = tree(folder)
    end = await leasehold("copy", folder / "source", folder / "new", "--json")
    check(end, 6, 4003, "NoSpace", "delete leases")
    assert tree(folder) == before
