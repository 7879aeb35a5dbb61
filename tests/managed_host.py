"""The managed volumes of a host, as its verbs have them, without the agent around them."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from host.config import Config, Folders, Managed
from host.managed import ManagedVolumes
from host.managed_use import Named
from storage.managed_table import FILE, ManagedTable, ManagedVolume
from tests.managed import SD, Scripted, connection, left_in, scripted
from tests.servers import WAIT, users

BOOT = "11111111-1111-4111-8111-111111111111"
HARDWARE_ID = "00000000-0000-4000-8000-000000000001"


@dataclass
class Host:
    """helper: of the adapter ADAPTER. copies: urls of copies that have not ended."""

    helper: Scripted
    config: Config
    hardware_id: str
    volumes: ManagedVolumes
    copies: list[str] = field(default_factory=list)

    @classmethod
    async def made(cls, folder: Path, hardware_id: str = HARDWARE_ID) -> "Host":
        """In a folder of its own."""
        helper = scripted(folder / "vendor")
        managed = Managed(
            helpers=(helper.helpers,), run=str(folder / "run"), helper_time=WAIT, device_time=WAIT
        )
        config = Config(folders=Folders(state=str(folder / "state")), managed=managed)
        copies: list[str] = []
        volumes = await _opened(config, hardware_id, copies, BOOT)
        return cls(helper, config, hardware_id, volumes, copies)

    @property
    def run(self) -> Path:
        return Path(self.config.managed.run)

    async def attach(self, vol_id: str, told: dict[str, Any] | None = None) -> ManagedVolume:
        return await self.volumes.attach(vol_id, SD, connection() if told is None else told)

    async def known(self) -> dict[str, bool]:
        """The ids that are listed, each with whether it is there."""
        return {one.vol_id: exists for one, exists in await self.volumes.info()}

    async def again(self, boot: str = BOOT) -> "Host":
        """After a restart of the agent."""
        volumes = await _opened(self.config, self.hardware_id, self.copies, boot)
        return replace(self, volumes=volumes)

    def impatient(self, seconds: float = 0.5) -> None:
        """Helpers, and devices that are to appear, get no more time than that."""
        helpers = self.volumes._helpers
        config = msgspec.structs.replace(
            helpers.config, helper_time=seconds, device_time=seconds / 2
        )
        self.volumes._helpers = replace(helpers, config=config)

    def told(self, name: str, value: str | None) -> None:
        """Let helpers have a variable in their environment; None: no more."""
        helpers = self.volumes._helpers
        facts = {key: one for key, one in helpers.facts.items() if key != name}
        more = {} if value is None else {name: value}
        self.volumes._helpers = replace(helpers, facts={**facts, **more})

    def nothing_is_left(self) -> None:
        """No row, no link, no secret, no process."""
        assert left_in(self.run) == []
        table, _ = ManagedTable.opened(self.config.state / FILE, BOOT)
        assert table.all() == []
        assert users(self.config.state.parent) == []


async def _opened(config: Config, hardware_id: str, copies: list[str], boot: str) -> ManagedVolumes:
    async def of_copies() -> Iterable[Named]:
        return map(Named, copies)

    return await ManagedVolumes.opened(config, hardware_id, of_copies, boot)
