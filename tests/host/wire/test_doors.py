"""Who comes in by which door, in which role."""

import os
import socket
import stat
import subprocess
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import trio

from host.wire.call import Call, Peer
from host.wire.credentials import Credentials, peer
from host.wire.doors import loopback_doors, tls_doors, unix_door
from host.wire.limits import DEFAULT
from host.wire.tls import Certificates, NotAdmitted, Secrets
from host.wire.tls import peer as certified
from processes.tool import PYTHON
from protocol.client import connected
from protocol.errors import BadParameter, CannotConnect
from tests.host.authority import Site, sites
from tests.host.wire.serving import WAIT, loopback, ping, raw, serving

__all__ = ["sites"]

openssl = pytest.mark.tools("openssl")


async def who(call: Call) -> Any:
    return [call.peer.role, call.peer.name]


def came(uid: int, *groups: int) -> Credentials:
    return Credentials(1, uid, frozenset(groups))


def test_root_and_the_own_user_do_all_and_members_of_the_group_look() -> None:
    for one in (came(0), came(7), came(7, 50), came(0, 50)):
        assert peer(one, owner=7, monitors={50}) == Peer("engine", f"uid:{one.uid}")
    assert peer(came(8, 1, 50), owner=7, monitors={50}) == Peer("monitor", "uid:8")
    for groups in ((), (1, 2), (0,)):
        with pytest.raises(NotAdmitted):
            peer(came(8, *groups), owner=7, monitors={50})


def subject(*pairs: tuple[str, str]) -> dict[str, Any]:
    return {"subject": tuple(((key, value),) for key, value in pairs)}


def test_the_unit_of_a_certificate_is_its_role_and_a_name_helps_one_without() -> None:
    name, unit = ("commonName", "x"), "organizationalUnitName"
    assert certified(subject(name, (unit, "engine")), {}) == Peer("engine", "x")
    assert certified(subject(name, (unit, "monitor")), {"x": "engine"}) == Peer("monitor", "x")
    assert certified(subject(name), {"x": "engine"}) == Peer("engine", "x")
    assert certified(subject(name, (unit, "a"), (unit, "engine")), {}) == Peer("engine", "x")
    for bad in (
        subject(),
        subject(name),
        subject(name, (unit, "host")),
        subject(name, (unit, "Engine")),
        subject(name, (unit, "engine"), (unit, "monitor")),
        subject(name, ("commonName", "y"), (unit, "z")),
    ):
        with pytest.raises(NotAdmitted):
            certified(bad, {"y": "engine"})


async def test_the_own_user_comes_in_by_the_socket(tmp_path: Path) -> None:
    async with serving(who) as (_, address), connected(address) as host:
        assert await host.call("x") == ["engine", f"uid:{os.geteuid()}"]


