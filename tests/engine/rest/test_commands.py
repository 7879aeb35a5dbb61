"""Commands, copies, leases, quarantine and snapshots in our part."""

import time

import pytest
from sqlalchemy import Connection

from engine.commands.next_step import final_of
from engine.commands.table import TYPES
from engine.db import commands, disks, hosts, jobs, leases, quarantine, stages
from engine.db.jobs import Job
from engine.db.leases import Lease
from engine.db.quarantine import Quarantined
from engine.rest.command_steps import JOB_STATUS, steps
from engine.rest.operation import OURS, OVIRT
from tests.engine.db import things
from tests.engine.rest.site import Site

NOBODY = "00000000-0000-0000-0000-000000000000"


def running(served: Site) -> str:
    """A command that runs; its id."""
    disk = served.begin_disk()["id"]
    command = served.read(lambda c: disks.get(c, disk)).locked_by
    assert command is not None
    return command


def test_a_command_is_told_with_its_steps(served: Site) -> None:
    command = running(served)
    served.write(lambda c: stages.append(c, command, "create", "begin", at=time.time()))
    with served.client() as client:
        told = client.get(f"{OURS}/commands/{command}").json()
        assert (told["type"], told["state"], told["user"]) == ("add_disk", "running", "admin")
        assert [one["name"] for one in told["steps"]] == ["create"]
        assert told["steps"][0]["status"] == "started"
        assert "facts" not in told
        listed = client.get(f"{OURS}/commands", params={"state": "running", "max": "1000"}).json()
        assert command in [one["id"] for one in listed["commands"]]
        none = client.get(f"{OURS}/commands", params={"type": "nothing"}).json()
        assert none == {"commands": []}


def test_abort_resolve_and_clear_are_passed_on_and_refused_in_the_wrong_state(served: Site) -> None:
    command = running(served)
    where = f"{OURS}/commands/{command}"
    with served.client("operator") as client:
        assert client.post(f"{where}/abort").status_code == 202
        refused = client.post(f"{where}/resolve")
        assert refused.status_code == 409
        assert refused.json()["error"]["kind"] == "WrongState"
        now = time.time()
        served.write(lambda c: commands.move(c, command, "unresolved", expected="running", at=now))
        assert client.post(f"{where}/resolve", json={}).status_code == 202
        assert client.post(f"{where}/clear", json={"by_hand": True}).status_code == 202
        assert client.post(f"{where}/clear", json={"by_hand": "yes"}).status_code == 400
        assert client.post(f"{where}/clear", json={"unknown": True}).status_code == 400
        assert client.post(f"{OVIRT}/jobs/{command}/clear").status_code == 200
        assert client.post(f"{OURS}/commands/{NOBODY}/abort").status_code == 404
    done = [what for what, id in served.commands.calls if id == command]
    assert done == ["abort", "resolve", "clear by hand", "clear"]


def test_what_is_in_quarantine_is_listed_and_cleared_by_its_command(served: Site) -> None:
    command, now = running(served), time.time()
    row = Quarantined(
        f"{command}:volume:{NOBODY}", "volume", NOBODY, NOBODY, None, command, "because", "do", now
    )

    def write(c: Connection) -> None:
        quarantine.put(c, row)
        commands.move(c, command, "quarantined", expected="running", at=now)

    served.write(write)
    with served.client("operator") as client:
        (told,) = client.get(f"{OURS}/quarantine").json()["quarantine"]
        assert (told["reason"], told["action"], told["cleared"]) == ("because", "do", None)
        assert client.get(f"{OURS}/quarantine/{row.id}").json() == told
        cleared = client.post(f"{OURS}/quarantine/{row.id}/clear", json={"by_hand": True})
        assert cleared.json()["id"] == command
        assert client.get(f"{OURS}/quarantine/nothing").status_code == 404
        served.write(lambda c: quarantine.clear(c, row.id, at=now))
        assert client.get(f"{OURS}/quarantine").json() == {"quarantine": []}
        every = client.get(f"{OURS}/quarantine", params={"all": "true"}).json()
        assert [one["id"] for one in every["quarantine"]] == [row.id]
    assert ("clear by hand", command) in served.commands.calls


def test_what_is_in_quarantine_is_told_with_the_names_that_there_still_are(served: Site) -> None:
    command, domain, now = running(served), served.domain(), time.time()

    def kept(id: str, domain: str, host: str | None) -> Quarantined:
        return Quarantined(id, "attachment", "v", domain, host, command, "because", "do", now)

    def write(c: Connection) -> None:
        hosts.add(c, host := things.host())
        quarantine.put(c, kept("with-names", domain, host.id))
        quarantine.put(c, kept("without", NOBODY, NOBODY))
        quarantine.put(c, kept("of-no-host", domain, None))

    served.write(write)
    with served.client() as client:
        found = {
            id: client.get(f"{OURS}/quarantine/{id}").json()
            for id in ("with-names", "without", "of-no-host")
        }
    names = {id: (told["domain_name"], told["host_name"]) for id, told in found.items()}
    assert names == {
        "with-names": ("array", f"host-{found['with-names']['host'][:8]}"),
        "without": (None, None),
        "of-no-host": ("array", None),
    }
    served.write(lambda c: [quarantine.clear(c, id, at=now) for id in found])


