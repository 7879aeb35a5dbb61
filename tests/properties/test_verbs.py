"""Verbs: no parameters of a call do more harm than an error.

Oracle: a result that is JSON and not null, or an error of ours; code 100 only for what the system
says (a name that is too long, say), never for a mistake of our own.
"""

import json
import logging
from collections.abc import Iterator
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
import trio
from hypothesis import given

from endpoints.domain import create_domain
from host.agent import Agent
from host.config import Config, Endpoints, Folders, Managed, Storage
from host.dispatch import Dispatcher
from host.domains import Domains
from host.journal import Journal
from host.managed import ManagedVolumes
from host.managed_connector import Connector
from host.spawning import Spawner
from host.this_host import ThisHost, urls_in_use
from host.updates import updates
from host.verbs.examples import EXAMPLES, SD
from host.verbs.table import VERBS
from host.wire.call import Call, Peer
from jobs.queue import Queue
from protocol.errors import Error
from protocol.reported import Reported
from tests.properties.inputs import JSON, tries

CALLS = 2 * len(VERBS)
PEER = Peer("engine", "test")
# Of this host as member of a lockspace: it would ask a daemon, and joining takes seconds.
NOT_TRIED = {"host_id"}
SYSTEM = {"OSError", "FileNotFoundError", "PermissionError", "NotADirectoryError"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """With a storage domain that the verbs of the examples know."""
    made = tmp_path_factory.mktemp("verbs")
    trio.run(lambda: create_domain(str(made), sd_id=SD, leases=2))
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield made
    structlog.reset_defaults()


def config(folder: Path) -> Config:
    return Config(
        folders=Folders(state=str(folder)),
        endpoints=Endpoints(directories=("/srv/disks",)),
        storage=Storage(mounts=(str(folder),), directories=(str(folder),)),
        managed=Managed(run=str(folder / "run")),
    )


class Untold(Connector):
    """Asks no helper program, which would be started hundreds of times."""

    def __init__(self, real: Connector) -> None:
        """Nothing of the real one is needed."""

    async def info(self) -> dict[str, Any]:
        return {}

    async def drivers(self) -> list[str]:
        return []


async def call_all(folder: Path, calls: list[tuple[str, Any]]) -> None:
    """On a host whose queue does not run."""
    chosen = config(folder)
    journal = Journal(chosen.journal)
    agent = Agent(journal, Queue(), Spawner(), -1)
    domains = Domains(folder, {SD: str(folder / SD)})
    async with updates(agent.registry) as small:
        managed = await ManagedVolumes.opened(chosen, SD, partial(urls_in_use, agent, journal))
        managed.connector = Untold(managed.connector)
        host = ThisHost(agent, journal, small, domains, managed, chosen, SD)
        for method, params in calls:
            await call_one(Dispatcher(host), method, params)


async def call_one(dispatch: Dispatcher, method: str, params: Any) -> None:
    try:
        result = await dispatch(Call(method, copy(params), "flow", PEER))
    except Error as e:
        told = e.to_rpc()
        if isinstance(e, Reported):
            assert told["kind"] in SYSTEM, (method, params, told)
        json.dumps(told)
        return
    assert result is not None
    json.dumps(result, allow_nan=False)


@tries("verb", each=CALLS)
@given(JSON, JSON)
def test_no_json_as_parameters_crashes_a_verb(folder: Path, data: Any, more: Any) -> None:
    calls = [(method, one) for method in VERBS for one in (data, more)]
    trio.run(call_all, folder, calls)


@tries("verb", each=CALLS)
@given(JSON, JSON)
def test_no_json_as_one_parameter_crashes_a_verb(folder: Path, value: Any, more: Any) -> None:
    calls = [
        (method, {**EXAMPLES[method].params, key: one})
        for method, verb in VERBS.items()
        for one in (value, more)
        for key in [_key(verb.params, one)]
        if key not in NOT_TRIED
    ]
    trio.run(call_all, folder, calls)


def _key(kind: type[msgspec.Struct], value: Any) -> str:
    """One of the parameters, another one for another value."""
    names = [field.name for field in msgspec.structs.fields(kind)] or ["none"]
    return names[len(repr(value)) % len(names)]
