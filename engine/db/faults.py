"""What an error of the database means: try again, or tell who asked."""

import sqlite3

import psycopg
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError
from sqlalchemy.exc import TimeoutError as PoolEmpty

from protocol.errors import BadParameter, Error

_TEXT = 300  # characters

# Source: PostgreSQL 15, appendix A. Class 08: connection; 40: conflicts with another transaction;
# 53: no room, too many connections; 57: cancelled, shut down; 58: its storage fails. 25006: it is
# a standby now; 55P03: a lock took too long.
_CLASSES = ("08", "40", "53", "57", "58")
_READ_ONLY = "25006"
_CODES = (_READ_ONLY, "55P03")
_UNIQUE = "23505"

# Source: sqlite.org/rescode.html. Not SQLITE_ERROR (1), which is a fault of a statement.
_SQLITE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOTADB,
}
_SQLITE_UNIQUE = {sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY}


def may_pass(e: BaseException) -> bool:
    """It is the database that cannot now, not the statement that is wrong."""
    if isinstance(e, PoolEmpty):
        return True
    if not isinstance(e, DBAPIError):
        return False
    cause = e.orig
    if isinstance(cause, psycopg.Error):
        code = cause.sqlstate
        if code is None:  # it could not even be asked, or went away meanwhile
            return isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)
        return code.startswith(_CLASSES) or code in _CODES
    code = getattr(cause, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _SQLITE


def is_conflict(e: BaseException) -> bool:
    """Another transaction was faster: it may be repeated at once."""
    cause = e.orig if isinstance(e, DBAPIError) else None
    return isinstance(cause, psycopg.Error) and (cause.sqlstate or "").startswith("40")


def is_refused(e: BaseException) -> bool:
    """Of a commit: it was not done. Otherwise nobody can tell yet."""
    cause = e.orig if isinstance(e, DBAPIError) else None
    if isinstance(cause, psycopg.Error):  # the server said so: a conflict, or no room
        return (cause.sqlstate or "").startswith(("40", "53"))
    return isinstance(cause, sqlite3.Error)  # there is nobody else who could have done it


def is_read_only(e: BaseException) -> bool:
    """Something was to be changed by who may only read."""
    cause = e.orig if isinstance(e, DBAPIError) else None
    if isinstance(cause, psycopg.Error):
        return cause.sqlstate == _READ_ONLY
    return getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_READONLY


def is_taken(e: IntegrityError) -> bool:
    """A row with that key is there already; else a row that is named is missing, or still used."""
    cause = e.orig
    if isinstance(cause, psycopg.Error):
        return cause.sqlstate == _UNIQUE
    return getattr(cause, "sqlite_errorcode", None) in _SQLITE_UNIQUE


def reason(e: BaseException) -> str:
    """One line, without statement and values."""
    cause = getattr(e, "orig", None) or e
    return " ".join(str(cause).split())[:_TEXT] or type(cause).__name__


def meant(e: Exception) -> Exception:
    """The error for who asked: what a column refused, or else `e` itself."""
    if isinstance(e, StatementError):
        if isinstance(e.orig, Error):
            return e.orig
        if isinstance(e, DataError) or isinstance(e.orig, OverflowError):
            return BadParameter("value", reason(e))
    if isinstance(e, OverflowError):
        return BadParameter("value", reason(e))
    return e
