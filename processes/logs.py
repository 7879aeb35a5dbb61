"""Logs of services and of their workers: one line a record on stderr, as JSON or as text.

A line of JSON has time (UTC), level, logger and event, then what the record is about: flow_id,
method, peer, job, lease. Records of the standard library look the same as those of structlog.
"""

import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

if TYPE_CHECKING:
    from protocol.settings import Log

Format: TypeAlias = Literal["json", "text"]

STDERR = 2
FIRST = ("time", "level", "logger", "event")
VALUE_LIMIT = 4096  # characters of one value: clients choose the names of methods, say
TRACE_LIMIT = 32_768


@dataclass(frozen=True)
class Style:
    """level: debug, info, warning or error."""

    level: str = "warning"
    format: Format = "text"

    @property
    def of_worker(self) -> "Style":
        """What is usual is logged by the agent, which sees it all."""
        return replace(self, level="warning") if self.level == "info" else self


_style = Style()


def style() -> Style:
    """That in which this process logs, as far as it was set here."""
    return _style


def to_stderr(log: "Log") -> None:
    """Log as configured from now on; `auto` is text on a terminal, else JSON."""
    chosen: Format = log.format if log.format != "auto" else "text" if _terminal() else "json"
    set_up(Style(log.level, chosen))


def set_up(chosen: Style) -> None:
    """Log in this style from now on, all loggers of this process."""
    global _style  # noqa: PLW0603 - as logging itself, it is one for the process
    _style = chosen
    handler = _Stderr()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_FACTS, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _as_text if chosen.format == "text" else _as_json,
            ],
        )
    )
    logging.basicConfig(level=chosen.level.upper(), handlers=[handler], force=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_FACTS,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


_FACTS: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
]


class _Stderr(logging.Handler):
    """A reader that is gone, a full disk, a record that is wrong: none of it is anybody's error."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as e:
            what = {"level": "error", "logger": record.name, "event": "a record cannot be written"}
            line = _as_json(None, "", {**what, "error": repr(e)})
        rest = f"{line}\n".encode("utf-8", "backslashreplace")
        with suppress(OSError):
            while rest:
                rest = rest[os.write(STDERR, rest) :]


def _terminal() -> bool:
    try:
        return os.isatty(STDERR)
    except OSError:
        return False


def _as_json(logger: WrappedLogger, name: str, event: EventDict) -> str:
    """In ASCII: no control character, and nothing that changes the direction of a text."""
    facts = {key: _bounded(key, value) for key, value in _ordered(event).items()}
    try:
        return _dumped(facts)
    except (ValueError, TypeError, RecursionError):
        return _dumped({key: _plain(key, value) for key, value in facts.items()})


def _dumped(value: Any) -> str:
    return json.dumps(value, default=str, allow_nan=False)


def _plain(key: str, value: Any) -> Any:
    """A value, or what Python shows of one that is no JSON."""
    try:
        _dumped(value)
    except (ValueError, TypeError, RecursionError):
        return _bounded(key, repr(value))
    return value


def _as_text(logger: WrappedLogger, name: str, event: EventDict) -> str:
    """A line for people; a traceback follows, indented, so that none of it looks like a line."""
    facts = _ordered(event)
    trace = str(facts.pop("exception", ""))
    time, level, source, said = (str(facts.pop(key, "")) for key in FIRST)
    rest = [f"{key}={_shown(_bounded(key, value))}" for key, value in facts.items()]
    head = f"{time[:19].replace('T', ' ')} {level.upper():<7} {source}: {_bounded('', said)}"
    lines = [" ".join([head, *rest]), *_bounded("exception", trace).splitlines()]
    return "\n    ".join(map(printable, lines))


def _ordered(event: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a record that are there, those that every record has first."""
    facts = {key: event[key] for key in FIRST if key in event}
    facts["event"] = str(facts.get("event", ""))
    rest = {str(key): value for key, value in event.items() if key not in FIRST}
    return {**facts, **{key: value for key, value in rest.items() if value not in (None, "")}}


def _bounded(key: str, value: Any) -> Any:
    if isinstance(value, int | float | None):
        return value
    limit = TRACE_LIMIT if key == "exception" else VALUE_LIMIT
    text = value if isinstance(value, str) else repr(value)
    if len(text) <= limit:
        return value
    return f"{text[:limit]}... ({len(text)} characters)"


def _shown(value: Any) -> str:
    text = str(value)
    plain = text.isprintable() and text and not set(text) & set(" \"'=")
    return text if plain else repr(text)


def printable(text: str) -> str:
    """`text` as one line without control characters: names come from clients and images."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
