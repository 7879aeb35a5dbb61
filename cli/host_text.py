"""How the hosts of a domain are shown."""

from dataclasses import asdict
from typing import Any

from leases.lockspace import KnownHost, Member, Status


def member(sd_id: str, made: Member) -> dict[str, Any]:
    return {
        "sd_id": sd_id,
        "host_id": made.host_id,
        "host_name": made.name,
        "generation": made.generation,
        "io_timeout": made.io_timeout,
    }


def member_text(sd_id: str, made: Member) -> str:
    return f"{made.name} is host {made.host_id} of storage domain {sd_id}"


def status_object(sd_id: str, found: Status) -> dict[str, Any]:
    own = next((one for one in found.hosts if one.host_id == found.host_id), None)
    return {
        "sd_id": sd_id,
        "state": found.state.value,
        "host_id": found.host_id,
        "host_name": found.daemon.host_name,
        "generation": own.generation if own else None,
        "io_timeout": found.io_timeout,
        "watchdog": found.daemon.watchdog,
        "version": found.daemon.version,
        "hosts": [asdict(one) for one in found.hosts],
    }


def status_text(sd_id: str, found: Status) -> str:
    if found.io_timeout is None:
        return f"storage domain {sd_id} is one of the embedded store: no host has joined it"
    who = "" if found.host_id is None else f" as host {found.host_id}"
    first = f"this host ({found.daemon.host_name}): {found.state.value}{who}"
    return "\n".join([f"{first}; io_timeout {found.io_timeout} s", *map(_line, found.hosts)])


def _line(host: KnownHost) -> str:
    seen = "" if host.age is None else f"  seen {host.age} s ago"
    return f"{host.host_id:4}  {host.state:7}  generation {host.generation}  {host.name}{seen}"
