"""Making, reading and finding storage domains, and what a crash or a full disk leaves behind."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import (
    BadParameter,
    Error,
    InvalidDomain,
    MetaDataSealIsBroken,
    StorageDomainAlreadyExists,
    StorageDomainCreationError,
    StorageDomainDoesNotExist,
)
from storage import domain, domain_metadata

GOLDEN = Path(__file__).parent.parent / "vectors" / "domain_metadata"
CREATED = json.loads((GOLDEN / "index.json").read_text())["domains"]
SD = "99999999-aaaa-4bbb-8ccc-dddddddddddd"
MIB = 1 << 20


def nothing(dom_md: str) -> None:
    """Formats no lease volume."""


def make(mount: Path, **options: Any) -> domain.Domain:
    return domain.create(str(mount), **{"sd_id": SD, "leases": 1, "prepare": nothing, **options})


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """An unkind one: modes must not depend on it."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_new_domain_has_the_files_sizes_and_modes_of_the_golden_one(tmp_path: Path) -> None:
    made = Path(make(tmp_path).path)
    listed = CREATED["localfs_v5_created"]["files"]
    # Its writer makes no lease volume in a local domain; we do.
    for entry in [*listed, {"path": "dom_md/xleases", "mode": "0660", "size": 4 * MIB}]:
        found = (made / entry["path"]).stat()
        assert f"{found.st_mode & 0o7777:04o}" == entry["mode"], entry["path"]
        if entry["path"] == "dom_md/metadata":
            continue  # its length is that of the mount's path
        if entry.get("size") is not None:
            assert found.st_size == entry["size"], entry["path"]
    paths = {str(path.relative_to(made)) for path in made.rglob("*")}
    assert paths == {e["path"] for e in listed if e["path"] != "."} | {"dom_md/xleases"}


def test_metadata_of_a_new_domain_is_the_golden_text(tmp_path: Path) -> None:
    golden = CREATED["localfs_v5_created"]["inputs"]
    made = make(tmp_path, sd_id=golden["sd_id"], description=golden["name"])
    values = domain_metadata.decode(Path(made.metadata).read_bytes(), "x")
    values["REMOTE_PATH"] = golden["remote_path"]  # the one thing that depends on the place
    assert domain_metadata.encode(values) == (GOLDEN / "localfs_v5_created.metadata").read_bytes()


def test_created_domain_loads_as_it_was_created(tmp_path: Path) -> None:
    made = make(tmp_path, description="Grüße")
    assert domain.load(made.path) == made
    assert (made.id, made.path, made.type, made.version) == (SD, f"{tmp_path}/{SD}", "LOCALFS", 5)
    assert (made.block_size, made.alignment, made.pool) == (512, MIB, None)
    assert (made.description, made.role) == ("Grüße", "Regular")
    assert made.xleases == f"{made.path}/dom_md/xleases"


@pytest.mark.parametrize(
    ("block_size", "leases", "size"),
    [(512, 1, 4 * MIB), (512, 5, 8 * MIB), (4096, 1, 32 * MIB), (512, None, 1024 * MIB)],
)
def test_lease_volume_is_allocated_in_full(
    tmp_path: Path, block_size: int, leases: int | None, size: int
) -> None:
    made = make(tmp_path, block_size=block_size, leases=leases)
    volume = os.stat(made.xleases)
    assert volume.st_size == size
    assert volume.st_blocks * 512 >= size
    assert made.alignment == (MIB if block_size == 512 else 8 * MIB)
    os.unlink(made.xleases)  # pytest keeps folders, and this is large


