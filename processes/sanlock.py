"""The sanlock daemon of this host, as its own program tells of it: `sanlock client`.

Only what the daemon's Python binding does not know. Source: sanlock(8), version 3.8.5.
"""

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from processes.tool import Limits, run
from protocol.errors import BadOutput, ToolMissing

LIMITS = Limits(seconds=5)  # one that is stopped never answers
OUTPUT_LIMIT = 4 << 20  # 2000 hosts
_NAME = "sanlock"
_FOLDERS = "/usr/sbin:/sbin"  # which are not on the PATH of a user
# The daemon makes up a name of a random UUID and the host's own when it was given none.
_MADE_UP = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?:\..*)?")

_HOST = re.compile(r"(\d+) timestamp \d+")
_LAST_LIVE = re.compile(r"\s+last_live=(\d+)")


@dataclass(frozen=True)
class Daemon:
    """host_name: of this host in every lockspace. watchdog: does it reset a host that fails?"""

    host_name: str
    watchdog: bool
    version: str

    @property
    def name_is_stable(self) -> bool:
        """Does the daemon have this name after its next start, too?"""
        return not _MADE_UP.fullmatch(self.host_name)


async def daemon() -> Daemon:
    """Raises ToolMissing, ToolFailed (no daemon, or it refuses this user), ToolStalled, BadOutput.

    Which daemon: SANLOCK_RUN_DIR.
    """
    return parse(await _client("status", "-D"))


async def last_seen(sd_id: str) -> dict[int, int]:
    """When the daemon last saw each host of a joined lockspace renew, by this host's monotonic
    clock, in seconds; a host that it never saw is left out. Raises as `daemon`."""
    return parse_hosts(await _client("host_status", "-D", "-s", sd_id))


def parse(text: str) -> Daemon:
    """Read what `sanlock client status -D` prints first. Raises BadOutput."""
    lines = text.splitlines()
    if not lines or not lines[0].startswith("daemon"):
        raise BadOutput(_NAME, "it does not begin with the daemon")
    facts = dict(_facts(lines[1:]))
    try:
        watchdog = facts["use_watchdog"] != "0"
        return Daemon(facts["our_host_name"], watchdog, facts.get("version_str", ""))
    except KeyError as e:
        raise BadOutput(_NAME, f"there is no {e.args[0]}") from None


def parse_hosts(text: str) -> dict[int, int]:
    """Read what `sanlock client host_status -D` prints of one lockspace."""
    found: dict[int, int] = {}
    host_id = 0
    for line in text.splitlines():
        if match := _HOST.fullmatch(line):
            host_id = int(match[1])
        elif (match := _LAST_LIVE.fullmatch(line)) and int(match[1]):
            found[host_id] = int(match[1])
    return found


async def _client(*arguments: str) -> str:
    argv = [_program(), "client", *arguments]
    return (await run(argv, limits=LIMITS, output_limit=OUTPUT_LIMIT)).decode("utf-8", "replace")


def _program() -> str:
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), _FOLDERS])
    if program := shutil.which(_NAME, path=path):
        return program
    raise ToolMissing(_NAME, _NAME)


def _facts(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The indented lines `name=value` that come first."""
    for line in lines:
        name, equals, value = line.partition("=")
        if not equals or not line.startswith(" "):
            return
        yield name.strip(), value
