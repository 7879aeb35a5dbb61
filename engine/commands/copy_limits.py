"""How many copies there are at once, where nothing else is said of a host or a domain."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CopyLimits:
    """None: as many as there are. A host does no more than it tells, whatever stands here."""

    per_host: int | None = None
    per_domain: int | None = None
