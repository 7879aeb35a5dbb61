"""SDM.*: a bad call makes no job, a good one is done by a worker."""

import os
import uuid
from pathlib import Path
from typing import Any

import pytest

from endpoints.volume import leased_volume
from host.managed_use import Named
from host.this_host import urls_in_use
from leases import verbs as leases
from leases.hold import hold
from protocol.errors import (
    BadParameter,
    Error,
    ImageDoesNotExistInSD,
    JobExists,
    NoSuchJob,
    StorageDomainDoesNotExist,
    UnsupportedOperation,
    VolumeDoesNotExist,
)
from storage import volume
from tests.host.verbs.a_host import (
    IMG,
    MIB,
    SD,
    VOL,
    AHost,
    a_host,
    config,
    div,
    external,
)

JOB = "5b3ad4a8-3a1b-4a36-8f2e-b0f4c27be1d3"
pytestmark = pytest.mark.tools("qemu-img")


@pytest.fixture
async def filled(host: AHost) -> AHost:
    """A domain with a volume and a lease for JOB, a source and a target; the queue does not run."""
    await host.domain()
    await host.volume()
    await host.lease(JOB)
    (host.disks / "source").write_bytes(b"x" * MIB)
    (host.disks / "target").write_bytes(bytes(MIB))
    host.host.agent.queue.paused = True
    return host


async def copy(host: AHost, **other: Any) -> Any:
    """A good call, if nothing else is said."""
    ends = {
        "source": external(host.disks / "source"),
        "destination": external(host.disks / "target", JOB),
    }
    return await host.call("SDM.copy_data", **{"job_id": JOB, **ends, **other})


async def status(host: AHost) -> dict[str, Any]:
    found: dict[str, Any] = await host.call("Lease.status", lease={"sd_id": SD, "lease_id": JOB})
    return found


async def test_a_copy_between_files(filled: AHost) -> None:
    assert await copy(filled, verify=True, limit=1 << 40, priority=5) is True
    assert (await filled.call("Host.getJobs"))[JOB]["status"] == "pending"
    await filled.call("Host.resume")
    info = await filled.ended(JOB)
    assert (info["status"], info["bytes"], info["verified"]) == ("done", MIB, True)
    assert (info["source"]["url"], info["flow_id"]) == (str(filled.disks / "source"), "flow-1")
    assert (filled.disks / "target").read_bytes() == b"x" * MIB
    said = (await status(filled))["metadata"]
    assert (said["job_status"], said["generation"]) == ("SUCCEEDED", 1)


async def test_a_copy_between_volumes(filled: AHost) -> None:
    other = str(uuid.uuid4())
    await filled.volume(volumeID=other, imageID=other)
    (filled.mount / SD / "images" / IMG / VOL).write_bytes(b"v" * MIB)
    target = div(img_id=other, vol_id=other, generation=0, prepared=False)
    await copy(filled, source=div(), destination=target)
    await filled.call("Host.resume")
    assert (await filled.ended(JOB))["status"] == "done"
    ids = {"storagedomainID": SD, "imageID": other, "volumeID": other}
    info = await filled.call("Volume.getInfo", **ids)
    assert (info["legality"], info["generation"]) == ("LEGAL", 1)
    assert Path(info["path"]).read_bytes() == b"v" * MIB


async def test_a_missing_target_is_created_only_when_that_is_asked_for(filled: AHost) -> None:
    target = external(filled.disks / "new", JOB, create=True)
    await copy(filled, destination=target)
    await filled.call("Host.resume")
    assert (await filled.ended(JOB))["status"] == "done"
    assert (filled.disks / "new").read_bytes() == b"x" * MIB
    other = await filled.lease()
    await copy(filled, job_id=other, destination=external(filled.disks / "newer", other))
    assert (await filled.ended(other))["error"]["kind"] == "ImageMissing"


