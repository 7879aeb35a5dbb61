"""The tables of docs/rest.md, made of the operations: `python -m engine.rest.reference`."""

import sys
from collections.abc import Iterator

from engine.rest.operation import OURS, OVIRT, Operation
from engine.rest.resources import OPERATIONS


def tables() -> str:
    """Markdown: one table for oVirt's part, one for ours."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    for title, prefix in (("oVirt's part", OVIRT), ("Our part", OURS)):
        yield f"### {title}: `{prefix}`"
        yield ""
        yield "| | path | role | | query | status |"
        yield "|---|---|---|---|---|---|"
        yield from (_row(one, prefix) for one in OPERATIONS if one.path.startswith(prefix))
        yield ""


def _row(one: Operation, prefix: str) -> str:
    path = one.path.removeprefix(prefix) or "/"
    query = ", ".join(f"`{name}`" for name in one.query)
    status = ", ".join(map(str, one.status))
    return f"| {one.method} | `{path}` | {one.least} | {one.about} | {query} | {status} |"


if __name__ == "__main__":
    sys.stdout.write(tables())
