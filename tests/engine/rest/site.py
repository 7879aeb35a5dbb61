"""The real application over a real database, served on loopback by hypercorn on trio in a thread.

Commands are real ones up to their first transaction, which is what REST is about: their checks and
rows are those of the engine. What they do on hosts is left out; `Site.end` ends them.
"""

import contextlib
import logging
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx
import msgspec
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from sqlalchemy import Connection

from engine import passwords
from engine.adapter_programs import AdapterPrograms, Driver
from engine.capabilities import Capabilities
from engine.commands.run import Progress
from engine.commands.table import TYPES
from engine.db import accounts, commands, disks, domains
from engine.db.accounts import User
from engine.db.commands import Command, State
from engine.db.database import Database
from engine.db.secrets import Key
from engine.events import Bus
from engine.failed_logins import FailedLogins
from engine.host_states import LinkState
from engine.host_view import HostView
from engine.managed_storage import ManagedStorage
from engine.rest.api import Api
from engine.rest.app import application
from engine.rest.settings import RestSettings
from protocol.errors import NoSuchObject, WrongState

T = TypeVar("T")
PASSWORD = "correct horse"
# One for all users of all tests, cheap to check: scrypt itself has tests of its own.
KEPT = passwords.hashed(PASSWORD, cost=1 << 4)
ROLES = {"admin": "admin", "operator": "operator", "reader": "reader"}
GIB = 1 << 30
PATIENCE = 30.0


@dataclass
class Commands:
    """Begins commands as the engine does, and then leaves them alone."""

    database: Database
    calls: list[tuple[str, str]] = field(default_factory=list)
    progress_of: dict[str, Progress] = field(default_factory=dict)

    async def start(
        self, name: str, spec: msgspec.Struct, *, user: str, correlation: str = ""
    ) -> str:
        id, now = str(uuid4()), time.time()

        def work(c: Connection) -> None:
            commands.add(c, _row(id, name, spec, user, correlation=correlation, now=now))
            TYPES[name].begin(c, spec, id)

        await self.database.write(work)
        return id

    async def abort(self, id: str) -> None:
        await self._called("abort", id, ("running",))

    async def resolve(self, id: str) -> None:
        await self._called("resolve", id, ("unresolved",))

    async def clear(self, id: str, *, by_hand: bool = False) -> None:
        word = "clear by hand" if by_hand else "clear"
        await self._called(word, id, ("unresolved", "quarantined", "succeeded"))

    async def _called(self, what: str, id: str, states: tuple[str, ...]) -> None:
        row = await self.database.read(lambda c: commands.get(c, id))
        if row.state not in states:
            raise WrongState("command", id, row.state, " or ".join(states))
        self.calls.append((what, id))

    async def wait(self, id: str, timeout: float | None = None) -> Command:
        """It polls, as this one has nobody to be told by."""
        row = await self.database.read(lambda c: commands.get(c, id))
        with trio.move_on_after(PATIENCE if timeout is None else timeout):
            while row.state in ("running", "undoing"):
                await trio.sleep(0.01)
                row = await self.database.read(lambda c: commands.get(c, id))
        return row

    def progress(self, id: str) -> Progress | None:
        return self.progress_of.get(id)


@dataclass
class Fleet:
    """Hosts that are what the test says, and write down what they are asked."""

    views_of: dict[str, HostView] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)

    def views(self) -> list[HostView]:
        return list(self.views_of.values())

    def view(self, host: str) -> HostView:
        if host not in self.views_of:
            raise NoSuchObject("host", host)
        return self.views_of[host]

    async def add(self, host: str) -> None:
        told = Capabilities(uuid=f"hardware-{host}", version="1")
        self.views_of[host] = HostView(
            host, host, LinkState.UP, "", up=True, maintenance=False, capabilities=told
        )

    async def remove(self, host: str) -> None:
        self.views_of.pop(host)

    async def maintain(self, host: str, *, on: bool) -> None:
        state = LinkState.MAINTENANCE if on else LinkState.UP
        self.views_of[host] = replace(self.view(host), state=state, maintenance=on)

    async def call(self, host: str, verb: str, params: Mapping[str, Any] | None = None) -> Any:
        self.calls.append((host, verb))
        return True


