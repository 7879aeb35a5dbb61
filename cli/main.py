"""The entry point: `leasehold`.

Nothing that takes time is imported before it is needed: --version answers at once.
"""

import signal
import sys
from collections.abc import Sequence
from typing import Any

from cli import VERSION
from cli.output import Output, keep_standard_streams, tell

WAITING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command of `argv` (default: of the process) and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # A signal that comes while we import waits for the one who handles it: cli/interrupt.py.
    signal.pthread_sigmask(signal.SIG_BLOCK, WAITING)
    keep_standard_streams()
    if sys.stdout is not None:
        # A name that is not valid in this locale must not be an error.
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if "--version" in arguments[:2] and set(arguments[:2]) <= {"--version", "--json"}:
        out = Output(json="--json" in arguments)
        out.result({"name": "leasehold", "version": VERSION}, f"leasehold {VERSION}")
        return 0
    return _run(arguments)


def _run(arguments: list[str]) -> int:
    try:
        from cli.app import app

        code = app(arguments, prog_name="leasehold", standalone_mode=False)
    except KeyboardInterrupt:  # while the arguments were read
        from cli.exits import ABORTED

        return ABORTED
    except Exception as e:
        if not hasattr(e, "format_message"):  # the way to know a usage error, in every typer
            _output(arguments).error(e)
            return 1
        from cli.exits import BAD_INPUT

        _usage_error(e, arguments)
        return BAD_INPUT
    return int(code or 0)


def _output(arguments: list[str]) -> Output:
    """For errors that come before the command has read its own --json."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return Output(json="--json" in options)


def _usage_error(error: Exception, arguments: list[str]) -> None:
    """Tell of arguments that cannot be understood."""
    from protocol.errors import BadParameter

    out = _output(arguments)
    context = getattr(error, "ctx", None)
    message = str(getattr(error, "message", "")) or str(error.format_message())  # type: ignore[attr-defined]
    if type(error).__name__ == "NoArgsIsHelpError" and not out.json:
        out.warn("a command is missing:")
        tell(f"{context.get_help()}\n" if context else "")
        return
    where = f" (`{context.command_path} --help`)" if context else ""
    out.error(BadParameter(_name(getattr(error, "param", None)), message + where))


def _name(parameter: Any) -> str:
    """What the user knows a parameter by: `SD`, `--block-size`; without one, the command."""
    if parameter is None:
        return "command"
    options = [one for one in parameter.opts if one.startswith("--")]
    return str(options[0] if options else parameter.metavar or parameter.name)


if __name__ == "__main__":
    sys.exit(main())
