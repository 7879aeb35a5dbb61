"""The unmodified Python SDK of oVirt against the real application, over HTTP and over TLS."""

import time
from collections.abc import Iterator

import ovirtsdk4
import pytest
import trio
from ovirtsdk4 import types
from sqlalchemy import Connection

from engine.commands.run import Progress
from engine.db import disks, stages
from engine.db.stages import Event, Line
from host import pki
from tests.engine.rest.site import GIB, PASSWORD, Site, end_command, site
from tests.postgres import Postgres

MARK = "sdk"


@pytest.fixture(scope="module", params=["http, sqlite", "tls, postgresql"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("engine")
    files = url = None
    if "tls" in request.param:
        server: Postgres = request.getfixturevalue("postgres_server")
        url = server.new_database()

        async def issue() -> pki.Issued:
            await pki.init(folder / "pki")
            return await pki.issue(
                folder / "pki", "engine", role="host", names=["127.0.0.1", "localhost"]
            )

        made = trio.run(issue)
        files = made.ca, made.certificate, made.key
    with site(folder / "site", url=url, certificate=files) as one:
        yield one


@pytest.fixture
def connection(served: Site) -> Iterator[ovirtsdk4.Connection]:
    made = connected(served)
    yield made
    made.close()


def connected(
    served: Site, user: str = "admin@internal", password: str = PASSWORD
) -> ovirtsdk4.Connection:
    return ovirtsdk4.Connection(
        url=f"{served.url}/ovirt-engine/api", username=user, password=password, ca_file=served.ca
    )


def test_the_connection_test_passes(connection: ovirtsdk4.Connection) -> None:
    assert connection.test(raise_exception=True)
    api = connection.system_service().get()
    assert (api.product_info.name, api.product_info.version.major) == ("leasehold", 4)


def test_a_managed_domain_is_added_found_and_its_secret_is_not(
    served: Site, connection: ovirtsdk4.Connection
) -> None:
    service = connection.system_service().storage_domains_service()
    added = service.add(
        types.StorageDomain(
            name="sdk-array",
            type=types.StorageDomainType.MANAGED_BLOCK_STORAGE,
            host=types.Host(name="any"),
            storage=types.HostStorage(
                type=types.StorageType.MANAGED_BLOCK_STORAGE,
                driver_options=[
                    types.Property(name="adapter", value="file"),
                    types.Property(name="path", value=str(served.folder / "sdk-array")),
                ],
                driver_sensitive_options=[types.Property(name="password", value="hidden word")],
            ),
        )
    )
    (found,) = service.list(search="name=sdk-array")
    assert found.id == added.id
    assert found.type is types.StorageDomainType.MANAGED_BLOCK_STORAGE
    got = service.storage_domain_service(added.id).get()
    assert {one.name: one.value for one in got.storage.driver_options} == {
        "adapter": "file",
        "path": str(served.folder / "sdk-array"),
    }
    assert got.storage.driver_sensitive_options is None
    assert service.list(search="name=nothing") == []


def test_a_disk_is_added_copied_moved_and_removed(
    served: Site, connection: ovirtsdk4.Connection
) -> None:
    domain, other = served.domain(), served.domain("array2")
    service_of = connection.system_service().disks_service()
    disk = service_of.add(
        types.Disk(
            name="sdk-disk",
            provisioned_size=GIB,
            format=types.DiskFormat.RAW,
            storage_domains=[types.StorageDomain(id=domain)],
        )
    )
    assert disk.status is types.DiskStatus.LOCKED
    served.end(disk.id)
    service = service_of.disk_service(disk.id)
    found = service.get()
    assert found.status is types.DiskStatus.OK
    assert found.provisioned_size == GIB
    assert found.storage_type is types.DiskStorageType.MANAGED_BLOCK_STORAGE
    assert [one.id for one in found.storage_domains] == [domain]
    service.copy(
        disk=types.Disk(name="sdk-copy"),
        storage_domain=types.StorageDomain(name="array2"),
        query={"correlation_id": f"{MARK}-copy-{domain}"},
    )
    (target,) = service_of.list(search="name=sdk-copy")
    assert target.status is types.DiskStatus.LOCKED
    jobs = connection.system_service().jobs_service()
    (job,) = jobs.list(search=f"correlation_id={MARK}-copy-{domain}")
    assert job.status is types.JobStatus.STARTED
    served.write(lambda c: _ended(c, job.id, disk.id, target.id))
    service.move(storage_domain=types.StorageDomain(id=other), async_=True)
    with pytest.raises(ovirtsdk4.Error, match="locked by command") as locked:
        service.remove()
    assert locked.value.code == 409
    assert [one.name for one in service_of.list(max=1)] != []


def _ended(c: Connection, command: str, *locked: str) -> None:
    end_command(c, command, "succeeded")
    for disk in locked:
        disks.unlock(c, disk, command)


def test_steps_of_a_job_tell_progress_type_and_error(
    served: Site, connection: ovirtsdk4.Connection
) -> None:
    disk = served.disk()
    service = connection.system_service().disks_service().disk_service(disk)
    mark = f"{MARK}-steps-{disk}"
    service.copy(
        disk=types.Disk(name="steps"),
        storage_domain=types.StorageDomain(name="array"),
        query={"correlation_id": mark},
    )
    jobs = connection.system_service().jobs_service()
    (job,) = jobs.list(search=f"correlation_id={mark}")
    now = time.time()
    journal: list[tuple[str, Event, dict[str, bool] | None]] = [
        ("create", "begin", None),
        ("create", "done", {"zero": True}),
        ("copy", "begin", None),
    ]

    def write(c: Connection) -> None:
        for n, (name, event, data) in enumerate(journal, 1):
            stages.add(c, Line(job.id, n, name, event, now + n, data))

    served.write(write)
    served.commands.progress_of[job.id] = Progress(37.5, 1 << 20, 1e6)
    steps = jobs.job_service(job.id).steps_service().list()
    assert [(one.status.value, one.progress) for one in steps] == [
        ("finished", 100),
        ("started", 37),
    ]
    assert all(one.type is types.StepEnum.EXECUTING for one in steps)
    assert steps[0].end_time is not None
    error = {"error": {"code": 1, "message": "the tool said: Input/output error"}}
    served.write(lambda c: stages.add(c, Line(job.id, 4, "copy", "failed", now + 4, error)))
    failed = jobs.job_service(job.id).steps_service().list()[-1]
    assert failed.status is types.StepStatus.FAILED
    assert "Input/output error" in failed.description
    again = jobs.job_service(job.id).steps_service().step_service(failed.id).get()
    assert again.number == failed.number


def test_hosts_data_centers_and_events_are_read(
    served: Site, connection: ovirtsdk4.Connection
) -> None:
    system = connection.system_service()
    host = system.hosts_service().add(
        types.Host(name=f"host-{time.time()}", address="unix:/run/nowhere.socket")
    )
    service = system.hosts_service().host_service(host.id)
    assert service.get().status is types.HostStatus.UP
    assert service.get().name == host.name
    assert host.name.startswith("host-")
    service.deactivate()
    assert service.get().status is types.HostStatus.MAINTENANCE
    service.remove()
    with pytest.raises(ovirtsdk4.NotFoundError):
        service.get()
    (center,) = system.data_centers_service().list(search='name="Default"')
    assert center.status is types.DataCenterStatus.UP
    assert [one.name for one in system.clusters_service().list()] == ["Default"]
    events = system.events_service().list(max=5)
    assert any("removed host" in one.description for one in events)
    assert events[0].severity is types.LogSeverity.NORMAL
    newer = system.events_service().list(from_=int(events[1].id))
    assert [one.id for one in newer] == [events[0].id]
    assert system.events_service().event_service(events[0].id).get().id == events[0].id


def test_a_wrong_password_is_an_authentication_error(served: Site) -> None:
    with pytest.raises(ovirtsdk4.AuthError, match="password is wrong"):
        connected(served, password="wrong horse").authenticate()


def test_a_token_that_was_ended_is_renewed_and_one_of_a_reader_may_not_write(served: Site) -> None:
    one = connected(served, "reader@internal")
    token = one.authenticate()
    with served.client(None) as client:
        form = {"scope": "ovirt-app-api", "token": token}
        assert client.post("/ovirt-engine/services/sso-logout", data=form).status_code == 200
    service = one.system_service().disks_service()
    assert isinstance(service.list(), list)  # it has logged in again by itself
    with pytest.raises(ovirtsdk4.AuthError, match="role reader may not") as refused:
        service.disk_service("00000000-0000-0000-0000-000000000000").remove()
    assert refused.value.code == 403
    one.close()


def test_what_is_not_there_is_a_not_found_error(connection: ovirtsdk4.Connection) -> None:
    service = connection.system_service().disks_service()
    with pytest.raises(ovirtsdk4.NotFoundError, match="no such disk"):
        service.disk_service("00000000-0000-0000-0000-000000000000").get()
    with pytest.raises(ovirtsdk4.NotFoundError, match="no such disk"):
        service.disk_service("nonsense").get()