def test_copies_and_leases_are_told_with_the_verdict(served: Site) -> None:
    command, domain = running(served), served.domain()
    id = "5c4e0f0a-0000-4000-8000-000000000001"
    verdict = {"end": "failed", "reason": "the host said so", "story": [{"text": "asked"}]}

    def write(c: Connection) -> None:
        jobs.add(c, Job(id, command, NOBODY, begun=5.0))
        jobs.report(c, id, 50.0, 1 << 30, 1e8)
        jobs.end(c, id, verdict, at=9.0)
        leases.begin(c, Lease(id, domain, command))

    served.write(write)
    with served.client("reader") as client:
        told = client.get(f"{OURS}/jobs/{id}").json()
        assert (told["state"], told["bytes"], told["verdict"]) == ("failed", 1 << 30, verdict)
        listed = client.get(f"{OURS}/jobs", params={"command": command}).json()["jobs"]
        assert listed == [told]
        assert client.get(f"{OURS}/jobs", params={"state": "running"}).json() == {"jobs": []}
        assert client.get(f"{OURS}/leases").json() == {
            "leases": [{"id": id, "domain": domain, "command": command, "state": "creating"}]
        }
    served.write(lambda c: leases.move(c, id, "gone"))


def test_snapshots_are_commands(served: Site) -> None:
    disk = served.disk()
    with served.client("operator") as client:
        where = f"{OURS}/disks/{disk}/snapshots"
        made = client.post(where, json={"description": "before"})
        assert made.status_code == 202, made.text
        snapshot = made.json()["snapshot"]
        (told,) = client.get(where).json()["snapshots"]
        assert (told["id"], told["description"], told["state"]) == (snapshot, "before", "creating")
        assert client.get(f"{OURS}/snapshots/{snapshot}").json() == told
        for method, path in (
            ("DELETE", f"{OURS}/snapshots/{snapshot}"),
            ("POST", f"{OURS}/snapshots/{snapshot}/preview"),
            ("POST", f"{where}/commit"),
            ("POST", f"{where}/undo"),
        ):
            answer = client.request(method, path)
            assert answer.status_code == 409, (path, answer.text)  # the disk is locked
        assert client.get(f"{OURS}/disks/{NOBODY}/snapshots").status_code == 404


@pytest.mark.parametrize("state", sorted(JOB_STATUS))
def test_every_state_of_a_command_is_a_status_of_a_job(served: Site, state: str) -> None:
    command = running(served)
    if state != "running":
        error = {"code": 4405, "kind": "NoRoom", "message": "no room at all", "data": {}}
        served.write(
            lambda c: commands.move(
                c,
                command,
                state,  # type: ignore[arg-type]
                expected="running",
                at=1.0,
                error=error,
            )
        )
    with served.client() as client:
        job = client.get(f"{OVIRT}/jobs/{command}").json()
        assert job["status"] == JOB_STATUS[state]
        bad = state in ("failed", "quarantined", "unresolved", "aborted")
        assert ("no room at all" in job["description"]) is bad
        search = {"search": f"status={JOB_STATUS[state]} and id={command}"}
        (found,) = client.get(f"{OVIRT}/jobs", params=search).json()["job"]
    assert found == job


@pytest.mark.parametrize("name", sorted(TYPES))
def test_every_stage_of_every_command_is_a_step(name: str) -> None:
    kind = TYPES[name]
    lines = []
    for n, stage in enumerate(kind.stages):
        lines += [
            stages.Line(NOBODY, 2 * n + 1, stage.name, "begin", n),
            stages.Line(NOBODY, 2 * n + 2, stage.name, "done", n + 0.5),
        ]
    made = steps(NOBODY, kind.stages, lines)
    assert [one.name for one in made] == [one.name for one in kind.stages]
    assert {one.status for one in made} == {"finished"}
    assert len({one.id for one in made}) == len(made)
    place = kind.stages.index(final_of(kind.stages)) + 1
    behind = len(kind.stages) - place
    assert [one.kind for one in made] == ["executing"] * place + ["finalizing"] * behind
    assert steps(NOBODY, kind.stages, []) == []


def test_a_step_that_was_undone_says_what_went_wrong() -> None:
    kind = TYPES["add_disk"]
    error = {"error": {"code": 1, "kind": "X", "message": "it broke", "data": {}}}
    lines = [
        stages.Line(NOBODY, 1, "create", "begin", 1.0),
        stages.Line(NOBODY, 2, "create", "failed", 2.0, error),
        stages.Line(NOBODY, 3, "create", "undo", 3.0),
        stages.Line(NOBODY, 4, "create", "undone", 4.0),
    ]
    (step,) = steps(NOBODY, kind.stages, lines)
    assert (step.status, step.kind, step.error) == ("aborted", "finalizing", "it broke")
    assert (step.started, step.ended) == (1.0, 4.0)
    kept = stages.Line(NOBODY, 4, "create", "kept", 4.0, {"reason": "nobody answers"})
    (step,) = steps(NOBODY, kind.stages, [*lines[:3], kept])
    assert (step.status, step.error) == ("unknown", "nobody answers")
