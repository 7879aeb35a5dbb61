"""Hosts that storage could not tell apart, as they tell the same of themselves. Pure.

Storage lets hosts in, and shuts them out, by what their connectors say. With two hosts of one name
it would shut out both, or the wrong one.
"""

from collections.abc import Iterable, Mapping
from typing import Any

# Of a connector: the keys by which adapters know a host, what each is called, and how one that is
# there twice is changed. Ours know it by `host`, over iSCSI also by `initiator`; those of vendors
# by `nqn`, too. Its address is not here: nobody is let in by that alone.
IDENTITIES: Mapping[str, tuple[str, str]] = {
    "host": (
        "name",
        "set `identity.name` in the configuration of its agent, and restart the agent",
    ),
    "initiator": (
        "iSCSI name",
        "change it in /etc/iscsi/initiatorname.iscsi, and restart iscsid and its agent; of an agent"
        " without open-iscsi set `identity.initiator`",
    ),
    "nqn": ("NVMe name", "change it in /etc/nvme/hostnqn, and restart its agent"),
}


def twin(connector: Mapping[str, Any], others: Iterable[tuple[str, Mapping[str, Any]]]) -> str:
    """Why storage would take a host for another one, and the way out; "": it would not.

    others: the other hosts, each by its name, with what it has told. As hosts tell it: of any kind.
    """
    theirs = list(others)
    found = [
        f"its {what} {connector[key]!r:.250} is that of host {name} too: {way_out}"
        for key, (what, way_out) in IDENTITIES.items()
        for name, other in theirs
        if _same(connector.get(key), other.get(key))
    ]
    return "; ".join(found)


def held(known: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """What a host keeps away from others: of what it was `known` by, all but the identities of
    which it has `told` another one now, whether or not it may have that. So two hosts can swap."""
    return {
        key: value
        for key, value in known.items()
        if not told.get(key) or not isinstance(told[key], str) or _same(value, told[key])
    }


def _same(one: object, other: object) -> bool:
    """In upper or lower case: an iSCSI name is the same in both (RFC 3722), a host name too."""
    if not (isinstance(one, str) and isinstance(other, str)):
        return False
    return bool(one) and one.casefold() == other.casefold()
