"""The codes of errors as Prometheus gets them: a number that is known, and few others."""

from host.verbs.table import VERBS
from protocol import jsonrpc
from protocol.errors import Error, to_rpc

FINE = "0"
CANCELLED = "cancelled"
OTHER = "other"
UNKNOWN_METHOD = "unknown"


def _codes(kind: type[Error]) -> set[str]:
    return {str(kind.code)}.union(*map(_codes, kind.__subclasses__()))


KNOWN = frozenset(_codes(Error).union(*map(_codes, (*jsonrpc.KINDS, jsonrpc.Forbidden))))


def code(error: BaseException | None) -> str:
    """Of what ended something; other: of a worker of another version, say."""
    if error is None:
        return FINE
    if not isinstance(error, Exception):
        return CANCELLED
    return bounded(to_rpc(error)["code"])


def bounded(number: object) -> str:
    return str(number) if str(number) in KNOWN else OTHER


def method(name: str) -> str:
    """A client may call anything."""
    return name if name in VERBS else UNKNOWN_METHOD
