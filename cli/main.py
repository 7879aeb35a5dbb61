"""The entry point: `leasehold`.

Nothing that takes time is imported before it is needed: --version answers at once.
"""

import sys
from collections.abc import Sequence

from cli import VERSION
from cli.output import Output


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command of `argv` (default: of the process) and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            # A name that is not valid in this locale must not be what stops a copy.
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if "--version" in arguments[:2] and set(arguments[:2]) <= {"--version", "--json"}:
        out = Output(json="--json" in arguments)
        out.result({"name": "leasehold", "version": VERSION}, f"leasehold {VERSION}")
        return 0
    return _run(arguments)


def _run(arguments: list[str]) -> int:
    from cli.app import app

    try:
        code = app(arguments, prog_name="leasehold", standalone_mode=False)
    except KeyboardInterrupt:  # while the arguments were read
        from cli.exits import ABORTED

        return ABORTED
    except Exception as e:
        if not hasattr(e, "format_message"):  # the way to know a usage error, in every typer
            raise
        from cli.exits import BAD_INPUT

        _usage_error(e, arguments)
        return BAD_INPUT
    return int(code or 0)


def _usage_error(error: Exception, arguments: list[str]) -> None:
    """Tell of arguments that cannot be understood; --json was perhaps not read yet."""
    from protocol.errors import BadParameter

    before_names = arguments[: arguments.index("--")] if "--" in arguments else arguments
    out = Output(json="--json" in before_names)
    context = getattr(error, "ctx", None)
    message = str(getattr(error, "message", "")) or "a command is missing"
    if type(error).__name__ == "NoArgsIsHelpError" and not out.json:
        out.warn("a command is missing:")
        sys.stderr.write(context.get_help() + "\n" if context else "")
        return
    parameter = getattr(error, "param", None)
    name = parameter.make_metavar(context).strip("[]") if parameter and context else "line"
    where = f" (`{context.command_path} --help`)" if context else ""
    out.error(BadParameter(name, message + where))


if __name__ == "__main__":
    sys.exit(main())
