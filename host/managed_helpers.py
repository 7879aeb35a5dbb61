"""The helper programs as this host has them: found, told what they need, and their errors named."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import structlog
import trio

from host.config import Config, Managed
from host.managed_secrets import hidden, secrets
from leases import steps
from processes import managed_helper
from processes.managed_helper import NAME, NoHelper
from protocol.errors import ManagedVolumeHelperFailed
from storage.managed_table import ManagedVolume

log = structlog.get_logger()

Command: TypeAlias = Literal["attach", "detach"]
OURS = Path(sys.executable).parent  # where the programs of this installation are
# What a helper is told by its environment, beside standard input: a folder for what it needs as
# long as the volume is attached, the Python that has os-brick, and who this host is.
ACCESS = "LEASEHOLD_MANAGED_ACCESS"
OS_BRICK = "LEASEHOLD_MANAGED_OS_BRICK"
HARDWARE_ID = "LEASEHOLD_IDENTITY_HARDWARE_ID"
NAME_OF_HOST = "LEASEHOLD_IDENTITY_NAME"
INITIATOR = "LEASEHOLD_IDENTITY_INITIATOR"
# Words of multipath(8) and of the kernel: somebody is just letting go of the device.
IN_USE = ("map in use", "map or partition in use", "Device or resource busy")
FIRST_WAIT = 0.25  # seconds until a detach is tried again; doubled
TRIES = 6  # which wait for 8 s altogether


class Unsure(Exception):
    """The helper failed, and nobody knows what it had done by then."""

    def __init__(self, error: ManagedVolumeHelperFailed) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True)
class Helpers:
    """facts: variables of the environment of every helper."""

    config: Managed
    facts: Mapping[str, str]

    @classmethod
    def of(cls, config: Config, hardware_id: str) -> "Helpers":
        facts = {HARDWARE_ID: hardware_id, OS_BRICK: config.managed.os_brick}
        if config.identity.name is not None:
            facts[NAME_OF_HOST] = config.identity.name
        if config.identity.initiator is not None:
            facts[INITIATOR] = config.identity.initiator
        if steps.VARIABLE in os.environ:
            facts[steps.VARIABLE] = os.environ[steps.VARIABLE]
        return cls(config.managed, facts)

    def find(self, volume: ManagedVolume, command: Command) -> Path:
        """The helper of a volume. Raises ManagedVolumeHelperFailed (926): there is none."""
        adapter = volume.connection.get("adapter")
        try:
            return managed_helper.find(adapter, self.config.helpers, OURS)
        except NoHelper as e:
            name = NAME if adapter is None else f"{NAME}-{adapter:.80}"
            raise ManagedVolumeHelperFailed(name, command, str(e)) from None

    async def attach(self, helper: Path, volume: ManagedVolume, access: Path) -> Mapping[str, Any]:
        """What the helper tells of the volume that it has attached.

        Raises ManagedVolumeHelperFailed (926): nothing is attached; Unsure.
        """
        outcome = await self._call(helper, "attach", volume.connection, access)
        if outcome.failure is None:
            return outcome.answer
        error = failed(helper, "attach", volume, outcome.failure)
        if outcome.uncertain:
            raise Unsure(error)
        raise error

    async def detach(self, volume: ManagedVolume, access: Path) -> None:
        """Have the volume detached; tried again while somebody is just letting go of it.

        Raises ManagedVolumeHelperFailed (926).
        """
        helper = self.find(volume, "detach")
        message = {
            "vol_id": volume.vol_id,
            "connection_info": volume.connection,
            "path": volume.path,
            "attachment": volume.attachment,
            "multipath_id": volume.multipath_id,
        }
        wait = FIRST_WAIT
        for left in reversed(range(TRIES)):
            outcome = await self._call(helper, "detach", message, access)
            if outcome.failure is None:
                return
            if not left or not any(words in outcome.failure for words in IN_USE):
                raise failed(helper, "detach", volume, outcome.failure)
            log.info("still in use, tried again", volume=volume.vol_id, after=wait)
            await trio.sleep(wait)
            wait *= 2

    async def _call(
        self, helper: Path, command: Command, message: Mapping[str, Any], access: Path
    ) -> managed_helper.Outcome:
        return await managed_helper.call(
            helper,
            command,
            message,
            seconds=self.config.helper_time,
            environment={**self.facts, ACCESS: str(access)},
        )


def failed(
    helper: Path, command: Command, volume: ManagedVolume, reason: str
) -> ManagedVolumeHelperFailed:
    """The error, which shows no secret."""
    shown = hidden(reason, secrets(volume.connection))
    return ManagedVolumeHelperFailed(helper.name, command, shown)