@pytest.mark.parametrize(
    "options",
    [
        {"sd_id": "nope"},
        {"sd_id": "../" + SD},
        {"block_size": 1024},
        {"leases": 0},
        {"leases": 3961},
        {"description": "a\nVERSION=4"},
    ],
)
def test_bad_parameter_is_refused_before_anything_is_written(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(BadParameter):
        make(tmp_path / "mount", **options)
    assert list(tmp_path.iterdir()) == []


def test_missing_mount_folder_is_made(tmp_path: Path) -> None:
    assert make(tmp_path / "a" / "b").path == f"{tmp_path}/a/b/{SD}"


def test_mount_through_a_link_is_the_real_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert make(tmp_path / "link").path == f"{tmp_path}/real/{SD}"
    assert domain.load(f"{tmp_path}/link/{SD}").path == f"{tmp_path}/real/{SD}"


def test_existing_domain_is_never_replaced(tmp_path: Path) -> None:
    made = make(tmp_path)
    before = os.stat(made.xleases)
    with pytest.raises(StorageDomainAlreadyExists) as refused:
        make(tmp_path)
    assert refused.value.code == 365
    assert os.stat(made.xleases) == before
    assert os.listdir(tmp_path) == [SD]


@pytest.mark.parametrize("kind", ["file", "empty folder", "dangling link"])
def test_whatever_is_in_the_place_is_never_replaced(tmp_path: Path, kind: str) -> None:
    place = tmp_path / SD
    match kind:
        case "file":
            place.write_text("mine")
        case "empty folder":
            place.mkdir()
        case _:
            place.symlink_to("nowhere")
    with pytest.raises(StorageDomainAlreadyExists):
        make(tmp_path)
    assert os.listdir(tmp_path) == [SD]


@pytest.mark.parametrize("kind", ["file", "domain"])
def test_rival_that_is_first_wins(tmp_path: Path, kind: str) -> None:
    def rival(dom_md: str) -> None:
        if kind == "file":
            (tmp_path / SD).write_text("mine")
        else:
            (tmp_path / SD / "dom_md").mkdir(parents=True)

    with pytest.raises(StorageDomainAlreadyExists):
        make(tmp_path, prepare=rival)
    assert os.listdir(tmp_path) == [SD]


def test_two_creators_at_once_make_one_domain(tmp_path: Path) -> None:
    barrier = threading.Barrier(2)
    results: list[object] = []

    def meet(dom_md: str) -> None:
        barrier.wait(10)

    def create() -> None:
        try:
            results.append(make(tmp_path, prepare=meet))
        except StorageDomainAlreadyExists as e:
            results.append(e)

    threads = [threading.Thread(target=create) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {type(result) for result in results} == {domain.Domain, StorageDomainAlreadyExists}
    assert os.listdir(tmp_path) == [SD]
    assert domain.load(f"{tmp_path}/{SD}").id == SD


def test_failing_prepare_leaves_nothing(tmp_path: Path) -> None:
    def fail(dom_md: str) -> None:
        assert os.path.getsize(f"{dom_md}/xleases") == 4 * MIB
        raise InvalidDomain("x", "cannot format")

    with pytest.raises(InvalidDomain, match="cannot format"):
        make(tmp_path / "mount", prepare=fail)
    assert list(tmp_path.iterdir()) == []


def test_full_disk_in_prepare_is_a_clear_error_and_leaves_nothing(tmp_path: Path) -> None:
    def full(dom_md: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(StorageDomainCreationError, match="No space left on device"):
        make(tmp_path, prepare=full)
    assert list(tmp_path.iterdir()) == []


def test_disk_without_room_for_the_leases_is_a_clear_error_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "leasehold-test", tmp_path],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.decode().strip()}")
    try:
        with pytest.raises(StorageDomainCreationError, match="No space left on device") as full:
            make(tmp_path, leases=20)
        assert full.value.code == 351
        assert list(tmp_path.iterdir()) == []
        assert os.statvfs(tmp_path).f_bfree * os.statvfs(tmp_path).f_frsize >= 7 * MIB
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_file_size_limit_is_a_clear_error_and_leaves_nothing(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB, limits[1]))
    try:
        with pytest.raises(StorageDomainCreationError, match="File too large"):
            make(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert list(tmp_path.iterdir()) == []


def test_mount_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageDomainCreationError):
        make(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


KILLED = """
import os, signal, sys
from storage import domain
def killed(dom_md): os.kill(os.getpid(), signal.SIGKILL)
domain.create(sys.argv[1], sd_id=sys.argv[2], leases=1, prepare=killed)
"""


def test_killed_creator_leaves_no_domain_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, tmp_path, SD], check=False)
    assert killed.returncode == -signal.SIGKILL
    [left] = os.listdir(tmp_path)
    assert left.startswith(f".{SD}.new-")
    assert domain.find(str(tmp_path)) == []
    with pytest.raises(StorageDomainDoesNotExist):
        domain.load(f"{tmp_path}/{SD}")
    other = SD.replace("9", "8")
    assert domain.find(str(tmp_path)) == []
    made = make(tmp_path, sd_id=other)
    assert os.listdir(tmp_path) == [other]
    assert domain.find(str(tmp_path)) == [made]


