"""A lease: a name in a lease volume and the slot that it names."""

import re
from dataclasses import dataclass

from protocol.errors import BadParameter

# sanlock keeps names in 48 bytes.
NAME_SIZE = 48
NAME = re.compile(r"[!-~]{1,48}")


@dataclass(frozen=True)
class Lease:
    """sd_id: the domain, which is also the lockspace. path, offset: file and byte of the slot."""

    sd_id: str
    lease_id: str
    path: str
    offset: int


def check_name(lease_id: str) -> None:
    """Raise BadParameter (1000) unless a lease can have this id."""
    if not NAME.fullmatch(lease_id):
        raise BadParameter("lease_id", "must be 1 to 48 printable ASCII characters without blanks")
