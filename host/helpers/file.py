"""The driver `file`: a file of a server, reached by NBD. Nothing is to be done on this host."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from endpoints.url import NbdUnixUrl, NbdUrl, parse
from host.helpers.failure import Failed
from protocol.errors import BadParameter


async def attach(data: Mapping[str, Any], access: Path) -> dict[str, Any]:
    """data: `url`, nbd+unix: or nbd:. Raises Failed."""
    url = data.get("url")
    if not isinstance(url, str):
        raise Failed("the connection has no url")
    try:
        parsed = parse(url)
    except BadParameter as e:
        raise Failed(f"the url: {e.reason}") from None
    if not isinstance(parsed, NbdUnixUrl | NbdUrl):
        raise Failed("the url of a file must be nbd+unix: or nbd:")
    return {"type": "url", "path": str(parsed)}


async def detach(
    data: Mapping[str, Any], attachment: Mapping[str, Any] | None, access: Path
) -> None:
    """The server is ended by who started it."""
