"""The engine as it runs: `leasehold engine serve` in a process of its own, and a client of it.

Like tests/agent_service.py it gets the folder, the home and the environment of a Command, so that
its processes are found and ended. What it starts for the adapter `file` is among them.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.agent_service import READY_TIME, Manager
from tests.cli.run import ROOT
from tests.faults.command import Command, Running
from tests.tgt_server import free_port

ADMIN = "admin"
PASSWORD = "open sesame, 27 times"
DIE_AT = "LEASEHOLD_DIE_AT"
SHORT = (  # nobody waits for minutes in a test
    "hosts.grace=3",
    "hosts.pauses=0.2,0.5,1",
    "polling.pauses=0.2,0.5,1",
    "polling.held=3",
    "polling.nobody=30",
    "commands.pauses=0.2,0.5,1",
    "commands.tries=4",
)
LOOK = 0.05  # seconds
PATIENCE = 60.0


class Fault(Exception):
    """The engine refused. status: of HTTP. reason, detail: of its <fault>."""

    def __init__(self, status: int, reason: str, detail: str) -> None:
        super().__init__(f"{status} {reason}: {detail}")
        self.status, self.reason, self.detail = status, reason, detail


@dataclass
class Engine:
    """A running engine. database: the url of its database. token: of its administrator."""

    running: Running
    port: int
    database: str
    manager: Manager
    client: httpx.Client
    token: str = ""
    seen: list[str] = field(default_factory=list)

    @property
    def pid(self) -> int:
        return self.running.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self.running.err.read_text(errors="replace")

    # --- its life ---------------------------------------------------------------------------------

    def kill(self) -> None:
        """As a crash does."""
        self.running.process.kill()
        self.running.process.wait()

    def stop(self) -> int:
        """In good order, as systemd does; the exit code."""
        self.running.process.terminate()
        return self.running.process.wait(READY_TIME)

    def died(self, seconds: float = PATIENCE) -> None:
        """Wait until it has killed itself, where DIE_AT said."""
        assert self.running.process.wait(seconds) == -signal.SIGKILL, self.log

    # --- calls ------------------------------------------------------------------------------------

    def call(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        """One request of oVirt's API; its answer from JSON. path: from the root of that, or ours
        from /. Raises Fault; httpx.TransportError: it is gone."""
        where = path if path.startswith("/") else f"/ovirt-engine/api/{path}"
        answer = self.client.request(
            method,
            self.url + where,
            content=None if body is None else json.dumps(body),
            params={key: str(one) for key, one in params.items()},
            headers=self._headers,
        )
        if answer.is_error:
            raise _fault(answer)
        return answer.json() if answer.content else None

    def get(self, path: str, **params: Any) -> Any:
        return self.call("GET", path, **params)

    def post(self, path: str, body: Any = None, **params: Any) -> Any:
        return self.call("POST", path, body, **params)

    def delete(self, path: str, **params: Any) -> Any:
        return self.call("DELETE", path, **params)

    @property
    def _headers(self) -> dict[str, str]:
        own = {"Accept": "application/json", "Content-Type": "application/json"}
        return {**own, "Authorization": f"Bearer {self.token}"}

    def login(self, name: str = ADMIN, password: str = PASSWORD) -> None:
        form = {"grant_type": "password", "scope": "ovirt-app-api"}
        answer = self.client.post(
            self.url + "/ovirt-engine/sso/oauth/token",
            data={**form, "username": name, "password": password},
            headers={"Accept": "application/json"},
        )
        assert answer.status_code == 200, answer.text
        self.token = answer.json()["access_token"]

    # --- commands ---------------------------------------------------------------------------------

    def command(self, id: str) -> dict[str, Any]:
        """What it tells of a command: id, type, state, stage, error ..."""
        told: dict[str, Any] = self.get(f"/leasehold/api/v1/commands/{id}")
        return told

    def ended(self, id: str, seconds: float = PATIENCE) -> dict[str, Any]:
        """Wait until a command does not run any more; what is told of it."""
        deadline = time.monotonic() + seconds
        while (told := self.command(id))["state"] in ("running", "undoing"):
            assert time.monotonic() < deadline, (told, self.log[-4000:])
            time.sleep(LOOK)
        return told

    def succeeded(self, id: str, seconds: float = PATIENCE) -> dict[str, Any]:
        told = self.ended(id, seconds)
        assert told["state"] == "succeeded", (told, self.log[-4000:])
        return told


def _fault(answer: httpx.Response) -> Fault:
    try:
        told = answer.json()
    except ValueError:
        return Fault(answer.status_code, "", answer.text)
    told = told.get("fault", told)
    return Fault(answer.status_code, str(told.get("reason", "")), str(told.get("detail", told)))


def initialized(command: Command, database: str, *settings: str) -> None:
    """`leasehold engine init`: the database, its key and the first administrator."""
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("leasehold"), "engine", "init"),
            *("--user", ADMIN, "--password-stdin"),
            *_options(command, database, settings),
        ],
        input=PASSWORD + "\n",
        text=True,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
        env={**command.environment(), "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def engine(
    command: Command,
    database: str,
    *settings: str,
    port: int | None = None,
    environment: Mapping[str, str] | None = None,
    ready: bool = True,
) -> Iterator[Engine]:
    """The engine for the body, ready and logged in; killed at the end if it lives still.

    database: a url. settings: section.key=value. ready: False: somebody else waits for that.
    """
    where = port or free_port()
    folder = command.folder / f"notify-{where}"
    folder.mkdir(exist_ok=True)
    (folder / "notify").unlink(missing_ok=True)
    options = _options(command, database, (f"listen.plain=127.0.0.1:{where}", *settings))
    with Manager(folder) as manager, httpx.Client(timeout=PATIENCE) as client:
        told = {"NOTIFY_SOCKET": manager.address, **(environment or {})}
        with command.started("engine", "serve", *options, environment=told) as running:
            made = Engine(running, where, database, manager, client)
            if ready:
                until_ready(made)
                made.login()
            yield made


def until_ready(made: Engine, seconds: float = READY_TIME) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            made.manager.until("READY=1", 0.5)
        except TimeoutError:
            assert not made.running.over, made.log
            continue
        return
    raise AssertionError(f"it is not ready: {made.log}")


def _options(command: Command, database: str, settings: tuple[str, ...]) -> list[str]:
    own = [f"database.url={database}", f"folders.state={command.folder / 'engine'}"]
    return [word for one in (*own, *SHORT, *settings) for word in ("--set", one)]


def sqlite_url(folder: Path) -> str:
    return f"sqlite:///{os.fspath(folder)}/engine.sqlite"
