"""os-brick, for the drivers that are not ours. It runs in its own environment and process.

Its libraries do not live together with ours in one process; its Python is named by the agent.
Source: os-brick, os_brick.initiator.connector.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from host.helpers.failure import Failed, Unsure
from processes.tool import Limits, run
from protocol.errors import BadOutput, ToolFailed, ToolKilled, ToolMissing, ToolStalled

PYTHON = "LEASEHOLD_MANAGED_OS_BRICK"
DEFAULT_PYTHON = "/usr/bin/python3"
WORKER = Path(__file__).with_name("os_brick_worker.py")
LOOK = Limits(seconds=10)
TIME = Limits(seconds=600)  # whoever called us has less patience


@dataclass(frozen=True)
class Driver:
    """A connector of os-brick, by the driver's name."""

    name: str

    async def attach(self, data: Mapping[str, Any], access: Path) -> dict[str, Any]:
        """Raises Failed; Unsure: it may be attached."""
        return await self._called("attach", {"driver": self.name, "data": data})

    async def detach(
        self, data: Mapping[str, Any], attachment: Mapping[str, Any] | None, access: Path
    ) -> None:
        """Raises Failed."""
        await self._called("detach", {"driver": self.name, "data": data, "attachment": attachment})

    async def _called(self, command: str, message: Mapping[str, Any]) -> dict[str, Any]:
        if not await installed():
            raise Failed(f"the driver {self.name} needs os-brick, which {_python()} has not")
        return await _call(command, message)


async def installed() -> bool:
    try:
        await _run("-c", "import os_brick", limits=LOOK)
    except (BadOutput, ToolFailed, ToolMissing, ToolStalled):
        return False
    return True


async def connector_info() -> dict[str, Any]:
    """What os-brick tells of this host. Raises Failed."""
    return await _call("connector_info", {})


async def _call(command: str, message: Mapping[str, Any]) -> dict[str, Any]:
    """Raises Failed; Unsure: nobody knows what it has done."""
    stdin = msgspec.json.encode(message)
    try:
        output = await _run(str(WORKER), command, limits=TIME, stdin=stdin)
        return msgspec.json.decode(output, type=dict[str, Any])
    except ToolKilled as e:
        raise Unsure(f"os-brick: {e}") from None
    except ToolFailed as e:
        raise Failed(f"os-brick: {e.detail or e}") from None
    except ToolMissing as e:
        raise Failed(f"os-brick: {e}") from None
    except (BadOutput, ToolStalled, msgspec.MsgspecError, RecursionError) as e:
        raise Unsure(f"os-brick: {e}") from None


async def _run(*arguments: str, limits: Limits, stdin: bytes = b"") -> bytes:
    """Its warnings (one of its libraries is going out of use) are no failures."""
    python = _python()
    # By its own name alone, as tools are run, a Python finds its environment by the search path.
    path = os.pathsep.join([os.path.dirname(python), os.environ.get("PATH", os.defpath)])
    argv = [python, "-I", "-W", "ignore", *arguments]
    return await run(argv, limits=limits, stdin=stdin, environment={"PATH": path})


def _python() -> str:
    return os.environ.get(PYTHON) or DEFAULT_PYTHON
