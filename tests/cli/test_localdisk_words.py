"""What `leasehold localdisk` makes of its words, and tells; without any local disk."""

import io
import re
import uuid
from pathlib import Path
from typing import Any

import pytest
import typer

from cli import localdisk_vms
from cli.localdisk import app
from cli.localdisk_hosts import Row
from cli.localdisk_request import Order, check_for_host, order_of
from cli.localdisk_text import table, unused_line
from host.local_disk_request import Unused
from protocol.errors import BadParameter
from protocol.messages import DivEndpoint, ExternalEndpoint, decode_endpoint
from tests.cli.run import Cli
from tests.cli.test_completion import completed

SD, IMG, VOL, VM, OTHER = (f"{n}1dd9f4a-0c59-4c1c-9d31-6a1d0d4ad2ef" for n in range(1, 6))
TOP = Path(__file__).parents[2]
DOCUMENTS = [TOP / "README.md", TOP / "docs" / "localdisk.md", TOP / "docs" / "failures.md"]
NOTHING: dict[str, Any] = {
    "backend": "lvm",
    "vm": None,
    "id": None,
    "image": None,
    "source_format": None,
    "allow": (),
    "domain": None,
    "limit": None,
    "verify": False,
    "start": False,
    "again": False,
}


def ordered(source: str, **words: Any) -> Order:
    return order_of(source, **{**NOTHING, **words})


def test_a_volume_gives_its_ids_to_the_local_disk() -> None:
    request = ordered(f"{SD}/{IMG}/{VOL}".upper(), vm=uuid.UUID(VM)).request(None, "flow")
    assert (request.vol_id, request.img_id, request.vm_id) == (VOL, IMG, VM)
    ends = {"endpoint_type": "div", "sd_id": SD, "img_id": IMG, "vol_id": VOL}
    assert dict(request.source) == ends
    assert isinstance(decode_endpoint(dict(request.source), role="source"), DivEndpoint)
    assert request.flow_id == "flow"


def test_a_path_gets_the_same_id_again_and_another_one_for_another_vm() -> None:
    one = ordered("/disks/a", vm=uuid.UUID(VM))
    assert one.vol_id == ordered("/disks/../disks/a", vm=uuid.UUID(VM)).vol_id
    others = [ordered("/disks/a"), ordered("/disks/b", vm=uuid.UUID(VM))]
    others.append(ordered("/disks/a", vm=uuid.UUID(OTHER)))
    assert len({one.vol_id, *(other.vol_id for other in others)}) == 4
    assert one.img_id == others[0].img_id == others[2].img_id != others[1].img_id
    named = ordered("/disks/a", id=uuid.UUID(VOL), image=uuid.UUID(IMG))
    assert (named.vol_id, named.img_id) == (VOL, IMG)


def test_a_path_is_told_with_its_format() -> None:
    request = ordered("/disks/a", limit="2M", backend="lvmthin", again=True).request("qcow2")
    ends = {"endpoint_type": "external", "url": "/disks/a", "format": "qcow2"}
    assert dict(request.source) == ends
    assert isinstance(decode_endpoint(dict(request.source), role="source"), ExternalEndpoint)
    told = (request.limit, request.backend, request.again, request.start, request.sd_id)
    assert told == (2 << 20, "lvmthin", True, False, None)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (f"{SD}/{IMG}/{VOL}", {"id": uuid.UUID(VOL)}),
        (f"{SD}/{IMG}/{VOL}", {"image": uuid.UUID(IMG)}),
        (f"{SD}/{IMG}/{VOL}", {"source_format": "raw"}),
        ("http://host/a", {}),
        ("", {}),
        ("a\nb", {}),
        ("/disks/a", {"limit": "0"}),
        ("/disks/a", {"allow": ["/does/not/exist"]}),
    ],
)
def test_what_does_not_fit_is_bad_input(source: str, words: dict[str, Any]) -> None:
    with pytest.raises(BadParameter):
        ordered(source, **words)


def test_a_host_is_told_the_format_and_no_folders(tmp_path: Path) -> None:
    check_for_host(ordered(f"{SD}/{IMG}/{VOL}"))
    check_for_host(ordered("/disks/a", source_format="raw"))
    with pytest.raises(BadParameter, match="--source-format"):
        check_for_host(ordered("/disks/a"))
    with pytest.raises(BadParameter, match="--allow"):
        check_for_host(ordered("/disks/a", source_format="raw", allow=[str(tmp_path)]))