async def test_a_job_id_is_used_once(filled: AHost) -> None:
    await copy(filled)
    for job_id in (JOB, JOB.upper()):
        with pytest.raises(JobExists) as caught:
            await copy(filled, job_id=job_id)
        assert caught.value.code == 69
    update = {"sd_id": SD, "img_id": IMG, "vol_id": VOL}, {"generation": 5}
    with pytest.raises(JobExists):
        await filled.call("SDM.update_volume", job_id=JOB, vol_info=update[0], vol_attr=update[1])


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"job_id": "x"}, BadParameter),
        ({"source": {}}, BadParameter),
        ({"source": {"endpoint_type": "tape"}}, BadParameter),
        ({"source": div(vol_id="x")}, BadParameter),
        ({"source": div(sd_id=IMG)}, StorageDomainDoesNotExist),
        ({"source": div(img_id=SD)}, ImageDoesNotExistInSD),
        ({"source": div(vol_id=SD)}, VolumeDoesNotExist),
        ({"destination": div(sd_id=IMG)}, StorageDomainDoesNotExist),
        ({"destination": external("/x")}, BadParameter),
        ({"destination": div(generation=1000)}, BadParameter),
        ({"source": external("/x", format="vmdk")}, BadParameter),
        ({"copy_bitmaps": True}, UnsupportedOperation),
        ({"copy_bitmaps": True, "source": div()}, UnsupportedOperation),
        ({"limit": 0}, BadParameter),
        ({"limit": 1 << 64}, BadParameter),
        ({"priority": "high"}, BadParameter),
    ],
)
async def test_a_bad_call_makes_no_job(
    filled: AHost, params: dict[str, Any], error: type[Error]
) -> None:
    with pytest.raises(error):
        await copy(filled, **params)
    assert await filled.call("Host.getJobs") == {}
    with pytest.raises(NoSuchJob):
        await filled.call("Job.info", job_id=JOB)
    assert list(filled.host.journal.path.glob("[0-9a-f]*")) == []
    assert (await status(filled))["metadata"]["job_status"] == "PENDING"


async def test_the_lease_of_an_unknown_domain_is_told(filled: AHost) -> None:
    target = external(filled.disks / "target", JOB)
    target["lease"] = {"sd_id": IMG, "lease_id": JOB}
    with pytest.raises(StorageDomainDoesNotExist):
        await copy(filled, destination=target)


@pytest.mark.parametrize(
    "url",
    [
        "/etc/passwd",
        "{disks}",
        "{disks}/../state/agent-domains.json",
        "{disks}/link",
        "{disks}/folder/link/../target",
        "{disks}/folder/../target",
        "{disks}x/target",
        "/dev/null",
        "/dev/../etc/passwd",
        "/dev/mapper/../../etc/passwd",
        "/proc/self/environ",
        "nbd+unix:///x?socket=/run/socket",
        "nbd+unix:///x?socket={disks}/link",
        "nbd:unix:/run/socket",
        "rbd:pool/image:conf={disks}/target",
        "rbd:pool/image:keyring=/etc/passwd",
        "file:///etc/passwd",
        "json:{{}}",
        "http://host/x",
        "relative",
        "",
    ],
)
@pytest.mark.parametrize("end", ["source", "destination"])
async def test_nothing_outside_of_what_is_allowed_is_named(
    filled: AHost, url: str, end: str
) -> None:
    (filled.disks / "folder").mkdir()
    os.symlink("/etc", filled.disks / "folder" / "link")
    os.symlink("/etc/passwd", filled.disks / "link")
    text = url.format(disks=filled.disks)
    message = external(text, None if end == "source" else JOB)
    with pytest.raises(BadParameter) as caught:
        await copy(filled, **{end: message})
    assert caught.value.name == "url"
    assert await filled.call("Host.getJobs") == {}


async def test_a_link_inside_is_followed_once_and_for_all(filled: AHost) -> None:
    os.symlink("source", filled.disks / "link")
    await copy(filled, source=external(filled.disks / "link"))
    (filled.disks / "link").unlink()
    os.symlink("/etc/passwd", filled.disks / "link")
    await filled.call("Host.resume")
    info = await filled.ended(JOB)
    assert (info["status"], info["source"]["url"]) == ("done", str(filled.disks / "source"))


async def test_a_kind_of_url_that_is_not_allowed_is_refused(tmp_path: Path) -> None:
    async with a_host(tmp_path, config(tmp_path, schemes=("rbd",))) as host:
        (host.disks / "source").touch()
        with pytest.raises(BadParameter, match="path is not allowed on this host; allowed: rbd"):
            await copy(host)


