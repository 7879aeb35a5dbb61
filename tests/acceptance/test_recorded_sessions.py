"""The recorded sessions of oVirt's clients, played against the real agent with real storage.

tests/host/wire/test_recorded.py plays them against the wire alone. Here the verbs are real too: a
domain, a volume and a lease of the names in the recording, and a copy that happens. What differs
from the recording, and why, stands in tables. The verbs behind the recorded server were stubs.
"""

import json
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from protocol import stomp
from tests.acceptance.wire_client import (
    WAIT,
    Certificate,
    Client,
    Connection,
    Frame,
    client,
    tls_socket,
    unix_socket,
)
from tests.host.authority import Site, sites
from tests.host.wire.test_recorded import DIFFERENCES, Shape, frames, on_r, shape
from tests.served import Served, served
from tests.servers import pattern
from tests.transcripts import CLIENT, PROBES, SERVER, SESSIONS, Transcript

__all__ = ["sites"]

pytestmark = pytest.mark.tools("qemu-img", "openssl")

END = b"DISCONNECT\nreceipt:end\n\n\0"
SIZE = 1 << 20
# As in the recording.
SD = "44444444-5555-4666-8777-888888888888"
IMG = "66666666-7777-4888-8999-aaaaaaaaaaaa"
VOL = "77777777-8888-4999-8aaa-bbbbbbbbbbbb"
OTHER_VOL = "77777777-8888-4999-8aaa-cccccccccccc"
JOB = "0f0f0f0f-1111-4222-8333-444444444444"
TARGET = "/dev/mapper/x"
LEASE = {"sd_id": SD, "lease_id": JOB}
# What else we say of a job; and what it is called, in our own words.
OURS = {"bytes", "total_bytes", "rate", "eta", "stage", "created", "started", "ended"}
# The stub took any text for a lease.
NO_LEASE = {"jsonrpc": "2.0", "error": {"code": 1000, "message": "str"}}