def test_the_vms_are_read_from_a_file_or_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"{VM}\n\n  {OTHER.upper()}\n"
    (tmp_path / "vms").write_text(text)
    assert localdisk_vms.read(str(tmp_path / "vms")) == [VM, OTHER]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert localdisk_vms.read("-") == [VM, OTHER]


@pytest.mark.parametrize(
    "content", [b"", b"\n \n", b"web1\n", f"{VM} {OTHER}".encode(), b"\xff\xfe", b"\n" * 5_000_000]
)
def test_a_list_without_vms_is_refused_as_everything_would_be_removed(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "vms").write_bytes(content)
    with pytest.raises(BadParameter, match="--vms"):
        localdisk_vms.read(str(tmp_path / "vms"))
    with pytest.raises(BadParameter, match="No such file"):
        localdisk_vms.read(str(tmp_path / "other"))


def test_a_disk_is_a_line_with_what_is_known_of_it() -> None:
    ready = Row(VOL, "lvmthin", "ready", 10 << 30, "/dev/x", vm_id=VM, started=True, open=True)
    filling = Row(VOL, "lvm", "filling", 1 << 20, "/dev/x", job_id=IMG, job_status="PENDING")
    lines = table([ready, filling]).splitlines()
    assert lines == [
        f"{VOL}  ready    lvmthin   10.0G  VM {VM}  handed to its VM  open",
        f"{VOL}  filling  lvm       1.00M  no VM  job {IMG} (PENDING)",
    ]
    assert table([Row(VOL, "lvm", "filling", 1, "/")]).endswith("no job is known")
    held = Row(VOL, "lvm", "filling", 1, "/", job_id=IMG, job_status="owned")
    assert table([held]).endswith(f"job {IMG} (running)")


def test_an_unused_disk_is_a_line_that_says_what_became_of_it() -> None:
    found = Unused(VOL, None, "its copy died")
    assert unused_line(found, dry_run=True) == f"would remove local disk {VOL}: its copy died"
    gone = Unused(VOL, None, "its copy died", removed=True)
    assert unused_line(gone, dry_run=False) == f"removed local disk {VOL}: its copy died"
    kept = Unused(VOL, None, "its copy died", failed="it is open")
    assert unused_line(kept, dry_run=False) == f"local disk {VOL} is kept: it is open"


@pytest.mark.parametrize(
    "words",
    [
        ("prepare",),
        ("prepare", "a", "--vm", "web1"),
        ("prepare", "a", "--backend", "zfs"),
        ("prepare", "a", "--id", "../x"),
        ("prepare", "a", "--limit", "-1"),
        ("prepare", "a", "--host", "http://host", "--source-format", "raw"),
        ("prepare", "a", "--host", "unix:/nowhere"),
        ("prepare", ""),
        ("remove",),
        ("remove", VOL, "--vm", VM),
        ("remove", "../x"),
        ("gc", "--vms", "/does/not/exist"),
        ("gc", "--vms", "-"),
    ],
    ids=" ".join,
)
def test_bad_words_are_exit_2_with_one_line_or_one_json_object(
    cli: Cli, words: tuple[str, ...]
) -> None:
    told = cli("localdisk", *words)
    assert (told.code, told.out) == (2, "")
    assert told.err.count("\n") == 1
    told = cli("localdisk", *words, "--json")
    assert (told.code, told.error["code"]) == (2, 1000)
    assert not cli.home.exists(), "nothing may be made for bad input"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_documents_name_no_command_or_option_that_there_is_not(document: Path) -> None:
    """Not all of their examples can be run."""
    known: dict[str, Any] = vars(typer.main.get_command(app))["commands"]
    found = re.findall(r"leasehold localdisk ([a-z]+)((?: +[^\s`|<>#()]+)*)", document.read_text())
    assert found
    for name, words in found:
        assert name in known
        options = {word for one in known[name].params for word in one.opts}
        named = {word.partition("=")[0] for word in words.split() if word.startswith("--")}
        assert named <= options, (name, words)


def test_the_commands_and_backends_are_completed(cli: Cli) -> None:
    assert completed(cli, "loc") == ["localdisk"]
    assert set(completed(cli, "localdisk", "")) == {"prepare", "list", "remove", "gc", "xml"}
    assert completed(cli, "localdisk", "prepare", "--backend", "") == ["lvm", "lvmthin"]
    assert "--dry-run" in completed(cli, "localdisk", "gc", "--d")