@dataclass
class Site:
    """url: of the served application. ca: a file, with TLS."""

    url: str
    ca: str | None
    api: Api
    commands: Commands
    fleet: Fleet
    folder: Path
    _token: trio.lowlevel.TrioToken
    _tokens: dict[str, str] = field(default_factory=dict)

    def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run it where the server runs."""
        return trio.from_thread.run(work, trio_token=self._token)

    def write(self, work: Callable[[Connection], T]) -> T:
        return self.call(lambda: self.api.database.write(work))

    def read(self, work: Callable[[Connection], T]) -> T:
        return self.call(lambda: self.api.database.read(work))

    def token(self, user: str = "admin", password: str = PASSWORD) -> str:
        if user not in self._tokens:
            self._tokens[user] = self.login(user, password).json()["access_token"]
        return self._tokens[user]

    def login(self, user: str, password: str, **more: str) -> httpx.Response:
        form = {"grant_type": "password", "scope": "ovirt-app-api", **more}
        with self.client(None) as client:
            return client.post(
                "/ovirt-engine/sso/oauth/token",
                data={**form, "username": user, "password": password},
            )

    def client(self, user: str | None = "admin", form: str = "application/json") -> httpx.Client:
        headers = {"accept": form}
        if user is not None:
            headers["authorization"] = f"Bearer {self.token(user)}"
        verify: Any = True
        if self.ca is not None:
            verify = ssl.create_default_context(cafile=self.ca)
        return httpx.Client(
            base_url=self.url, headers=headers, timeout=PATIENCE, verify=verify, trust_env=False
        )

    # --- what there is ----------------------------------------------------------------------------

    def domain(self, name: str = "array") -> str:
        """A managed domain of the adapter `file`; its id."""
        with self.client() as client:
            found = client.get(
                "/ovirt-engine/api/storagedomains", params={"search": f"name={name}"}
            ).json()
            if found:
                return str(found["storage_domain"][0]["id"])
            answer = client.post("/ovirt-engine/api/storagedomains", json=managed(self, name))
            assert answer.status_code == 201, answer.text
            return str(answer.json()["id"])

    def disk(self, name: str | None = None, domain: str = "array", size: int = GIB) -> str:
        """A disk that is there and free; its id."""
        made = self.begin_disk(name, domain, size)
        self.end(made["id"])
        return str(made["id"])

    def begin_disk(
        self, name: str | None = None, domain: str = "array", size: int = GIB
    ) -> dict[str, Any]:
        body = {
            "name": name or f"disk-{uuid4().hex[:8]}",
            "provisioned_size": str(size),
            "storage_domains": {"storage_domain": [{"id": self.domain(domain)}]},
        }
        with self.client() as client:
            answer = client.post("/ovirt-engine/api/disks", json=body)
        assert answer.status_code == 202, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def end(self, disk: str) -> None:
        """The command that has locked a disk ends well."""

        def work(c: Connection) -> None:
            command = disks.get(c, disk).locked_by
            assert command is not None
            end_command(c, command, "succeeded")
            disks.unlock(c, disk, command)

        self.write(work)


def end_command(
    c: Connection, id: str, state: State, error: Mapping[str, Any] | None = None
) -> None:
    now = time.time()
    commands.move(c, id, state, expected="running", at=now, error=error, ended=True)


def managed(site: Site, name: str, **secret: str) -> dict[str, Any]:
    """The body that adds a managed domain."""
    options = {"adapter": "file", "path": str(site.folder / name)}
    return {
        "name": name,
        "type": "managed_block_storage",
        "storage": {
            "type": "managed_block_storage",
            "driver_options": properties(options),
            **({"driver_sensitive_options": properties(secret)} if secret else {}),
        },
    }


def properties(options: Mapping[str, str]) -> dict[str, Any]:
    return {"property": [{"name": name, "value": value} for name, value in options.items()]}


def _row(
    id: str, name: str, spec: msgspec.Struct, user: str, *, correlation: str, now: float
) -> Command:
    return Command(
        id=id,
        type=name,
        state="running",
        spec=msgspec.to_builtins(spec),
        user=user,
        correlation=correlation or None,
        created=now,
        changed=now,
    )


@asynccontextmanager
async def _made(folder: Path, config: RestSettings, url: str) -> AsyncIterator[tuple[Api, Any]]:
    programs = AdapterPrograms(managedblock=folder / "no", cinderlib=folder / "no")

    def trial(driver: Driver) -> ManagedStorage:
        return ManagedStorage(driver, programs)

    def driver(c: Connection, domain: str) -> Driver:
        return Driver(domains.get(c, domain).options, domains.secret(c, domain))

    async with Database.opened(url, key=Key.random()) as database:

        async def storage(domain: str) -> ManagedStorage:
            return trial(await database.read(lambda c: driver(c, domain)))

        def users(c: Connection) -> None:
            for name, role in ROLES.items():
                accounts.add_user(c, User(name, KEPT, role))

        await database.write(users)
        bus = Bus()
        failed_logins = FailedLogins(database, bus)
        api = Api(
            database=database,
            commands=Commands(database),
            fleet=Fleet(),
            events=bus,
            storage=storage,
            config=config,
            trial=trial,
            login_failed=failed_logins.note,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(failed_logins.run)
            yield api, application(api)
            nursery.cancel_scope.cancel()


@contextmanager
def site(
    folder: Path,
    config: RestSettings | None = None,
    *,
    url: str | None = None,
    certificate: tuple[str, str, str] | None = None,
) -> Iterator[Site]:
    """Served for the body. certificate: files of ca, certificate and key: it is TLS then."""
    folder.mkdir(parents=True, exist_ok=True)
    ready, over = threading.Event(), trio.Event()
    found: list[Any] = []

    async def main() -> None:
        token = trio.lowlevel.current_trio_token()
        async with AsyncExitStack() as stack:
            api, app = await stack.enter_async_context(
                _made(folder, config or RestSettings(), url or f"sqlite:///{folder}/engine.db")
            )
            nursery = await stack.enter_async_context(trio.open_nursery())
            binds = await nursery.start(_serve, app, _config(certificate), over.wait)
            found.extend((binds[0], api, token))
            ready.set()

    def run() -> None:
        try:
            trio.run(main)
        except BaseException as e:
            found.append(e)
            raise
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="engine")
    thread.start()
    try:
        ready.wait()
        if isinstance(found[-1], BaseException):
            raise found[-1]
        address, api, token = found
        ca = certificate[0] if certificate is not None else None
        yield Site(address, ca, api, api.commands, api.fleet, folder, token)
        assert len(found) == 3, found[-1]
    finally:
        if len(found) == 3:
            with contextlib.suppress(trio.RunFinishedError):
                found[2].run_sync_soon(over.set)
        thread.join()


async def _serve(app: Any, config: Config, over: Any, task_status: Any) -> None:
    await serve(app, config, shutdown_trigger=over, task_status=task_status)


def _config(certificate: tuple[str, str, str] | None) -> Config:
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.backlog = 2048
    config.graceful_timeout = 1
    config.errorlog = logging.getLogger("hypercorn")
    if certificate is not None:
        config.certfile, config.keyfile = certificate[1:]
    return config
