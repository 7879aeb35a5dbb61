"""Where the database is: sqlite:////FILE or postgresql://USER@HOST/NAME."""

from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from protocol.errors import BadParameter

SQLITE, POSTGRESQL = "sqlite", "postgresql"
_DRIVERS = {
    "sqlite": "sqlite+pysqlite",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}


def parsed(text: str) -> URL:
    """With the driver that we use. Raises BadParameter (1000): another kind of url."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise BadParameter("database", "it is no url") from None
    if url.drivername not in _DRIVERS:
        raise BadParameter("database", "sqlite:////FILE or postgresql://USER@HOST/NAME")
    url = url.set(drivername=_DRIVERS[url.drivername])
    if is_sqlite(url):
        return _file(url)
    return url


def is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == SQLITE


def _file(url: URL) -> URL:
    """The same file by its one name, so that who uses it under another meets its lock."""
    if url.query or url.host or not url.database or url.database == ":memory:":
        raise BadParameter("database", "of SQLite a file and nothing else: sqlite:////FILE")
    return url.set(database=str(Path(url.database).resolve()))


def shown(url: URL) -> str:
    """As a person writes it, without the password."""
    return url.set(drivername=url.get_backend_name()).render_as_string(hide_password=True)
