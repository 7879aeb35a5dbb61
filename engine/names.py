"""Names that people give: to disks, domains, hosts and users."""

import re

from protocol.errors import BadParameter

LONGEST = 255
LONGEST_TEXT = 4000
# Letters and digits of any script; nothing that a shell, a path, SQL or a page would read.
_NAME = re.compile(r"[\w.+@:#-]+(?: [\w.+@:#()-]+)*")
_USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def checked_name(kind: str, name: str) -> str:
    """The name itself. kind: "disk name", for the error. Raises BadParameter (1000)."""
    if not 1 <= len(name) <= LONGEST or name.strip(".") == "" or not _NAME.fullmatch(name):
        raise BadParameter(
            kind, f"1 to {LONGEST} letters, digits and . _ - + @ : #, with single spaces between"
        )
    return name


def checked_user(name: str) -> str:
    """Raises BadParameter (1000)."""
    if not _USER.fullmatch(name):
        raise BadParameter("user", "1 to 64 of A-Z, a-z, 0-9 and . _ -, first a letter or digit")
    return name


def with_id(name: str, id: str) -> str:
    """For people: what a thing is called now, and the id by which it is found for ever."""
    return f"{name} ({id})"


def checked_text(kind: str, text: str) -> str:
    """A description: one line, any printable characters. Raises BadParameter (1000)."""
    if len(text) > LONGEST_TEXT or not (text.isprintable() or not text):
        raise BadParameter(kind, f"at most {LONGEST_TEXT} printable characters in one line")
    return text
