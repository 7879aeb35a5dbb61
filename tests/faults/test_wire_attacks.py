"""Attacks on the real agent, from outside, while a copy runs.

After each the agent answers, the clients that were there before are still served, its memory stays
under a stated bound, its descriptors come back, and the copy ends with the bytes of its source.
What the parts do with bad input alone is tested beside them: tests/host/wire, tests/properties.
"""

import json
import selectors
import socket
import ssl
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import VolumeGroupMissing
from tests.acceptance.wire_client import (
    WAIT,
    Certificate,
    Client,
    Closed,
    Connection,
    Frame,
    Refused,
    client,
    tls_socket,
    unix_socket,
)
from tests.faults.bystander import (
    BAD_PARAMETER,
    FULL,
    MIB,
    Bystander,
    agent,
    attacker,
    bystander,
    others,
    refusal,
)
from tests.host.authority import Site, sites
from tests.properties.inputs import edited, edits, flipped, full
from tests.served import Served, served, until

__all__ = ["agent", "attacker", "others", "sites"]

pytestmark = pytest.mark.tools("qemu-img", "openssl")

CONNECT = b"CONNECT\naccept-version:1.2\nheart-beat:0,0\n\n\0"
SUBSCRIBE = b"SUBSCRIBE\ndestination:R\nack:auto\nid:s1\n\n\0"
EVENTS = b"SUBSCRIBE\ndestination:jms.queue.events\nack:auto\nid:e\n\n\0"
TO = {"destination": "jms.topic.vdsm_requests", "reply-to": "R"}


FRAME_TIME = 30.0  # seconds, `frame` of docs/wire.md


def request(method: str, /, id: Any = 1, **params: Any) -> bytes:
    body = {"jsonrpc": "2.0", "method": method, "params": params, "id": id}
    return Frame("SEND", TO, json.dumps(body).encode()).encoded()


PING = request("Host.ping2")


@contextmanager
def many(agent: Served, count: int, *first: bytes) -> Iterator[list[Connection]]:
    with ExitStack() as stack:
        made = [stack.enter_context(unix_socket(agent.socket)) for _ in range(count)]
        for one in made:
            with suppress(BrokenPipeError, ConnectionResetError):  # refused already
                one.plug.sendall(b"".join(first))
        yield made


def told(connection: Connection, command: str, count: int = 1) -> list[Frame]:
    """The next frames, all of this kind."""
    found = [connection.frame() for _ in range(count)]
    assert {one.command for one in found} == {command}, found
    return found


# --- frames -------------------------------------------------------------------------------------

SESSION = b"".join(
    [
        CONNECT,
        SUBSCRIBE,
        PING,
        b"\n\r\n",
        Frame("SUBSCRIBE", {"id": "a:b", "destination": "jms.queue.events"}).encoded(),
        request("Host.getJobs", job_type="storage", job_ids=["x"]),
        request("SDM.copy_data", job_id=str(uuid.UUID(int=0)), source={}, destination={}),
        Frame("UNSUBSCRIBE", {"id": "s1", "receipt": "u"}).encoded(),
        b"DISCONNECT\nreceipt:77\n\n\0",
    ]
)
PIECES = [
    CONNECT,
    SUBSCRIBE,
    PING,
    b"SEND",
    b"\n",
    b"\n\n",
    b"\0",
    b":",
    b"content-length:3\n",
    b"{",
]
SPOKEN = {"CONNECTED", "MESSAGE", "ERROR", "RECEIPT"}

noise = st.lists(st.sampled_from(PIECES) | st.binary(max_size=30), max_size=10).map(b"".join)


def exchange(agent: Served, data: bytes) -> None:
    """Say it and listen to the end: whatever it was, only frames come back."""
    with unix_socket(agent.socket) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.plug.sendall(data)
            connection.plug.shutdown(socket.SHUT_WR)
        assert {frame.command for frame in connection.rest()} <= SPOKEN


def test_random_and_mutated_frames(agent: Served, others: Bystander) -> None:
    """100,000 of them in a full run, and at least each byte of a session once otherwise."""
    tried = 0

    def attack(data: bytes) -> None:
        nonlocal tried
        exchange(agent, data)
        tried += 1
        if tried % 1000 == 0:  # a long attack outlasts one copy
            others.check()
            others.copying()

    @settings(max_examples=80 if full() else 2)
    @given(st.integers(1, 255))
    def flip(by: int) -> None:
        for at in range(len(SESSION)):
            attack(flipped(SESSION, at, by))

    @settings(max_examples=25_000 if full() else 200)
    @given(edits(len(SESSION)), st.integers(0, len(SESSION)), noise)
    def edit(changes: list[tuple[int, bytes]], at: int, more: bytes) -> None:
        attack(edited(SESSION, changes))
        attack(SESSION[:at] + more)

    with others.unhurt():
        flip()
        edit()
    assert tried >= (100_000 if full() else len(SESSION))


