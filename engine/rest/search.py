"""oVirt's search, in the part that clients use: `name=x and status=ok page 2`.

Nothing of it becomes SQL: the words are compared with a table of what can be searched for, and the
values go to the database as parameters.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, field

from engine.rest.element import whole
from protocol.errors import BadParameter

LONGEST = 1000
_TERM = re.compile(
    r"""\s*(?P<name>[A-Za-z_]{1,40})\s*=\s*(?:"(?P<quoted>[^"]*)"|(?P<plain>[^\s"]+))""",
)
_PAGE = re.compile(r"\s*page\s+(?P<page>[0-9]{1,9})\s*\Z", re.IGNORECASE)
_AND = re.compile(r"\s+and(?=\s)", re.IGNORECASE)


@dataclass(frozen=True)
class Search:
    """terms: what each name is to be equal to. page: 1 is the first."""

    terms: dict[str, str] = field(default_factory=dict)
    page: int = 1

    def __getitem__(self, name: str) -> str | None:
        return self.terms.get(name)


def parsed(text: str | None, names: Collection[str]) -> Search:
    """names: that can be searched for. Raises BadParameter (1000): anything else."""
    text = (text or "").strip()
    if len(text) > LONGEST:
        raise BadParameter("search", f"it is longer than {LONGEST} characters")
    page = 1
    if ended := _PAGE.search(text):
        page = max(1, whole("search", ended["page"]))
        text = text[: ended.start()]
    return Search(_terms(text, names), page)


def _terms(text: str, names: Collection[str]) -> dict[str, str]:
    terms: dict[str, str] = {}
    at = 0
    while text[at:].strip():
        if terms:
            between = _AND.match(text, at)
            if between is None:
                raise _refused(names)
            at = between.end()
        term = _TERM.match(text, at)
        if term is None or term["name"].lower() not in names or term["name"].lower() in terms:
            raise _refused(names)
        quoted = term["quoted"]
        terms[term["name"].lower()] = term["plain"] if quoted is None else quoted
        at = term.end()
    return terms


def _refused(names: Collection[str]) -> BadParameter:
    known = ", ".join(sorted(names))
    return BadParameter("search", f"NAME=VALUE, joined by `and`, each name once, of: {known}")
