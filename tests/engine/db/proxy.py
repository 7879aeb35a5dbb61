"""Between an engine and PostgreSQL: loses a connection at the moment of a commit."""

import os
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import trio

PORT = 5432
NAME = f".s.PGSQL.{PORT}"
Loss = Literal["before", "after", "silence"]


@dataclass
class Proxy:
    """loses: of the next commits, one after the other: before it came to the server; after it was
    done, but not its answer; or its answer, without an end. down: nobody gets through."""

    server: str
    folder: str
    loses: list[Loss] = field(default_factory=list)
    lost: list[Loss] = field(default_factory=list)
    down: bool = False
    scopes: list[trio.CancelScope] = field(default_factory=list)

    def url(self, of_server: str) -> str:
        return of_server.replace(self.server, self.folder)

    def cut(self) -> None:
        """All connections."""
        for scope in self.scopes:
            scope.cancel()

    async def serve(self, client: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with client:
                if self.down:
                    return
                async with await trio.open_unix_socket(f"{self.server}/{NAME}") as server:
                    await self._between(client, server)

    async def _between(self, client: trio.SocketStream, server: trio.SocketStream) -> None:
        async with trio.open_nursery() as nursery:
            self.scopes.append(nursery.cancel_scope)
            silent = trio.Event()

            async def back() -> None:
                async for data in server:
                    if silent.is_set():
                        if self.lost[-1] == "after":
                            nursery.cancel_scope.cancel()
                        continue
                    await client.send_all(data)
                nursery.cancel_scope.cancel()

            nursery.start_soon(back)
            async for data in client:
                if self.loses and b"COMMIT" in data:
                    loss = self.loses.pop(0)
                    self.lost.append(loss)
                    if loss == "before":
                        nursery.cancel_scope.cancel()
                        await trio.sleep_forever()
                    silent.set()
                await server.send_all(data)
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def proxied(server: Path) -> AsyncIterator[Proxy]:
    """server: the folder with its socket."""
    with tempfile.TemporaryDirectory(prefix="lh-px-", dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        proxy = Proxy(str(server), folder)
        listener = trio.socket.socket(socket.AF_UNIX)
        await listener.bind(f"{folder}/{NAME}")
        listener.listen()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, proxy.serve, [trio.SocketListener(listener)])
            yield proxy
            nursery.cancel_scope.cancel()