def test_half_frames_of_more_than_all_clients_may_fill(agent: Served, others: Bystander) -> None:
    """Of too many the greediest lose their connections, the others may end their frames."""
    half = b"SEND\ndestination:R\ncontent-length:1000000\n\n" + bytes(900_000)
    with others.unhurt(FULL), many(agent, 700, CONNECT, SUBSCRIBE) as clients:
        for one in clients:
            with suppress(BrokenPipeError, ConnectionResetError):
                one.plug.sendall(half)
        answered = 0
        for one in clients:
            with suppress(BrokenPipeError, ConnectionResetError, Closed):
                one.plug.sendall(bytes(100_000) + b"\0" + PING)
                told(one, "CONNECTED")
                told(one, "MESSAGE", 2)  # its own, and that of the ping
                answered += 1
        assert answered > 100


@pytest.mark.full
def test_a_frame_that_comes_byte_by_byte_is_not_waited_for(
    agent: Served, others: Bystander
) -> None:
    began = time.monotonic()
    with others.unhurt(), many(agent, 100, CONNECT, b"SEND\ndestination:R\n\n") as clients:
        while clients and time.monotonic() < began + 2 * FRAME_TIME:
            for one in list(clients):
                try:
                    one.plug.sendall(b"x")
                except (BrokenPipeError, ConnectionResetError):
                    assert [frame.command for frame in one.rest()] == ["CONNECTED", "ERROR"]
                    clients.remove(one)
            time.sleep(0.5)
        assert not clients


@pytest.mark.parametrize(
    "data",
    [
        b"SEND\n" + b"a" * (17 << 10),
        b"SEND\n" + b"a:b\n" * 1000 + b"\n\0",
        b"SEND\ncontent-length:10000000000\n\n",
        b"SEND\ncontent-length:99999999999999999999\n\n",
        b"SEND\ncontent-length:-1\n\n\0",
        b"SEND\n\n" + bytes([1]) * (2 * MIB),
        b"\xff" * MIB,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    ],
    ids=["long", "many", "large", "larger", "negative", "endless", "noise", "HTTP", "TLS"],
)
def test_huge_headers_and_bodies_and_other_protocols(
    agent: Served, others: Bystander, data: bytes
) -> None:
    with others.unhurt(), many(agent, 20, CONNECT) as clients:
        for one in clients:
            with suppress(BrokenPipeError, ConnectionResetError):
                one.plug.sendall(data)
        for one in clients:
            assert [frame.command for frame in one.rest()] == ["CONNECTED", "ERROR"]


def test_a_stream_without_end_is_cut_off(agent: Served, others: Bystander) -> None:
    with others.unhurt(), unix_socket(agent.socket) as connection:
        deadline = time.monotonic() + WAIT
        with suppress(BrokenPipeError, ConnectionResetError):
            while time.monotonic() < deadline:
                connection.plug.send(b"a" * MIB)
        assert [frame.command for frame in connection.rest()] == ["ERROR"]
        assert time.monotonic() < deadline


def test_descriptors_that_are_sent_along_are_not_kept(agent: Served, others: Bystander) -> None:
    """Source: unix(7), SCM_RIGHTS."""
    with others.unhurt(), unix_socket(agent.socket) as connection:
        connection.plug.sendall(CONNECT + SUBSCRIBE)
        told(connection, "CONNECTED")
        with open("/dev/null", "rb") as null:
            for _ in range(50):
                socket.send_fds(connection.plug, [PING], [null.fileno()] * 200)
        told(connection, "MESSAGE", 50)
        assert agent.descriptors < 200


# --- many of everything -------------------------------------------------------------------------