STRANGER = """
import os, socket, sys
path, groups = sys.argv[1], [int(g) for g in sys.argv[2:]]
os.setgroups(groups)
os.setgid(65534)
os.setuid(65534)
one = socket.socket(socket.AF_UNIX)
try:
    one.connect(path)
except PermissionError:
    sys.exit("denied")
body = '{"jsonrpc":"2.0","method":"x","id":1}'
try:
    one.sendall(b"SUBSCRIBE\\nid:1\\ndestination:R\\n\\n\\0")
    one.sendall(f"SEND\\ndestination:jms.topic.vdsm_requests\\nreply-to:R\\n\\n{body}\\0".encode())
except BrokenPipeError:
    pass  # refused and closed before we had spoken: what it said is still there to be read
print(one.recv(4096).decode())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it becomes another user")
@pytest.mark.parametrize(
    ("mode", "groups", "expected"),
    [
        (None, ["0"], "uid:65534 is not"),  # the group that owns the socket, but none may look
        (0o660, [], "denied"),
        (0o660, ["0"], "4030"),
        (0o666, ["12345"], "is not allowed"),
    ],
)
async def test_another_user_may_look_when_in_the_group(
    mode: int | None, groups: list[str], expected: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        monitors = None if mode is None else "root"
        door = await unix_door(f"{folder}/socket", monitors=monitors)
        os.chmod(door.name, mode or 0o666)
        async with serving(who, doors=[door]):
            argv = [PYTHON, "-I", "-S", "-c", STRANGER, door.name, *groups]
            with trio.fail_after(WAIT):
                done = await trio.run_process(
                    argv, capture_stdout=True, stderr=subprocess.STDOUT, check=False
                )
    if expected.startswith("uid"):
        expected = "user 65534 is not allowed"
    assert expected in done.stdout.decode()


async def test_the_socket_is_for_owner_or_group_and_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    for monitors, mode in ((None, 0o600), ("root", 0o660)):
        if monitors and os.geteuid() != 0:
            continue
        door = await unix_door(str(path), monitors=monitors)
        assert stat.S_IMODE(path.stat().st_mode) == mode
        async with serving(doors=[door]):
            pass
        assert not path.exists()


async def test_a_socket_that_a_dead_agent_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    door = await unix_door(str(path))
    async with serving(doors=[door]) as (_, address), connected(address):
        pass


async def test_the_socket_of_a_living_agent_and_other_files_are_left_alone(tmp_path: Path) -> None:
    async with serving() as (_, address), connected(address) as host:
        with pytest.raises(BadParameter, match="another agent"):
            await unix_door(str(address).removeprefix("unix:"))
        assert await host.call("Host.ping2") is True
    file = tmp_path / "file"
    file.write_text("precious")
    with pytest.raises(BadParameter, match="no socket"):
        await unix_door(str(file))
    assert file.read_text() == "precious"


async def test_the_socket_of_a_successor_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    first = await unix_door(str(path))
    path.unlink()
    second = await unix_door(str(path))
    first.close()
    assert path.exists()
    second.close()
    assert not path.exists()


@pytest.mark.parametrize("path", ["/nowhere/socket", "/tmp/" + "x" * 200])
async def test_a_socket_that_cannot_be_made_is_told(path: str) -> None:
    with pytest.raises(BadParameter, match="socket"):
        await unix_door(path)


async def test_an_unknown_group_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="no such group"):
        await unix_door(str(tmp_path / "s"), monitors="no-such-group")


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "::", "example.com", ""])
async def test_plain_tcp_is_for_loopback_alone(host: str) -> None:
    with pytest.raises(BadParameter, match="loopback"):
        await loopback_doors(host, 0)


async def test_plain_tcp_lets_everybody_look_and_no_more() -> None:
    async with serving(ping, doors=await loopback()) as (_, address), connected(address) as host:
        assert await host.call("Host.ping2") is True
        with pytest.raises(Exception, match="monitor"):
            await host.call("Job.abort")


@asynccontextmanager
async def tls(site: Site, limits: Any = DEFAULT) -> AsyncGenerator[int]:
    """A server of the site for the body; its port."""
    doors = await tls_doors("127.0.0.1", 0, Secrets(site.server()))
    async with serving(who, doors=doors, limits=limits):
        yield doors[0].listener.socket.getsockname()[1]


@openssl
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("engine", ["engine", "engine"]),
        ("named", ["engine", "engine.example.com"]),
    ],
)
async def test_an_engine_comes_in_by_its_certificate(
    sites: tuple[Site, Site], name: str, expected: list[str]
) -> None:
    site, _ = sites
    async with tls(site) as port, connected(site.client(port, name)) as host:
        assert await host.call("x") == expected


@openssl
async def test_a_monitor_comes_in_by_its_certificate(sites: tuple[Site, Site]) -> None:
    site, _ = sites
    async with tls(site) as port, connected(site.client(port, "monitor")) as host:
        assert await host.call("Host.ping2") == ["monitor", "monitor"]
        with pytest.raises(Exception, match="monitor"):
            await host.call("x")


@openssl
@pytest.mark.parametrize("name", ["expired", "nobody", "host"])
async def test_a_certificate_that_is_no_good_is_refused(
    sites: tuple[Site, Site], name: str
) -> None:
    site, _ = sites
    async with tls(site) as port, connected(site.client(port, "engine")) as other:
        with pytest.raises(CannotConnect) as caught:
            async with connected(site.client(port, name)):
                pass
        assert ("has expired on" in caught.value.reason) == (name == "expired")
        assert await other.call("x")


@openssl
async def test_who_trusts_another_authority_is_refused(sites: tuple[Site, Site]) -> None:
    site, other = sites
    ca, _, _ = site.files("engine")
    async with tls(site) as port:
        with pytest.raises(CannotConnect):  # we are not whom it trusts
            async with connected(other.client(port, "engine")):
                pass
        with pytest.raises(CannotConnect):  # it is not whom we trust
            async with connected(replace(other.client(port, "engine"), ca=ca)):
                pass


@openssl
async def test_a_host_of_another_name_is_refused_by_the_client(sites: tuple[Site, Site]) -> None:
    site, _ = sites
    async with tls(site) as port:
        with pytest.raises(CannotConnect):
            async with connected(site.client(port, "engine", host="localhost")):
                pass


@openssl
async def test_without_a_certificate_or_without_tls_nobody_gets_an_answer(
    sites: tuple[Site, Site],
) -> None:
    import ssl  # noqa: PLC0415

    site, _ = sites
    context = ssl.create_default_context(cafile=site.files("engine")[0])
    async with tls(site) as port:
        stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", port, ssl_context=context)
        with suppress(trio.BrokenResourceError), trio.fail_after(WAIT):
            await stream.send_all(b"CONNECT\naccept-version:1.2\n\n\0")
            assert await stream.receive_some() == b""
        await trio.aclose_forcefully(stream)
        plain = await trio.open_tcp_stream("127.0.0.1", port)
        async with plain:
            await plain.send_all(b"CONNECT\naccept-version:1.2\n\n\0")
            with trio.fail_after(WAIT):
                assert b"CONNECTED" not in await plain.receive_some()


@openssl
async def test_who_does_not_say_who_it_is_makes_room_for_others(
    sites: tuple[Site, Site],
) -> None:
    site, _ = sites
    limits = replace(DEFAULT, entering=3, handshake=1000.0)
    async with tls(site, limits) as port:
        silent = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(10)]
        async with connected(site.client(port, "engine")) as host:
            assert await host.call("x")
            with trio.fail_after(WAIT):
                assert await silent[0].receive_some() == b""
        for stream in silent:
            await stream.aclose()


@openssl
async def test_a_handshake_takes_no_longer_than_the_limit(sites: tuple[Site, Site]) -> None:
    site, _ = sites
    async with tls(site, replace(DEFAULT, handshake=0.2)) as port:
        silent = await trio.open_tcp_stream("127.0.0.1", port)
        async with silent:
            with trio.fail_after(WAIT):
                assert await silent.receive_some() == b""


@openssl
@pytest.mark.parametrize("broken", ["ca", "certificate", "key"])
async def test_files_that_are_no_certificates_are_told(
    sites: tuple[Site, Site], broken: str, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("nonsense")
    for path in (str(bad), str(tmp_path / "missing")):
        files = asdict(sites[0].server()) | {broken: path}
        with pytest.raises(BadParameter, match=f"certificates: .*{path}"):
            await tls_doors("127.0.0.1", 0, Secrets(Certificates(**files)))


async def test_a_port_in_use_is_told() -> None:
    (door,) = await loopback()
    port = door.listener.socket.getsockname()[1]
    with pytest.raises(BadParameter, match="port"):
        await loopback_doors("127.0.0.1", port)
    door.close()


async def test_a_peer_that_is_gone_without_a_word_is_looked_for() -> None:
    async with serving(doors=await loopback()) as (server, address), raw(address) as client:
        await client.say(b"\n")
        with trio.fail_after(WAIT):
            while not server.sessions:  # noqa: ASYNC110 - of another task, which tells nobody
                await trio.sleep(0.005)
        (session,) = server.sessions
        stream = session._stream
        assert isinstance(stream, trio.SocketStream)
        assert stream.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