async def test_an_image_names_no_other_file_of_the_allowed_directories(filled: AHost) -> None:
    """Only those of the folder that it lies in itself."""
    (filled.disks / "mine").mkdir()
    (filled.disks / "theirs").mkdir()
    (filled.disks / "theirs" / "secret").write_bytes(b"s" * MIB)
    image = filled.disks / "mine" / "image"
    options = f"backing_file={filled.disks}/theirs/secret,backing_fmt=raw"
    arguments = ["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, str(image)]
    assert os.spawnlp(os.P_WAIT, "qemu-img", *arguments) == 0
    await copy(filled, source=external(image, format="qcow2"))
    await filled.call("Host.resume")
    assert (await filled.ended(JOB))["error"]["kind"] == "ImageRefused"


async def test_an_image_names_no_file_beside_a_target_that_is_to_be_created(
    filled: AHost,
) -> None:
    """That a file may be made in a folder does not mean that others there may be read."""
    (filled.disks / "mine").mkdir()
    (filled.disks / "secret").write_bytes(b"s" * MIB)
    image = filled.disks / "mine" / "image"
    options = f"backing_file={filled.disks}/secret,backing_fmt=raw"
    arguments = ["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, str(image)]
    assert os.spawnlp(os.P_WAIT, "qemu-img", *arguments) == 0
    target = external(filled.disks / "new", JOB, create=True)
    await copy(filled, source=external(image, format="qcow2"), destination=target)
    await filled.call("Host.resume")
    assert (await filled.ended(JOB))["error"]["kind"] == "ImageRefused"
    assert not (filled.disks / "new").exists()


async def test_a_target_is_created_nowhere_else_when_its_folder_was_replaced(
    filled: AHost, tmp_path: Path
) -> None:
    folder, outside = filled.disks / "folder", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    await copy(filled, destination=external(folder / "new", JOB, create=True))
    folder.rmdir()
    os.symlink(outside, folder)
    await filled.call("Host.resume")
    assert (await filled.ended(JOB))["status"] == "failed"
    assert list(outside.iterdir()) == []


async def test_what_a_copy_uses_is_told_with_the_names_that_had_no_link(filled: AHost) -> None:
    """Whoever detaches a volume need not ask the storage of these again, which may hang."""
    (filled.disks / "link").symlink_to("source")
    await copy(
        filled,
        source=external(filled.disks / "link"),
        destination=external(filled.disks / "new", JOB, create=True),
    )
    names = str(filled.disks / "source"), str(filled.disks / "new")
    found = await urls_in_use(filled.host.agent, filled.host.journal)
    assert found == [Named(name, JOB, names) for name in names]


async def test_a_copy_waits_only_for_a_domain_that_this_host_joins_by_itself(
    filled: AHost,
) -> None:
    await copy(filled)
    domains = filled.host.domains
    await domains.remember(await domains.load(SD), 1)
    other = await filled.lease()
    await copy(filled, job_id=other, destination=external(filled.disks / "target", other))
    times = [filled.host.journal.folder(one).spec().join_time for one in (JOB, other)]
    assert times == [0, 60]


async def test_a_failed_copy_is_told_with_its_error(filled: AHost) -> None:
    (filled.disks / "source").write_bytes(b"x" * 2 * MIB)
    await copy(filled)
    await filled.call("Host.resume")
    error = (await filled.ended(JOB))["error"]
    assert (error["code"], error["kind"]) == (4104, "TooSmall")
    assert (await status(filled))["metadata"]["job_status"] == "FAILED"


async def test_a_lease_of_another_state_fails_the_job_alone(filled: AHost) -> None:
    target = {**external(filled.disks / "target", JOB), "generation": 4}
    await copy(filled, destination=target)
    await filled.call("Host.resume")
    assert (await filled.ended(JOB))["error"]["code"] == 911
    assert (await status(filled))["metadata"]["job_status"] == "PENDING"


async def test_a_held_lease_fails_the_job_alone(filled: AHost) -> None:
    store = await filled.host.store(SD)
    async with hold(store, await leases.info(store, JOB)):
        await copy(filled)
        await filled.call("Host.resume")
        assert (await filled.ended(JOB))["error"]["code"] == 651


@pytest.mark.tools("sanlock")
async def test_a_copy_and_an_update_under_leases_of_sanlock(shared: AHost) -> None:
    await shared.volume()
    await shared.lease(JOB)
    (shared.disks / "source").write_bytes(b"x" * MIB)
    (shared.disks / "target").write_bytes(bytes(MIB))
    await copy(shared)
    info = await shared.ended(JOB)
    assert info["status"] == "done", info
    said = await status(shared)
    assert (said["owners"], said["metadata"]["job_status"]) == ([], "SUCCEEDED")
    other = str(uuid.uuid4())
    await copy(shared, job_id=other, destination=div(generation=0))
    assert (await shared.ended(other))["status"] == "done"
    assert (await update(shared, {"generation": 1}, generation=4))["status"] == "done"
    assert await metadata_of(shared) == ("LEGAL", 4, "")


# --- SDM.update_volume ---------------------------------------------------------------------------

VOLUME: dict[str, Any] = {"sd_id": SD, "img_id": IMG, "vol_id": VOL}


async def update(host: AHost, info: dict[str, Any], **wanted: Any) -> dict[str, Any]:
    """How the job ended; the queue, which is paused, does not hold it up."""
    job_id = str(uuid.uuid4())
    params = {"vol_info": {**VOLUME, **info}, "vol_attr": wanted}
    assert await host.call("SDM.update_volume", job_id=job_id, **params) is True
    return await host.ended(job_id)


async def metadata_of(host: AHost) -> tuple[str, int, str]:
    ids = {"storagedomainID": SD, "imageID": IMG, "volumeID": VOL}
    info = await host.call("Volume.getInfo", **ids)
    return info["legality"], info["generation"], info["description"]


async def test_an_update_takes_the_next_generation(filled: AHost) -> None:
    done = await update(filled, {"generation": 0}, legality="ILLEGAL", description="a")
    assert (done["status"], done["generation"], done["legality"]) == ("done", 1, "ILLEGAL")
    assert await metadata_of(filled) == ("ILLEGAL", 1, "a")
    await update(filled, {}, description="b")
    assert await metadata_of(filled) == ("ILLEGAL", 2, "b")


async def test_an_update_fences_a_volume_by_its_generation(filled: AHost) -> None:
    await update(filled, {"generation": 0}, generation=3)
    assert await metadata_of(filled) == ("LEGAL", 3, "")


async def test_an_update_of_another_generation_changes_nothing(filled: AHost) -> None:
    ended = await update(filled, {"generation": 7}, legality="ILLEGAL")
    assert (ended["status"], ended["error"]["code"]) == ("failed", 911)
    assert await metadata_of(filled) == ("LEGAL", 0, "")


async def test_a_volume_that_is_being_written_is_not_updated(filled: AHost) -> None:
    store = await filled.host.store(SD)
    domain = await filled.host.domains.load(SD)
    async with hold(store, await leased_volume(domain, volume.read(domain, IMG, VOL))):
        ended = await update(filled, {"generation": 0}, generation=3)
    assert (ended["status"], ended["error"]["code"]) == ("failed", 651)
    assert await metadata_of(filled) == ("LEGAL", 0, "")


async def test_after_a_restart_the_volume_tells_what_became_of_an_update(tmp_path: Path) -> None:
    """The job is not known any more; asked for again, it changes nothing."""
    job_id = str(uuid.uuid4())
    again = {"vol_info": {**VOLUME, "generation": 0}, "vol_attr": {"generation": 3}}
    async with a_host(tmp_path) as host:
        await host.domain()
        await host.volume()
        await host.call("SDM.update_volume", job_id=job_id, **again)
        assert (await host.ended(job_id))["status"] == "done"
    async with a_host(tmp_path) as host:
        assert await host.call("Host.getJobs", job_ids=[job_id]) == {}
        with pytest.raises(NoSuchJob):
            await host.call("Job.info", job_id=job_id)
        assert await metadata_of(host) == ("LEGAL", 3, "")
        await host.call("SDM.update_volume", job_id=job_id, **again)
        assert (await host.ended(job_id))["error"]["code"] == 911
        assert await metadata_of(host) == ("LEGAL", 3, "")


@pytest.mark.parametrize(
    ("info", "wanted", "error"),
    [
        ({}, {}, BadParameter),
        ({}, {"generation": 1, "legality": "LEGAL"}, BadParameter),
        ({}, {"generation": 1000}, BadParameter),
        ({}, {"legality": "FAKE"}, BadParameter),
        ({}, {"description": "two\nlines"}, BadParameter),
        ({}, {"type": "SHARED"}, UnsupportedOperation),
        ({"generation": -1}, {"legality": "LEGAL"}, BadParameter),
        ({"sd_id": IMG}, {"legality": "LEGAL"}, StorageDomainDoesNotExist),
        ({"img_id": SD}, {"legality": "LEGAL"}, ImageDoesNotExistInSD),
        ({"vol_id": SD}, {"legality": "LEGAL"}, VolumeDoesNotExist),
    ],
)
async def test_a_bad_update_makes_no_job(
    filled: AHost, info: dict[str, Any], wanted: dict[str, Any], error: type[Error]
) -> None:
    with pytest.raises(error):
        await update(filled, info, **wanted)
    assert await filled.call("Host.getJobs") == {}