def test_10000_subscriptions(agent: Served, others: Bystander) -> None:
    """100 are all that a connection may have; 100 connections with as many all get the events."""
    subscriptions = b"".join(
        Frame("SUBSCRIBE", {"id": str(n), "destination": "jms.queue.events"}).encoded()
        for n in range(100)
    )
    with others.unhurt():
        with unix_socket(agent.socket) as greedy:
            endless = (b"SUBSCRIBE\nid:%d\ndestination:R\n\n\0" % n for n in range(10_000))
            with suppress(BrokenPipeError, ConnectionResetError):
                greedy.plug.sendall(CONNECT + b"".join(endless))
            assert [frame.command for frame in greedy.rest()] == ["CONNECTED", "ERROR"]
        with many(agent, 100, CONNECT, subscriptions) as clients:
            for one in clients:
                told(one, "CONNECTED")
            with pytest.raises(Refused):  # it has no lease; three steps of no job
                others.watcher.call("SDM.copy_data")
            job_id = others.lease()
            others.watcher.call("SDM.copy_data", **others.wanted(job_id, destination__generation=5))
            for one in clients:
                frames = told(one, "MESSAGE", 100)
                while job_id.encode() not in frames[0].body:  # a copy of others has just ended
                    frames = told(one, "MESSAGE", 100)
                assert {frame.headers["subscription"] for frame in frames} == set(
                    map(str, range(100))
                )
        others.watcher.ended(job_id)


def test_slow_consumers_are_dropped(agent: Served, others: Bystander) -> None:
    """They ask and ask and read nothing."""
    ask = request("x" * 900_000)
    with others.unhurt(FULL), many(agent, 12, CONNECT, SUBSCRIBE) as clients:
        dropped = 0
        for one in clients:
            try:
                for _ in range(60):
                    one.plug.sendall(ask)
            except (BrokenPipeError, ConnectionResetError):
                dropped += 1
        assert dropped == len(clients)


def test_1000_connections(agent: Served, others: Bystander) -> None:
    with others.unhurt(), many(agent, 1000, CONNECT, SUBSCRIBE, PING) as clients:
        for one in clients:
            told(one, "CONNECTED")
            assert json.loads(told(one, "MESSAGE")[0].body)["result"] is True


def test_connections_that_come_and_go(agent: Served, others: Bystander) -> None:
    """Some of them in the middle of a word, some without one."""
    words = [b"", CONNECT, CONNECT[:9], CONNECT + SUBSCRIBE + PING * 20, PING[:-9]]
    with others.unhurt():
        for n in range(3000):
            with unix_socket(agent.socket) as one, suppress(BrokenPipeError, ConnectionResetError):
                one.plug.sendall(words[n % len(words)])


def test_connections_do_not_take_the_descriptors_of_jobs(tmp_path: Path) -> None:
    few = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))"
    with (
        served(tmp_path, before=few) as poor,
        bystander(poor) as others,
        others.unhurt(),
        many(poor, 500, CONNECT, SUBSCRIBE, PING) as clients,
    ):
        job_id = others.lease()
        others.watcher.call("SDM.copy_data", **others.wanted(job_id))
        assert others.watcher.ended(job_id)["status"] == "done"
        heard = [one.frame() for one in clients]
        commands = [frame.command for frame in heard]
        assert commands.count("CONNECTED") > 100
        refused = [frame for frame in heard if frame.command == "ERROR"]
        assert {frame.headers["message"] for frame in refused} == {"too many connections"}
        assert len(refused) + commands.count("CONNECTED") == len(clients)


# --- TLS ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["expired", "nobody", "host"])
def test_a_certificate_that_is_no_good(
    agent: Served, others: Bystander, sites: tuple[Site, Site], name: str
) -> None:
    with others.unhurt():
        for _ in range(20):
            with pytest.raises((ssl.SSLError, Closed, ConnectionError)):
                call_with(agent, Certificate(*sites[0].files(name)))


def call_with(agent: Served, files: Certificate) -> Any:
    with client(tls_socket("127.0.0.1", agent.port, files)) as made:
        return made.call("Host.ping2")


def test_a_certificate_without_a_role_hears_why(agent: Served, sites: tuple[Site, Site]) -> None:
    with pytest.raises(Closed, match="names no role"):
        call_with(agent, Certificate(*sites[0].files("nobody")))


def test_a_certificate_of_another_authority(
    agent: Served, others: Bystander, sites: tuple[Site, Site]
) -> None:
    ca, *_ = sites[0].files("engine")
    with others.unhurt():
        with pytest.raises((ssl.SSLError, Closed, ConnectionError)):
            call_with(agent, Certificate(ca, *sites[1].files("engine")[1:]))
        with pytest.raises(ssl.SSLError, match="verify failed"):  # nor do we trust the host then
            call_with(agent, Certificate(*sites[1].files("engine")))
        assert call_with(agent, Certificate(*sites[0].files("engine"))) is True


