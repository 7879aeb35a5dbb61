"""The value block (LVB) of a lease: the job record as JSON text.

Source: docs/formats.md, "Value block".
"""

import json
import math
from typing import Any, NoReturn

from leases.slot import LVB_SIZE
from protocol.errors import SanlockLVBError
from protocol.record import JobRecord

_PADDING = b"\0 \t\r\n"


def encode(record: JobRecord | None) -> bytes:
    """The LVB_SIZE (512) bytes for `record`; None gives a block that was never written.

    The text is ASCII, and its keys stand in the record's order. Raises SanlockLVBError (703):
    longer than the block, or not JSON.
    """
    if record is None:
        return bytes(LVB_SIZE)
    try:
        data = json.dumps(dict(record.keys), allow_nan=False).encode("ascii")
    except (TypeError, ValueError, RecursionError) as e:
        raise SanlockLVBError(f"cannot be written: {e}") from None
    if len(data) > LVB_SIZE:
        raise SanlockLVBError(f"{len(data)} bytes do not fit into {LVB_SIZE}")
    return data.ljust(LVB_SIZE, b"\0")


def decode(block: bytes) -> JobRecord | None:
    """Read the job record from a value block; None (`{}` on the wire) if it was never written.

    block: LVB_SIZE (512) bytes: one JSON object in UTF-8, then NUL bytes or blanks; all NUL means
    never written. Which keys it has is not looked at: JobRecord.check does that.
    Raises SanlockLVBError (703) for everything else.
    """
    if not block.strip(b"\0"):
        return None
    try:
        keys = json.loads(
            block.rstrip(_PADDING).decode("utf-8"),
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except (ValueError, RecursionError) as e:
        raise SanlockLVBError(f"is not JSON: {e}") from None
    if not isinstance(keys, dict):
        raise SanlockLVBError("is not a JSON object")
    return JobRecord(keys)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> Any:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is out of range")
    return number
