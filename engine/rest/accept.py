"""In which form a request came, and in which one its answer goes: XML or JSON."""

from enum import StrEnum

from starlette.datastructures import Headers

from engine.rest.refused import Refused


class Form(StrEnum):
    XML = "application/xml"
    JSON = "application/json"


NOT_ACCEPTABLE = "the answer is application/xml or application/json"
UNSUPPORTED_MEDIA = "the body is to be application/xml or application/json, in UTF-8"
_NAMES = {
    "application/xml": Form.XML,
    "text/xml": Form.XML,
    "application/json": Form.JSON,
    "text/json": Form.JSON,
}
_ANY = ("*/*", "application/*", "text/*")
_CHARSETS = ("utf-8", "utf8", "us-ascii")


def wanted(headers: Headers, default: Form, *, only: bool = False) -> Form:
    """The form of the answer: the one with the highest q, the first of equals.

    default: where any will do. only: there is no other one.

    Raises Refused (406).
    """
    best, form = 0.0, None
    for one in (headers.get("accept") or "*/*").split(","):
        name, *parameters = (part.strip().lower() for part in one.split(";"))
        found = default if name in _ANY else _NAMES.get(name)
        quality = _quality(parameters)
        if found is not None and quality > best and not (only and found is not default):
            best, form = quality, found
    if form is None:
        raise Refused(406, NOT_ACCEPTABLE)
    return form


def _quality(parameters: list[str]) -> float:
    for one in parameters:
        if one.startswith("q="):
            try:
                return min(1.0, max(0.0, float(one[2:])))
            except ValueError:
                return 0.0
    return 1.0


def sent(headers: Headers) -> Form:
    """The form of the body. Raises Refused (415)."""
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Refused(415, UNSUPPORTED_MEDIA)
    name, *parameters = (p.strip().lower() for p in headers.get("content-type", "").split(";"))
    if name not in _NAMES:
        raise Refused(415, UNSUPPORTED_MEDIA)
    for one in parameters:
        if one.startswith("charset=") and one[8:].strip('"') not in _CHARSETS:
            raise Refused(415, UNSUPPORTED_MEDIA)
    return _NAMES[name]
