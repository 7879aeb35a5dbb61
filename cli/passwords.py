"""Passwords come from a terminal or from stdin: what stands on a command line, others can read."""

import getpass
import sys

import trio

from protocol.errors import BadParameter

LONGEST = 1024  # characters


async def from_stdin() -> str:
    """The first line. Raises BadParameter (1000)."""
    text = await trio.to_thread.run_sync(_line, abandon_on_cancel=True)
    if not text:
        raise BadParameter("password", "stdin is empty")
    return text


async def asked(user: str) -> str:
    """From the terminal, or from stdin where that is none. Raises BadParameter (1000)."""
    if sys.stdin is None or not sys.stdin.isatty():
        return await from_stdin()
    prompt = f"password of {user}: "
    return await trio.to_thread.run_sync(getpass.getpass, prompt, abandon_on_cancel=True)


def _line() -> str:
    if sys.stdin is None:
        return ""
    return sys.stdin.readline(LONGEST + 2).rstrip("\r\n")
