"""The program around an adapter of ours: words in, one line out.

    NAME-adapter COMMAND DRIVER_JSON DB_URL CORRELATION_ID [ARGUMENT...]

prints `CORRELATION_ID:ANSWER` and ends with 0, or prints `error:` and the error as a JSON object
(code, kind, message, data) and ends with 1. DB_URL is not used: what has to be kept is kept by the
storage itself. Secrets are never arguments. With the driver option "secrets": "stdin", standard
input has a JSON object of further driver options; else the variable ADAPTER_SECRETS may hold one.
"""

import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar

import msgspec

from engine.adapters.adapter import Adapter
from engine.adapters.commands import COMMANDS
from protocol.errors import BadParameter, Error, ManagedStorageFailed, to_rpc

OK, FAILED = 0, 1
INPUT_LIMIT = 1 << 20
SECRETS = "ADAPTER_SECRETS"  # of the environment
FROM_STDIN = "stdin"
Finished: TypeAlias = Callable[[Coroutine[Any, Any, str]], str]
_T = TypeVar("_T", bound=msgspec.Struct)


def main(options: type[_T], adapter: Callable[[_T], Adapter], finished: Finished) -> int:
    """Run the command of sys.argv; the exit status.

    options: of the driver, all of them; unknown ones are ignored. finished: that of
    engine.adapters.waiting, or of blocking.
    """
    try:
        line = finished(answer(sys.argv, options, adapter))
        status = OK
    except (Error, OSError) as e:
        line, status = _error(e), FAILED
    with suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), f"{line}\n".encode())
    return status


async def answer(argv: Sequence[str], options: type[_T], adapter: Callable[[_T], Adapter]) -> str:
    """The line that tells of success. Raises the classes of protocol.errors, and OSError."""
    if len(argv) < 5:
        usage = f"{os.path.basename(argv[0])} COMMAND DRIVER_JSON DB_URL CORRELATION_ID [...]"
        raise BadParameter("arguments", f"expected: {usage}")
    _, name, driver, _, correlation, *arguments = argv
    command = COMMANDS.get(name)
    if command is None:
        raise BadParameter("command", f"{name!r:.80} is none of {', '.join(COMMANDS)}")
    # So `error:` and an answer cannot be mistaken for each other, and an answer is one line.
    if not correlation.isprintable() or not correlation or correlation.startswith("error"):
        raise BadParameter("correlation id", f"{correlation!r:.80}")
    found = await command.run(adapter(_options(driver, options)), arguments)
    return f"{correlation}:{_text(found)}"


def _text(answer: Any) -> str:
    if answer is None:
        return ""
    return answer if isinstance(answer, str) else msgspec.json.encode(answer).decode()


def _options(driver: str, kind: type[_T]) -> _T:
    given = _object("driver options", driver.encode("utf-8", "surrogateescape"))
    given |= _secrets(given.get("secrets"))
    try:
        # oVirt's engine keeps options as text: "true".
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as e:
        raise BadParameter("driver options", str(e)) from None


def _secrets(where: object) -> dict[str, Any]:
    if where == FROM_STDIN:
        return _object("secrets", sys.stdin.buffer.read(INPUT_LIMIT))
    if where is not None:
        raise BadParameter("driver options", f'"secrets" can only be "{FROM_STDIN}"')
    return _object("secrets", os.environb.get(SECRETS.encode(), b"{}"))


def _object(name: str, text: bytes) -> dict[str, Any]:
    """Not a word of the text is repeated in the error: it may be secret."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise BadParameter(name, "they are no JSON object") from None


def _error(error: Exception) -> str:
    if not isinstance(error, Error):
        error = ManagedStorageFailed(str(error))
    return "error:" + msgspec.json.encode(to_rpc(error)).decode()
