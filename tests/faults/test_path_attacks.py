"""Attacks by what a client names: files outside of what is allowed, links, urls of any kind.

They go to the real agent, while a copy runs, and nothing outside is read or written.
"""

import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.wire_client import Client, Refused
from tests.faults.bystander import (
    BAD_PARAMETER,
    SD,
    SIZE,
    Bystander,
    agent,
    attacker,
    others,
    refusal,
)
from tests.host.authority import sites
from tests.served import Served
from tests.servers import pattern, pausable, qcow2_image, raw_image

__all__ = ["agent", "attacker", "others", "sites"]

pytestmark = pytest.mark.tools("qemu-img", "nbdkit", "openssl")

SECRET = b"only root may read this\n" * 4096


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder that nobody may name, with a secret as large as a disk."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_bytes(pattern(SIZE, seed=9))
    return folder


def links(disks: Path, outside: Path) -> list[str]:
    """Names that lead outside, or nowhere that one may name."""
    place = disks / uuid.uuid4().hex
    place.mkdir()
    (place / "link").symlink_to(outside / "secret")
    (place / "folder").symlink_to(outside)
    (place / "chain").symlink_to(place / "link")
    (place / "relative").symlink_to(os.path.relpath(outside / "secret", place))
    (place / "new").symlink_to(outside / "new")
    (place / "proc").symlink_to("/proc/self/cwd")
    inside = [place / name for name in ("link", "folder/secret", "chain", "relative", "new")]
    up = os.path.relpath(outside / "secret", disks)
    return [
        *map(str, inside),
        str(place / "proc" / "x"),
        f"{disks}/{up}",
        f"{disks}/./{up}",
        f"{disks}//../{disks.name}/x",
        f"/proc/self/root{outside}/secret",
        f"/proc/{os.getpid()}/root{outside}/secret",
        f"{disks}",
        f"{disks}/",
        f"{disks}x/y",
        f"{outside}/secret",
        f"//{outside}/secret",
    ]


FORBIDDEN = [
    *("/etc/shadow", "/dev/sda", "/dev/mem", "/dev/zero", "/proc/self/mem", "/proc/kcore", "/"),
    *("", "x", "disks/x", "~/x", "\0", "/etc/passwd\0.raw", "/a\nb", "/\x1b[2J", "/" + "x" * 5000),
    *("file:///etc/passwd", "http://127.0.0.1/x", "https://h/x", "ftp://h/x", "ssh://h/x"),
    *("nbd://127.0.0.1:10809/x", "nbd:127.0.0.1:10809", "iscsi://127.0.0.1/iqn.x:y/0", "rbd:p/i"),
    *("rbd:p/i:conf=/etc/shadow", 'json:{"driver":"file","filename":"/etc/shadow"}', "fat:/etc"),
    *("nbd+unix:///x?socket=/run/x.sock", "nbd+unix://?socket=../x", "nbd+unix:///x", "vvfat:rw:/"),
    *("blkdebug::/etc/shadow", "data:text/plain,x", "gluster://h/v/i"),
]


def test_paths_and_urls_that_are_not_allowed(
    agent: Served, others: Bystander, attacker: Client, outside: Path
) -> None:
    names = [*links(agent.disks, outside), *FORBIDDEN]
    before = {path: path.stat().st_mtime_ns for path in outside.iterdir()}
    with others.unhurt():
        for name in names:
            for role in ("source", "destination"):
                job_id = str(uuid.uuid4())
                wanted = others.wanted(job_id, **{f"{role}__url": name})
                wanted["destination"]["create"] = True
                assert refusal(attacker, "SDM.copy_data", **wanted) == BAD_PARAMETER, name
                assert attacker.call("Host.getJobs", job_ids=[job_id]) == {}
                others.target(job_id).unlink()
    assert {path: path.stat().st_mtime_ns for path in outside.iterdir()} == before


def test_places_of_storage_domains_that_are_not_allowed(
    agent: Served, others: Bystander, attacker: Client, outside: Path
) -> None:
    (agent.mount / "link").symlink_to(outside)
    sd_id = str(uuid.uuid4())
    places = [str(outside), "/", "/etc", f"{agent.mount}/link", f"{agent.mount}/../outside"]
    with others.unhurt():
        for place in [*places, f"{agent.mount}\0", "x", "", "/" + "x" * 5000]:
            for verb in ("create", "activate", "deactivate"):
                code = refusal(attacker, f"StorageDomain.{verb}", storagedomainID=sd_id, path=place)
                assert code == BAD_PARAMETER, (verb, place)
    assert [path.name for path in outside.iterdir()] == ["secret"]


class Swap:
    """A copy that was taken in and waits, while its files are changed under it."""

    def __init__(self, agent: Served, others: Bystander, outside: Path) -> None:
        self.others = others
        self.secret = outside / "secret"
        self.folder = agent.disks / uuid.uuid4().hex
        self.folder.mkdir()
        self.file = self.folder / "file"
        self.file.write_bytes(b"\x11" * SIZE)
        self.job_id = others.lease()

    @contextmanager
    def waiting(self, **changed: Any) -> Iterator[None]:
        """The job begins after the body."""
        call = self.others.watcher.call
        with suppress(Refused):
            call("Host.drain", timeout=0)
        try:
            call("SDM.copy_data", **self.others.wanted(self.job_id, **changed))
            yield
        finally:
            call("Host.resume")

    def failed(self) -> None:
        state = self.others.watcher.ended(self.job_id)
        assert state["status"] == "failed", state
        assert self.secret.read_bytes() == pattern(SIZE, seed=9)
        record = self.others.watcher.call("Lease.status", lease=self.others.name(self.job_id))
        assert record["metadata"]["job_status"] == "FAILED"