def test_no_certificate_or_no_tls(
    agent: Served, others: Bystander, sites: tuple[Site, Site]
) -> None:
    context = ssl.create_default_context(cafile=sites[0].files("engine")[0])
    with others.unhurt():
        for _ in range(20):
            plug = socket.create_connection(("127.0.0.1", agent.port), WAIT)
            with suppress(OSError), context.wrap_socket(plug, server_hostname="127.0.0.1") as tls:
                tls.sendall(CONNECT)
                assert tls.recv(4096) == b""
            plug = socket.create_connection(("127.0.0.1", agent.port), WAIT)
            with plug, suppress(OSError):
                plug.sendall(CONNECT * 100)
                assert b"CONNECTED" not in plug.recv(4096)


def test_who_says_nothing_at_the_door_keeps_nobody_out(
    agent: Served, others: Bystander, sites: tuple[Site, Site]
) -> None:
    with others.unhurt(), ExitStack() as stack:
        address = "127.0.0.1", agent.port
        for _ in range(600):
            stack.enter_context(socket.create_connection(address, WAIT))
        assert call_with(agent, Certificate(*sites[0].files("engine"))) is True
        # Long before the time for a handshake is over.
        until(lambda: agent.descriptors < 350, lambda: agent.descriptors, seconds=5)


def test_a_monitor_can_neither_change_nor_forge_anything(
    agent: Served, others: Bystander, sites: tuple[Site, Site]
) -> None:
    files = Certificate(*sites[0].files("monitor"))
    with (
        others.unhurt(),
        client(tls_socket("127.0.0.1", agent.port, files)) as monitor,
    ):
        [job_id, *_] = others.copies
        for verb, params in (
            ("Job.abort", {"job_id": job_id}),
            ("Lease.delete", {"lease": others.name(job_id), "force": True}),
            ("Host.drain", {}),
            ("SDM.copy_data", others.wanted(str(uuid.uuid4()))),
            ("StorageDomain.create", {}),
        ):
            with pytest.raises(Refused, match=r"4030.*monitor"):
                monitor.call(verb, **params)
        others.watcher.events.clear()
        forged = b'{"jsonrpc":"2.0","method":"|jobs|status|x","params":{"status":"failed"}}'
        monitor.connection.say(Frame("SEND", {"destination": "jms.queue.events"}, forged))
        assert monitor.connection.frame().body == forged  # it reaches nobody but itself
        others.watcher.call("Host.ping2")
        assert "|jobs|status|x" not in [event["method"] for event in others.watcher.events]


# --- requests -----------------------------------------------------------------------------------

DEEP = 100_000


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        (b"[" * DEEP + b"]" * DEEP, [-32700]),
        (b'{"a":' * DEEP + b"1" + b"}" * DEEP, [-32700]),
        (b"", [-32700]),
        (b"\xff\xfe", [-32700]),
        (b'{"jsonrpc":"2.0","method":"Host.ping2","id":1', [-32700]),
        (b'{"jsonrpc":"2.0","method":"Host.ping2","id":1}\0{}', [-32700]),
        (b'{"jsonrpc":"2.0","method":"Host.ping2","id":NaN}', [-32700]),
        (b'{"jsonrpc":"2.0","method":"Host.ping2","id":1e999}', [-32700]),
        (b'{"jsonrpc":"2.0","method":"Host.ping2","id":%s}' % (b"9" * 5000), [-32700]),
        (b'{"jsonrpc":"2.0","method":"Host.ping2","id":{"a":1}}', [-32600]),
        (b'{"jsonrpc":"2.0","method":5,"id":1}', [-32600]),
        (b'{"jsonrpc":"2.0","method":"Host.ping2","params":[1],"id":1}', [-32602]),
        (b'{"jsonrpc":"2.0","method":"Host.ping2","params":7,"id":1}', [-32600]),
        (b"[" + b"1," * 200 + b"1]", [-32600]),
        (b'{"jsonrpc":"2.0","method":"Host.ping2","method":"no.Verb","id":1}', [-32601]),
        (b'{"jsonrpc":"2.0","method":"no.Verb","method":"Host.ping2","id":1}', [0]),
        (b'{"jsonrpc":"2.0","method":"Host.__init__","id":1}', [-32601]),
        (b'{"jsonrpc":"2.0","method":"../Host.ping2","id":1}', [-32601]),
        (b'{"jsonrpc":"2.0","method":"host.ping2","id":1}', [-32601]),
        (b'{"jsonrpc":"2.0","method":"Host.ping2\\u0000","id":1}', [-32601]),
        (b'{"jsonrpc":"2.0","method":"\\ud800","id":1}', [-32700]),
        (b'{"jsonrpc":"2.0","method":"Host.ping2","id":"\\u0000\\u001b"}', [0]),
    ],
)
def test_json_that_is_none_or_no_request(
    attacker: Client, others: Bystander, body: bytes, codes: list[int]
) -> None:
    with others.unhurt():
        for _ in range(20):
            attacker.send(body)
        for _ in range(20):
            answer = attacker.answer()
            assert answer.get("error", {"code": 0})["code"] in codes, answer


