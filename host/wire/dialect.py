"""The dialect of STOMP that oVirt clients speak: names, and frames of ours. See docs/wire.md."""

import re

from protocol.stomp import Frame, encode

VERSION = "1.2"
REQUESTS = ("jms.topic.vdsm_requests", "jms.topic.vdsm_irs_requests")
EVENTS = "jms.queue.events"
FLOW_ID = "ovirtCorrelationId"
FLOW_ID_LIMIT = 128  # characters
SHORTEST_BEAT = 1000  # milliseconds

_BEATS = re.compile(r"\s*([0-9]{1,9})\s*,\s*([0-9]{1,9})\s*\Z")


def is_request(destination: str) -> bool:
    """Whether verbs are called by a SEND to it."""
    return destination in REQUESTS or destination.startswith(tuple(f"{r}." for r in REQUESTS))


def heart_beats(header: str) -> tuple[int, int]:
    """What a client promises and what it wants, in milliseconds; 0 is never.

    Other values are raised to a second at least; a header that is none counts as 0,0.
    """
    found = _BEATS.match(header)
    if found is None:
        return 0, 0
    promised, wanted = (max(int(n), SHORTEST_BEAT) if int(n) else 0 for n in found.groups())
    return promised, wanted


def speaks(accept_version: str) -> bool:
    """Whether a client's list of versions has ours in it."""
    return VERSION in (version.strip() for version in accept_version.split(","))


def connected(promised: int, wanted: int) -> bytes:
    """The answer to CONNECT: what we promise is what the client wants."""
    return encode(Frame("CONNECTED", {"version": VERSION, "heart-beat": f"{wanted},{promised}"}))


def receipt(id: str) -> bytes:
    return encode(Frame("RECEIPT", {"receipt-id": id}))


def error(reason: str, cause: Frame | None = None) -> bytes:
    """The last frame of a connection. cause: the frame that was wrong, for its receipt."""
    headers = {"version": VERSION, "message": reason, "content-type": "text/plain"}
    if cause is not None and "receipt" in cause.headers:
        headers["receipt-id"] = cause.headers["receipt"]
    return encode(Frame("ERROR", headers, reason.encode()))


def message(destination: str, subscription: str, body: bytes) -> bytes:
    """An answer or an event, to one subscription."""
    headers = {"destination": destination, "content-type": "application/json"}
    return encode(Frame("MESSAGE", {**headers, "subscription": subscription}, body))


def forwarded(sent: Frame, subscription: str) -> bytes:
    """What a client has sent to itself."""
    kept = {k: v for k, v in sent.headers.items() if k not in ("subscription", "receipt")}
    return encode(Frame("MESSAGE", {"subscription": subscription, **kept}, sent.body))
