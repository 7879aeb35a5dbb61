"""tgtadm: the targets of the tgtd of this machine.

Source: tgtadm(8), version 1.0.85. What it shows is read by its indentation:

    Target 1: iqn.2026-01.org.example:one
        I_T nexus information:
            I_T nexus: 7
                Initiator: iqn.1993-08.org.debian:01:host1 alias: none
                Connection: 0
                    IP Address: 10.0.0.1
        LUN information:
            LUN: 1
                Backing store path: /path
        Account information:
            one
        ACL information:
            iqn.1993-08.org.debian:01:host1
"""

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

import trio

from processes.tool import Limits, run
from protocol.errors import BadOutput, ToolFailed, ToolStalled

SECONDS = 30.0
LIMITS = Limits(seconds=SECONDS)
SOCKET = "/var/run/tgtd/socket"  # of Debian's service
LUN = 1  # 0 is the controller
_TARGET = re.compile(r"Target (\d+): (\S+)")
_SECTION = re.compile(r" {4}(\w.*) information:")
_NEXUS = re.compile(r" {8}I_T nexus: (\d+)")
_INITIATOR = re.compile(r" {12}Initiator: (\S+)(?: alias: .*)?")
_CONNECTION = re.compile(r" {12}Connection: (\d+)")
_LUN = re.compile(r" {8}LUN: (\d+)")
_REQUEST = struct.Struct("=II64sIiQQ6I")
_ANSWER = struct.Struct("=II")
_ACCOUNT, _NEW = 7, 0  # mode and operation
_LISTED = re.compile(r" {8}(\S+)(?: \(.*\))?")


@dataclass
class Nexus:
    """A session of an initiator. number: of the session; connections: its connections' numbers."""

    number: int
    initiator: str = ""
    connections: list[int] = field(default_factory=list)


@dataclass
class Target:
    """luns: the controller included. acl: initiators that are let in. accounts: for CHAP."""

    tid: int
    name: str
    nexuses: list[Nexus] = field(default_factory=list)
    luns: list[int] = field(default_factory=list)
    acl: list[str] = field(default_factory=list)
    accounts: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Tgtd:
    """A daemon. socket: TGT_IPC_SOCKET, the path of its control socket without the `.0` at its end.

    Every method raises ToolFailed when the daemon refuses, or does not answer, and ToolStalled.
    """

    socket: str = SOCKET

    async def targets(self) -> dict[str, Target]:
        """All targets by name. Raises BadOutput."""
        shown = await self._run("show", "target")
        found = parse(shown)
        if shown.strip() and not found:
            raise BadOutput("tgtadm", "there is no target in it")
        return found

    async def new_target(self, tid: int, name: str) -> None:
        await self._run("new", "target", "--tid", str(tid), "-T", name)

    async def delete_target(self, tid: int) -> None:
        """Refused while an initiator is connected."""
        await self._run("delete", "target", "--tid", str(tid))

    async def new_unit(self, tid: int, path: str, facts: Mapping[str, str]) -> None:
        """Logical unit 1, over a file. Until its facts are told it has those of tgtd, such as an
        identity that units of other daemons have as well."""
        await self._run("new", "logicalunit", *_unit(tid), "-b", path)
        await self.describe_unit(tid, facts)

    async def describe_unit(self, tid: int, facts: Mapping[str, str]) -> None:
        text = ",".join(f"{key}={value}" for key, value in facts.items())
        await self._run("update", "logicalunit", *_unit(tid), "--params", text)

    async def delete_unit(self, tid: int) -> None:
        """Refused while a command of an initiator runs."""
        await self._run("delete", "logicalunit", *_unit(tid))

    async def bind(self, tid: int, initiator: str) -> None:
        """Let an initiator in, by its name."""
        await self._run("bind", "target", "--tid", str(tid), "-Q", initiator)

    async def unbind(self, tid: int, initiator: str) -> None:
        """It is not let in any more; its connections stay."""
        await self._run("unbind", "target", "--tid", str(tid), "-Q", initiator)

    async def cut(self, tid: int, nexus: int, connection: int) -> None:
        at = ["--tid", str(tid), "--sid", str(nexus), "--cid", str(connection)]
        await self._run("delete", "conn", *at)

    async def new_account(self, user: str, password: str) -> None:
        """An account for CHAP. Not by tgtadm, which wants the password among its arguments.

        Source: tgt, usr/tgtadm.h: struct tgtadm_req and tgtadm_rsp.
        """
        parameters = f"user={user},password={password}".encode() + b"\0"
        size = _REQUEST.size + len(parameters)
        request = _REQUEST.pack(_ACCOUNT, _NEW, b"iscsi", size, -1, 0, 2**64 - 1, *[0] * 6)
        with trio.move_on_after(SECONDS):
            try:
                stream = await trio.open_unix_socket(f"{self.socket}.0")
                async with stream:
                    await stream.send_all(request + parameters)
                    answer = await stream.receive_some(_ANSWER.size)
                error, _ = _ANSWER.unpack(answer)
            except (OSError, trio.BrokenResourceError, struct.error) as e:
                raise ToolFailed("tgtd", 1, str(e)) from None
            if error:
                raise ToolFailed("tgtd", error, "it made no account")
            return
        raise ToolStalled("tgtd", SECONDS)

    async def delete_account(self, user: str) -> None:
        await self._run("delete", "account", "--user", user)

    async def bind_account(self, tid: int, user: str) -> None:
        """From now on, only who knows the password of an account of the target is let in."""
        await self._run("bind", "account", "--tid", str(tid), "--user", user)

    async def _run(self, op: str, mode: str, *arguments: str) -> str:
        argv = ["tgtadm", "--lld", "iscsi", "--op", op, "--mode", mode, *arguments]
        output = await run(argv, limits=LIMITS, environment={"TGT_IPC_SOCKET": self.socket})
        return output.decode("utf-8", "replace")


def _unit(tid: int) -> list[str]:
    return ["--tid", str(tid), "--lun", str(LUN)]


def missing(error: ToolFailed) -> bool:
    """Did tgtadm fail because what it was to remove is not there (any more)?"""
    return "can't find" in error.detail or "does not exist" in error.detail


def taken(error: ToolFailed) -> bool:
    """Did it fail because there is such a target already?"""
    return "already exists" in error.detail


def busy(error: ToolFailed) -> bool:
    return "still active" in error.detail or "is active" in error.detail


def parse(text: str) -> dict[str, Target]:
    """Read what `tgtadm --op show --mode target` prints."""
    found: dict[str, Target] = {}
    target, section = Target(0, ""), ""
    for line in text.splitlines():
        if match := _TARGET.fullmatch(line):
            target, section = Target(int(match[1]), match[2]), ""
            found[target.name] = target
        elif match := _SECTION.fullmatch(line):
            section = match[1]
        else:
            _add(target, section, line)
    return found


def _add(target: Target, section: str, line: str) -> None:
    """A line of a section of a target."""
    if section == "I_T nexus":
        if match := _NEXUS.fullmatch(line):
            target.nexuses.append(Nexus(int(match[1])))
        elif match := _INITIATOR.fullmatch(line):
            target.nexuses[-1].initiator = match[1]
        elif match := _CONNECTION.fullmatch(line):
            target.nexuses[-1].connections.append(int(match[1]))
    elif section == "LUN" and (match := _LUN.fullmatch(line)):
        target.luns.append(int(match[1]))
    elif section == "ACL" and (match := _LISTED.fullmatch(line)):
        target.acl.append(match[1])
    elif section == "Account" and (match := _LISTED.fullmatch(line)):
        target.accounts.append(match[1])
