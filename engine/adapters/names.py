"""Ids of volumes and snapshots: they become names of files, targets and images."""

import re
from uuid import uuid4

from protocol.errors import BadParameter

_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,62}[A-Za-z0-9])?", re.ASCII)


def checked(kind: str, text: str) -> str:
    """The id itself. Raises BadParameter (1000) when it is not a UUID or a name like one."""
    if not _ID.fullmatch(text):
        raise BadParameter(kind, f"{text!r:.80} is no id: letters, digits, and - or _ between them")
    return text


def new_id() -> str:
    return str(uuid4())
