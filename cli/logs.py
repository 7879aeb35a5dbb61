"""Logs, those of structlog and of the standard library, as plain lines on stderr."""

import logging

import structlog

from cli.output import printable, tell


class _Stderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        tell(printable(self.format(record), lines=True) + "\n")  # names may be of hostile images


def to_stderr(level: str) -> None:
    """Log what is at least of `level` (debug, info, warning, error) from now on."""
    handler = _Stderr()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
