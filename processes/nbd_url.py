"""The urls of NBD servers. Source: the NBD url scheme (nbd project, doc/uri.md)."""

from urllib.parse import quote


def unix_uri(path: str, export: str = "") -> str:
    """The url of an export of a server on a unix socket."""
    return f"nbd+unix:///{quote(export, safe='')}?socket={quote(path, safe='/')}"
