"""The reference of the verbs is that of the code, and its examples are what happens."""

import json
from pathlib import Path
from typing import Any

import pytest

from host.config import Config, Endpoints, Folders, Jobs, LocalDisk, Managed, Storage
from host.verbs import reference
from host.verbs.examples import (
    DISKS,
    EXAMPLES,
    HOST,
    JOB,
    LOCAL_JOB,
    MOUNT,
    OTHER_JOB,
    TASK,
)
from host.verbs.table import VERBS
from host.wire.call import READING
from protocol.errors import BadParameter
from protocol.settings import Seconds
from tests.host.verbs.a_host import MIB, AHost, a_host
from tests.local_disks import StandIn
from tests.servers import Server, qemu_nbd, raw_image

PAGE = Path(__file__).parents[3] / "docs" / "verbs.md"
OTHER = {"lease_id": OTHER_JOB}


def test_the_page_is_made_from_the_code() -> None:
    assert PAGE.read_text() == reference.text(), "python -m host.verbs.reference > docs/verbs.md"


def test_every_verb_has_an_example() -> None:
    assert EXAMPLES.keys() == VERBS.keys()


def test_the_server_lets_monitors_call_what_reads() -> None:
    reading = {name for name, verb in VERBS.items() if verb.reads}
    later = {"Host.getDeviceList"}
    assert set(READING) - later == reading


def test_every_verb_tells_what_it_does_and_no_error_twice() -> None:
    for verb in VERBS.values():
        assert verb.about, verb.name
        assert len(set(verb.errors)) == len(verb.errors), verb.name
        assert BadParameter not in verb.errors


def shape(value: Any) -> Any:
    """What does not differ from run to run: keys and types."""
    if isinstance(value, dict):
        return {key: shape(one) for key, one in value.items()}
    if isinstance(value, list):
        return [shape(one) for one in value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return "a number"


class Session:
    """The examples with the names of this run, and the results with those of the page."""

    def __init__(self, host: AHost, server: Server) -> None:
        self.host = host
        self.names = {
            f"{DISKS}/volume.socket": str(server.socket),
            DISKS: str(host.disks),
            MOUNT: str(host.mount),
            "/dev/ovirt-local": f"{host.folder}/dev/ovirt-local",
            HOST: host.host.hardware_id,
        }

    def _renamed(self, value: Any, names: dict[str, str]) -> Any:
        text = json.dumps(value)
        for old, new in names.items():
            text = text.replace(old, new)
        return json.loads(text)

    async def call(self, method: str, params: Any = None) -> Any:
        asked = self._renamed(EXAMPLES[method].params if params is None else params, self.names)
        result = await self.host.call(method, **asked)
        if VERBS[method].task:
            self.names[TASK] = result
        if method == "LocalDisk.prepare":
            self.names[LOCAL_JOB] = result["job_id"]
        return self._renamed(result, {new: old for old, new in self.names.items()})

    async def before(self, method: str) -> None:
        """What an example needs, beside those that come before it."""
        if method == "Job.abort":
            for needed in ("Lease.create", "SDM.copy_data"):
                params = self._renamed(EXAMPLES[needed].params, {JOB: OTHER_JOB})
                await self.call(needed, params)

    async def after(self, method: str) -> None:
        if method in ("SDM.copy_data", "SDM.update_volume", "LocalDisk.prepare"):
            job_id = EXAMPLES[method].params.get("job_id") or self.names[LOCAL_JOB]
            info = await self.host.ended(job_id)
            assert info["status"] == "done", info
            if method == "SDM.update_volume":
                await self.host.call("Job.delete", job_id=OTHER_JOB)


def local_disks(folder: Path) -> LocalDisk:
    """Of a volume group that stands in for one of LVM."""
    made = StandIn.made(folder)
    return LocalDisk(helper=made.helper, dev=str(folder / "dev"), keep=Seconds(0))


@pytest.mark.tools("qemu-img", "qemu-nbd")
async def test_the_examples_are_what_happens(tmp_path: Path) -> None:
    config = Config(
        folders=Folders(state=str(tmp_path / "state")),
        jobs=Jobs(concurrency=2),
        endpoints=Endpoints(directories=(str(tmp_path / "disks"),), devices=("/dev/mapper",)),
        storage=Storage(directories=(str(tmp_path / "mnt"),)),
        managed=Managed(run=str(tmp_path / "run")),
        localdisk=local_disks(tmp_path),
    )
    volume = raw_image(tmp_path / "volume", MIB)
    with qemu_nbd(volume, tmp_path) as server:
        async with a_host(tmp_path, config) as host:
            await _session(host, server)


async def _session(host: AHost, server: Server) -> None:
    host.mount.mkdir()
    (host.disks / "source.raw").write_bytes(b"x" * MIB)
    (host.disks / "target.raw").write_bytes(bytes(MIB))
    session = Session(host, server)
    for method, example in EXAMPLES.items():
        await session.before(method)
        result = await session.call(method)
        await session.after(method)
        told, shown = shape(result), shape(example.result)
        if method == "Host.getCapabilities":
            for one in (told, shown):  # of this machine
                one |= {"name": "", "stores": "", "version": "", "drivers": ""}
                one["connector_info"] = set(one["connector_info"]) - {"nqn"}
        if "path_taken" in str(told):
            told, shown = (_without_flags(one) for one in (told, shown))
        assert told == shown, method


def _without_flags(facts: Any) -> Any:
    """The flags of the tool are those for the file system of this machine."""
    if isinstance(facts, dict):
        same = {key: _without_flags(one) for key, one in facts.items()}
        return {**same, "path_taken": ""} if "path_taken" in facts else same
    return list(map(_without_flags, facts)) if isinstance(facts, list) else facts
