"""The agent of a host, as the commands that talk to one reach it."""

import uuid
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.command import Body, made_of

if TYPE_CHECKING:
    from protocol.address import Address
    from protocol.client import Client

HERE = "unix:/run/leasehold/agent.socket"
FORMS = "unix:PATH, tls://HOST:PORT or, of this host, tcp://127.0.0.1:PORT"

Ca = Annotated[
    str,
    typer.Option(
        metavar="FILE", envvar="LEASEHOLD_CA", help="For tls: who signs certificates of hosts."
    ),
]
Certificate = Annotated[
    str,
    typer.Option(metavar="FILE", envvar="LEASEHOLD_CERTIFICATE", help="For tls: ours."),
]
Key = Annotated[
    str, typer.Option(metavar="FILE", envvar="LEASEHOLD_KEY", help="For tls: its private key.")
]
Timeout = Annotated[
    float,
    typer.Option(
        min=0.1,
        max=3600,
        metavar="S",
        help="Seconds for an answer of the host, and for one that is gone to be back.",
    ),
]
TIMEOUT = 30.0

# The parameters that `connecting` adds to a command, with their defaults.
OPTIONS: dict[str, tuple[Any, Any]] = {
    "host": (
        Annotated[
            str,
            typer.Option(metavar="URL", envvar="LEASEHOLD_HOST", help=f"The agent: {FORMS}."),
        ],
        HERE,
    ),
    "ca": (Ca, ""),
    "certificate": (Certificate, ""),
    "key": (Key, ""),
    "timeout": (Timeout, TIMEOUT),
}


@dataclass(frozen=True)
class Remote:
    """One agent. timeout: seconds for a connection, and for an answer. flow_id: for its log."""

    address: "Address"
    timeout: float = TIMEOUT
    flow_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def name(self) -> str:
        return str(self.address)

    @property
    def option(self) -> str:
        """What a command needs to talk to it, too: empty, or with a blank before it."""
        return "" if self.name == HERE else f" --host {self.name}"

    def connected(self, *, events: bool = False) -> "AbstractAsyncContextManager[Client]":
        """A connection for the body. Raises CannotConnect, BadParameter (1000)."""
        from protocol.client import connected

        return connected(self.address, timeout=self.timeout, events=events)

    async def call(self, client: "Client", method: str, params: dict[str, Any]) -> Any:
        """The result of a verb. Raises as protocol.client.Client.call."""
        return await client.call(method, params, timeout=self.timeout, flow_id=self.flow_id)

    async def once(self, method: str, params: dict[str, Any]) -> Any:
        """The result of a verb, by a connection of its own."""
        async with self.connected() as client:
            return await self.call(client, method, params)


def remote(host: str, ca: str, certificate: str, key: str, timeout: float) -> Remote:
    """Raises BadParameter (1000)."""
    from protocol.address import parse
    from protocol.errors import BadParameter

    try:
        return Remote(parse(host, ca=ca, certificate=certificate, key=key), timeout)
    except BadParameter as e:
        raise BadParameter("--host", e.reason) from None


def connecting(body: Callable[..., Any]) -> Body:
    """The function of a Remote, after its Output, as one that has the OPTIONS instead."""
    return made_of(OPTIONS, remote)(body)