@pytest.fixture(scope="module")
def agent(sites: tuple[Site, Site], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    files = Certificate(*sites[0].files("host"))
    with served(
        tmp_path_factory.mktemp("agent"),
        listen__tls="127.0.0.1:0",
        certificates__ca=files.ca,
        certificates__certificate=files.certificate,
        certificates__key=files.key,
    ) as made:
        yield made


# --- single probes --------------------------------------------------------------------------------


def expected(probe: Transcript) -> list[Shape]:
    if probe.name == "reply with non-ASCII text":
        return on_r({**NO_LEASE, "id": "1"})
    if probe.name in DIFFERENCES:
        return DIFFERENCES[probe.name][1]
    return list(map(shape, frames(probe.all_of(SERVER))))


def seen(frame: Frame) -> Shape:
    return shape(stomp.Frame(frame.command, frame.headers, frame.body))


def exchanged(connection: Connection, said: bytes) -> list[Frame]:
    """All that the agent says to it, and to the end, but its receipt for the end."""
    with suppress(BrokenPipeError, ConnectionResetError):
        connection.plug.sendall(said)
        connection.plug.sendall(END)
    return [one for one in connection.rest() if one.headers.get("receipt-id") != "end"]


@pytest.mark.parametrize("probe", PROBES, ids=[one.name for one in PROBES])
def test_a_probe_is_answered_by_the_agent_as_recorded_or_as_it_should_be(
    agent: Served, probe: Transcript
) -> None:
    with unix_socket(agent.socket) as connection:
        got = exchanged(connection, probe.all_of(CLIENT))
    assert list(map(seen, got)) == expected(probe)


# --- whole sessions -------------------------------------------------------------------------------


@dataclass
class World:
    """What the recorded calls name, in a host of our own."""

    agent: Served
    operator: Client

    @property
    def target(self) -> Path:
        return self.agent.disks / "x"

    def make(self) -> None:
        call, done = self.operator.call, self.operator.done
        wanted = {"storagedomainID": SD, "path": str(self.agent.mount), "leases": 5}
        if SD not in call("Host.getCapabilities")["domains"]:
            call("StorageDomain.create", **wanted)
            for one in (VOL, OTHER_VOL):
                names = {"storagedomainID": SD, "imageID": IMG, "volumeID": one}
                done("Volume.create", **names, size=SIZE, volFormat="RAW")
                path = Path(call("Volume.getInfo", **names)["path"])
                path.write_bytes(pattern(SIZE, seed=3))
        for known in call("Host.getJobs"):
            call("Job.delete", job_id=known)
        metadata = {"type": "JOB", "job_id": JOB, "job_status": "PENDING", "generation": 0}
        self.forget_lease()
        done("Lease.create", lease=LEASE, metadata=metadata)
        self.target.write_bytes(bytes(SIZE))

    def forget_lease(self) -> None:
        """As the engine does after a copy."""
        self.operator.done("Lease.delete", lease=LEASE)

    def said(self, data: bytes) -> bytes:
        """What the client said, with the names of this host and what the stub did not need."""
        return b"".join(self._frame(one) for one in re.findall(rb"[^\0]*\0\n*|\n+", data))

    def _frame(self, data: bytes) -> bytes:
        head, gap, rest = data.partition(b"\n\n")
        if b"SDM.copy_data" not in data:
            return data
        request = json.loads(rest.rstrip(b"\n").rstrip(b"\0"))
        call = request[0] if isinstance(request, list) else request
        for role, vol_id in (("source", VOL), ("destination", OTHER_VOL)):
            end = call["params"][role]
            if "pad" in end:  # which the stub took for an endpoint; the verb skips the key
                end |= {"sd_id": SD, "img_id": IMG, "vol_id": vol_id}
            elif end.get("url") == TARGET:  # no device of tests
                end["url"] = str(self.target)
        body = json.dumps(request).encode()
        return re.sub(rb"(content-length:)\d+", rb"\g<1>%d" % len(body), head) + gap + body + b"\0"


def known(frame: Shape) -> Shape:
    """A frame without what is ours alone."""
    command, headers, body = frame
    if not isinstance(body, dict):
        return frame
    if "params" in body:
        return command, headers, {**body, "params": _job(body["params"])}
    if isinstance(body.get("result"), dict):
        return command, headers, {**body, "result": {k: _job(v) for k, v in body["result"].items()}}
    return frame


def _job(state: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in state.items() if k not in OURS} | {"description": "str"}


def stub(frame: Shape) -> Shape:
    """What was recorded, where only a stub could have said it."""
    command, headers, body = frame
    if isinstance(body, dict) and body.get("id") == "00000000-0000-4000-8000-00000000000f":
        return command, headers, {**NO_LEASE, "id": body["id"]}
    return frame


def is_step(frame: Frame) -> bool:
    """An event about a step of a job before its end: the recorded server told of the end alone."""
    body = json.loads(frame.body) if frame.command == "MESSAGE" else {}
    return "params" in body and body["params"]["status"] in ("pending", "running")


def heard(connection: Connection, count: int) -> list[Frame]:
    """So many frames, steps left out."""
    found: list[Frame] = []
    deadline = time.monotonic() + WAIT
    while len(found) < count:
        assert time.monotonic() < deadline, found
        frame = connection.frame()
        found += [] if is_step(frame) else [frame]
    return found


@pytest.mark.parametrize("tls", [False, True], ids=["unix", "TLS"])
@pytest.mark.parametrize("session", SESSIONS, ids=[one.name for one in SESSIONS])
def test_a_recorded_session_is_answered_by_the_agent_with_the_same_frames(
    agent: Served, sites: tuple[Site, Site], session: Transcript, tls: bool
) -> None:
    files = Certificate(*sites[0].files("engine"))
    plug = tls_socket("127.0.0.1", agent.port, files) if tls else unix_socket(agent.socket)
    with client(unix_socket(agent.socket), events=False) as operator, plug as connection:
        world = World(agent, operator)
        world.make()
        copies = 0
        for said, answered in session.turns():
            if b"Lease.status" in said:
                world.forget_lease()
            copies += said.count(b"SDM.copy_data")
            connection.plug.sendall(world.said(said))
            wanted = [known(stub(shape(one))) for one in frames(answered)]
            got = [known(seen(one)) for one in heard(connection, len(wanted))]
            # An event and an answer may come in any order.
            assert sorted(got, key=repr) == sorted(wanted, key=repr)
        assert [one for one in exchanged(connection, b"") if not is_step(one)] == []
        if copies:
            job = operator.call("Job.info", job_id=JOB)
            assert job["status"] == "done"
            copied = (
                job["destination"].get("url")
                or operator.call(
                    "Volume.getInfo", storagedomainID=SD, imageID=IMG, volumeID=OTHER_VOL
                )["path"]
            )
            assert Path(copied).read_bytes() == pattern(SIZE, seed=3)
