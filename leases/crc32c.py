"""The checksum of leader sectors.

Source: docs/formats.md, "Checksum".
"""

from functools import lru_cache

_REFLECTED_CASTAGNOLI = 0x82F63B78
_START = 0xFFFFFFFE


def _table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (_REFLECTED_CASTAGNOLI if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_TABLE = _table()


@lru_cache(maxsize=1024)  # of pollers: a leader seldom changes between two looks at it
def checksum(data: bytes) -> int:
    """CRC-32C of `data`, begun with 0xFFFFFFFE and not inverted at the end."""
    crc = _START
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc
