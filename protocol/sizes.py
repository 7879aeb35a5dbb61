"""Sizes, rates and durations as people write and read them: K, M, G, T are powers of 1024."""

import re

from protocol.errors import BadParameter

UNITS = "KMGT"
LIMIT = 2**63 - 1  # an off_t
_SIZE = re.compile(r"([0-9]{1,20})(?:\.([0-9]{1,9}))?([KMGT]?)", re.IGNORECASE | re.ASCII)


def parse_size(text: str, name: str) -> int:
    """Bytes of "4096", "10G" or "1.5M". Raises BadParameter (1000) for parameter `name`."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise BadParameter(name, f"{text!r} is not a size such as 4096, 512K or 1.5G")
    whole, fraction, unit = match.groups()
    factor = 1024 ** (UNITS.index(unit.upper()) + 1) if unit else 1
    digits = fraction or ""
    size, rest = divmod(int(whole + digits) * int(factor), int(10 ** len(digits)))
    if rest:
        raise BadParameter(name, f"{text!r} is not a whole number of bytes")
    if size > LIMIT:
        raise BadParameter(name, f"{text!r} is too large")
    return size


def parse_rate(text: str, name: str) -> int:
    """Bytes per second, more than 0, of "50M" or "50M/s"."""
    rate = parse_size(text.removesuffix("/s"), name)
    if rate == 0:
        raise BadParameter(name, "a rate of 0 never ends")
    return rate


def format_size(size: float) -> str:
    """Three figures and a unit: 999, 1.50K, 12.3M, 640G."""
    value, unit = float(size), ""
    for larger in UNITS:
        if value < 1000:  # and not 1024: four figures are harder to read
            break
        value, unit = value / 1024, larger
    if not unit:
        return str(int(size))
    return f"{value:.{max(0, 2 - (value >= 9.995) - (value >= 99.95))}f}{unit}"


def format_rate(rate: float) -> str:
    return f"{format_size(rate)}/s"


def format_duration(seconds: float) -> str:
    """h:mm:ss."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}"