DOCS = Path(__file__).parents[2] / "docs" / "verbs.md"
LARGE = 1 << 63
WRONG: list[Any] = [
    *([], {}, "x", "", "\0\x1b[31m", "x" * 100_000, -1, LARGE, -1e308, True, [[[[]]]]),
    *({"a": {"b": [1]}}, "../../etc/passwd", [None] * 1000, "00000000-0000-0000"),
]


def parameters() -> Iterable[tuple[str, str, set[int]]]:
    """Of every verb every parameter, as the reference has them, and the codes of a wrong value."""
    for part in DOCS.read_text().split("\n## ")[1:]:
        verb = part.partition("\n")[0]
        table = part.partition("\n|---|---|---|\n")[2].partition("\n\n")[0]
        rows = [row.split("|") for row in table.splitlines()]
        needed = any(not default.strip() for *_, default, _ in rows)
        for _, name, *_ in rows:
            # Without any that is needed some value may be a right one, and be understood.
            understood = set() if needed else {0, VolumeGroupMissing.code}
            yield verb, name.strip(" `"), {BAD_PARAMETER} | understood


def test_wrong_types_in_every_parameter_of_every_verb(attacker: Client, others: Bystander) -> None:
    tried = list(parameters())
    assert len(tried) > 50
    with others.unhurt():
        for verb, name, codes in tried:
            for value in WRONG:
                if (verb, value) != ("Host.drain", LARGE):  # as many seconds as it takes
                    code = refusal(attacker, verb, **{name: value})
                    assert code in codes, (verb, name, value)


def test_parameters_that_cost_much_memory_while_the_call_waits(
    agent: Served, others: Bystander, attacker: Client
) -> None:
    """A body of 1 MiB is many times as large when it is read."""
    junk = json.dumps({"timeout": 4, "junk": [[]] * 250_000}).encode()
    body = b'{"jsonrpc":"2.0","method":"Host.drain","params":%s,"id":1}' % junk
    with others.unhurt():
        for _ in range(40):
            attacker.send(body)
        for _ in range(40):
            answer = attacker.answer()
            assert answer.get("result") or answer["error"]["data"]["kind"] == "NotDrained", answer
        attacker.call("Host.resume")


# --- jobs ---------------------------------------------------------------------------------------


def test_one_job_id_from_many_clients_is_one_job(agent: Served, others: Bystander) -> None:
    job_id = others.lease()
    spellings = [job_id, job_id.upper(), job_id.replace("-", "")]
    with others.unhurt(), many(agent, 30, CONNECT, SUBSCRIBE) as clients:
        wanted = others.wanted(job_id)
        for n, one in enumerate(clients):
            one.plug.sendall(request("SDM.copy_data", **{**wanted, "job_id": spellings[n % 3]}))
        answers = []
        for one in clients:
            told(one, "CONNECTED")
            answers.append(json.loads(told(one, "MESSAGE")[0].body))
        codes = sorted(answer.get("error", {"code": 0})["code"] for answer in answers)
        assert codes == [0] + [69] * 29
        assert others.watcher.ended(job_id)["status"] == "done"


# --- while all of that --------------------------------------------------------------------------


def test_a_crowd_of_attackers_at_once(agent: Served, others: Bystander) -> None:
    words = [b"\xff" * 5000, b"SEND\n" + b"a" * 5000, CONNECT + SUBSCRIBE + PING * 50, SESSION]
    with others.unhurt(), many(agent, 200) as clients, selectors.DefaultSelector() as ready:
        for n, one in enumerate(clients):
            one.plug.setblocking(False)
            with suppress(OSError):
                one.plug.send(words[n % len(words)])
            ready.register(one.plug, selectors.EVENT_READ)
        until(lambda: not ready.select(0.1) or read(ready))


def read(ready: selectors.BaseSelector) -> bool:
    """Read what there is; whether there is nothing more."""
    for key, _ in ready.select(0):
        with suppress(OSError):
            assert isinstance(key.fileobj, socket.socket)
            if key.fileobj.recv(1 << 16):
                continue
        ready.unregister(key.fileobj)
    return not ready.get_map()
