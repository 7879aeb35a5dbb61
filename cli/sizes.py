"""Sizes, rates and durations on the command line: those of protocol.sizes."""

from protocol.sizes import (
    LIMIT,
    UNITS,
    format_duration,
    format_rate,
    format_size,
    parse_rate,
    parse_size,
)

__all__ = [
    "LIMIT",
    "UNITS",
    "format_duration",
    "format_rate",
    "format_size",
    "parse_rate",
    "parse_size",
]