def test_domain_in_the_making_is_not_cleaned_up(tmp_path: Path) -> None:
    other = SD.replace("9", "8")

    def second(dom_md: str) -> None:
        make(tmp_path, sd_id=other)

    make(tmp_path, prepare=second)
    assert [found.id for found in domain.find(str(tmp_path))] == [other, SD]


def test_domain_in_the_making_is_not_found(tmp_path: Path) -> None:
    def look(dom_md: str) -> None:
        assert domain.find(str(tmp_path)) == []

    make(tmp_path, prepare=look)


def test_missing_domain_does_not_exist(tmp_path: Path) -> None:
    for missing in (f"{tmp_path}/{SD}", f"{tmp_path}/no/{SD}"):
        with pytest.raises(StorageDomainDoesNotExist) as refused:
            domain.load(missing)
        assert refused.value.code == 358
    with pytest.raises(StorageDomainDoesNotExist):
        domain.find(f"{tmp_path}/no")


def resealed(made: domain.Domain, **values: str) -> None:
    path = Path(made.metadata)
    old = domain_metadata.decode(path.read_bytes(), "x")
    path.write_bytes(domain_metadata.encode({**old, **values}))


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("VERSION", "4", "version 4, only 5"),
        ("VERSION", "x", "VERSION 'x' is not a number"),
        ("VERSION", "\N{ARABIC-INDIC DIGIT FIVE}", "is not a number"),
        ("TYPE", "ISCSI", "TYPE 'ISCSI' is not that of a file domain"),
        ("SDUUID", SD.replace("9", "8"), "is not the folder's name"),
        ("BLOCK_SIZE", "513", "BLOCK_SIZE 513 is not"),
        ("ALIGNMENT", "3145728", "ALIGNMENT 3145728 is not"),
    ],
)
def test_metadata_of_another_kind_is_refused_with_the_reason(
    tmp_path: Path, key: str, value: str, reason: str
) -> None:
    made = make(tmp_path)
    resealed(made, **{key: value})
    with pytest.raises(InvalidDomain, match=reason):
        domain.load(made.path)


def test_changed_metadata_breaks_the_seal(tmp_path: Path) -> None:
    made = make(tmp_path)
    path = Path(made.metadata)
    path.write_text(path.read_text().replace("ROLE=Regular", "ROLE=Master"))
    with pytest.raises(MetaDataSealIsBroken) as broken:
        domain.load(made.path)
    assert broken.value.code == 752


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "huge", "garbage", "no dom_md"])
def test_folder_without_usable_metadata_is_refused(tmp_path: Path, kind: str) -> None:
    path = Path(make(tmp_path).metadata)
    path.unlink()
    match kind:
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "huge":
            with path.open("wb") as file:
                file.truncate(1 << 40)
        case "garbage":
            path.write_bytes(b"\xff\xfe\x00garbage")
        case "no dom_md":
            path.parent.rename(tmp_path / "away")
    with pytest.raises(InvalidDomain, match="metadata"):
        domain.load(f"{tmp_path}/{SD}")


def test_folder_that_is_not_named_by_a_uuid_is_refused(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / SD).rename(tmp_path / "name")
    with pytest.raises(InvalidDomain, match="UUID"):
        domain.load(f"{tmp_path}/name")


def test_find_passes_over_a_damaged_domain_and_tells(tmp_path: Path) -> None:
    other = SD.replace("9", "8")
    made = make(tmp_path)
    Path(make(tmp_path, sd_id=other).metadata).write_bytes(b"\xff")
    (tmp_path / "lost+found").mkdir()
    (tmp_path / SD.replace("9", "7")).mkdir()  # a UUID, but no domain
    told: list[tuple[str, Error]] = []
    assert domain.find(str(tmp_path), damaged=lambda *found: told.append(found)) == [made]
    assert [path for path, _ in told] == [f"{tmp_path}/{other}"]
    with pytest.raises(InvalidDomain):
        domain.find(str(tmp_path))


@pytest.mark.parametrize("name", ["nfs_v5_created", "localfs_v5_created", "localfs_v5_4k_created"])
def test_domain_of_another_program_is_read(tmp_path: Path, name: str) -> None:
    golden = CREATED[name]
    path = tmp_path / golden["inputs"]["sd_id"]
    (path / "dom_md").mkdir(parents=True)
    (path / "dom_md" / "metadata").write_bytes((GOLDEN / f"{name}.metadata").read_bytes())
    found = domain.load(str(path))
    assert found.block_size == golden["read_back"]["BLOCK_SIZE"]
    assert found.alignment == golden["read_back"]["ALIGNMENT"]
