"""The VMs that there are. Their local disks are needed; those of others are not."""

from uuid import UUID

from host.config import Config
from processes.tool import Limits, run
from protocol.errors import BadOutput, BadParameter

SETTING = "localdisk.vms"
LIMIT = 4 << 20  # bytes
TIME = Limits(seconds=60.0)


async def known(config: Config) -> list[str] | None:
    """Those that the command `localdisk.vms` prints; None: there is no such command.

    Raises ToolMissing (4110), ToolFailed (4111), ToolStalled (4115); BadParameter (1000): what it
    printed is no such list.
    """
    if not config.localdisk.vms:
        return None
    try:
        content = await run(config.localdisk.vms, limits=TIME, output_limit=LIMIT)
    except BadOutput as e:
        raise BadParameter(SETTING, e.reason) from None
    return listed(content, SETTING)


def listed(content: bytes, where: str) -> list[str]:
    """The ids in a list with one a line. where: it comes from, for people.

    Raises BadParameter (1000) for what is no UUID, and for none at all: that is rather a command
    that failed than a host whose VMs are all gone, and what they have written would be removed.
    """
    if len(content) > LIMIT:
        raise BadParameter(where, f"it is longer than {LIMIT} bytes")
    try:
        lines = content.decode().splitlines()
    except ValueError:
        raise BadParameter(where, "it is no text") from None
    found = [_id(line.strip(), where) for line in lines if line.strip()]
    if not found:
        raise BadParameter(
            where,
            "it names no VM; when there are none at all, remove their disks one by one with"
            " `leasehold localdisk remove`",
        )
    return found


def _id(line: str, where: str) -> str:
    try:
        return str(UUID(line))
    except ValueError:
        raise BadParameter(where, f"{line!r:.80} is no id of a VM") from None