@pytest.fixture
def swap(agent: Served, others: Bystander, outside: Path) -> Swap:
    return Swap(agent, others, outside)


@pytest.mark.parametrize("role", ["source", "destination"])
def test_a_file_that_becomes_a_link_after_it_was_allowed(
    swap: Swap, others: Bystander, role: str
) -> None:
    with others.unhurt():
        with swap.waiting(**{f"{role}__url": str(swap.file)}):
            swap.file.unlink()
            swap.file.symlink_to(swap.secret)
        swap.failed()
        if role == "source":
            assert others.target(swap.job_id).read_bytes() == b"\xee" * SIZE


@pytest.mark.parametrize("role", ["source", "destination"])
@pytest.mark.parametrize("name", ["secret", "new"])
def test_a_folder_that_becomes_a_link_after_it_was_allowed(
    swap: Swap, others: Bystander, role: str, name: str
) -> None:
    if name == "secret":
        (swap.folder / name).write_bytes(b"\x11" * SIZE)
    with others.unhurt():
        url = str(swap.folder / name)
        with swap.waiting(**{f"{role}__url": url}, destination__create=True):
            swap.folder.rename(swap.folder.with_name(f"{swap.folder.name}.old"))
            swap.folder.symlink_to(swap.secret.parent)
        swap.failed()
        assert [path.name for path in swap.secret.parent.iterdir()] == ["secret"]
        if role == "source":
            assert others.target(swap.job_id).read_bytes() == b"\xee" * SIZE


def test_a_socket_that_becomes_a_link_after_it_was_allowed(
    swap: Swap, others: Bystander, outside: Path
) -> None:
    with pausable(outside, swap.secret) as server, others.unhurt():
        plug = swap.folder / "nbd.sock"
        os.link(server.socket, plug)
        url = f"nbd+unix:///?socket={plug}"
        with swap.waiting(source__url=url):
            plug.unlink()
            plug.symlink_to(server.socket)
        swap.failed()
        assert others.target(swap.job_id).read_bytes() == b"\xee" * SIZE


def test_a_link_that_is_changed_later_leads_where_it_led(
    swap: Swap, others: Bystander, outside: Path
) -> None:
    """It is followed once, when the call comes."""
    link = swap.folder / "link"
    link.symlink_to(swap.file)
    with others.unhurt():
        with swap.waiting(destination__url=str(link)):
            link.unlink()
            link.symlink_to(swap.secret)
        assert others.watcher.ended(swap.job_id)["status"] == "done"
        assert swap.file.read_bytes() == others.source.read_bytes()
        assert swap.secret.read_bytes() == pattern(SIZE, seed=9)


def test_a_volume_that_leads_out_of_its_domain(
    agent: Served, others: Bystander, outside: Path
) -> None:
    """Whoever may write to the storage may not read or write the rest of the host."""
    names = {"storagedomainID": SD, "imageID": str(uuid.uuid4()), "volumeID": str(uuid.uuid4())}
    others.watcher.done("Volume.create", **names, size=SIZE, volFormat="RAW")
    path = Path(others.watcher.call("Volume.getInfo", **names)["path"])
    path.unlink()
    path.symlink_to(outside / "secret")
    end = {"endpoint_type": "div", "sd_id": SD, "img_id": names["imageID"]}
    volume = {**end, "vol_id": names["volumeID"]}
    with others.unhurt():
        for role in ("source", "destination"):
            job_id = others.lease()
            asked = others.wanted(job_id, **{role: volume})
            assert refusal(others.watcher, "SDM.copy_data", **asked) != 0
            assert others.watcher.call("Host.getJobs", job_ids=[job_id]) == {}
    assert (outside / "secret").read_bytes() == pattern(SIZE, seed=9)


def test_sources_that_are_no_disks(agent: Served, others: Bystander, outside: Path) -> None:
    """Nothing of them, or of what they name, arrives."""
    folder = agent.disks / uuid.uuid4().hex
    folder.mkdir()
    place = os.open(folder, os.O_PATH)
    os.mkfifo(folder / "fifo")
    (folder / "loop").symlink_to(folder / "loop")
    qcow2_image(folder / "layer", SIZE)
    head = (folder / "layer").read_bytes()
    qcow2_image(folder / "backed", SIZE, backing=qcow2_image(outside / "base", SIZE, data=SECRET))
    raw_image(folder / "disguised", SIZE, data=head[:65536])
    with socket.socket(socket.AF_UNIX) as plug, others.unhurt():
        plug.bind(f"/proc/self/fd/{place}/socket")  # a short name
        for name, format in (
            ("fifo", "raw"),
            ("socket", "raw"),
            ("loop", "raw"),
            (".", "raw"),
            ("backed", "qcow2"),
            ("disguised", "raw"),
            ("missing", "raw"),
        ):
            job_id = others.lease()
            wanted = others.wanted(job_id, source__url=str(folder / name), source__format=format)
            others.watcher.call("SDM.copy_data", **wanted)
            state = others.watcher.ended(job_id)
            assert state["status"] == "failed", (name, state)
            assert others.target(job_id).read_bytes() == b"\xee" * SIZE, name
    os.close(place)
