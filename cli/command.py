"""What all commands have in common: their options, how they run, how their errors end.

A command is written as a function of an Output and its own parameters; here it gets --json,
--quiet and --log-level, and its errors become one message and an exit code.
"""

import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Literal

import typer

from cli.output import Output

Body = Callable[..., int | None]
LogLevel = Literal["debug", "info", "warning", "error"]

COMMON: dict[str, Any] = {
    "json": Annotated[bool, typer.Option("--json", help="Print one JSON object, errors too.")],
    "quiet": Annotated[
        bool, typer.Option("--quiet", "-q", help="Errors, and what was asked for; no more.")
    ],
    "log_level": Annotated[LogLevel, typer.Option(help="What is logged on stderr.")],
}
DEFAULTS = {"json": False, "quiet": False, "log_level": "warning"}


def group(name: str, help: str, *, example: str, completion: bool = False) -> typer.Typer:
    """A group of commands, such as `leasehold domain`; `example` ends its help.

    completion: offer that of the shell.
    """
    return typer.Typer(
        name=name,
        help=help,
        epilog=f"\b\nExample: leasehold {example}",
        no_args_is_help=True,
        add_completion=completion,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["--help", "-h"]},
    )


def command(app: typer.Typer, name: str, *, example: str) -> Callable[[Body], Body]:
    """Make the decorated function the command `name` of `app`; `example` ends its help."""

    def register(body: Body) -> Body:
        @functools.wraps(body)
        def wrapper(json: bool, quiet: bool, log_level: LogLevel, **parameters: Any) -> None:
            raise typer.Exit(run(body, Output(json, quiet), log_level, parameters))

        _, *own = inspect.signature(body, eval_str=True).parameters.values()
        common = [
            inspect.Parameter(
                key, inspect.Parameter.KEYWORD_ONLY, default=DEFAULTS[key], annotation=annotation
            )
            for key, annotation in COMMON.items()
        ]
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + common
        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
        # \b keeps the example on a line of its own.
        app.command(name, epilog=f"\b\nExample: leasehold {example}")(wrapper)
        return body

    return register


def run(body: Body, out: Output, log_level: str, parameters: dict[str, Any]) -> int:
    """Call `body`; returns the exit code, after every error was told in one message."""
    from cli.logs import to_stderr

    to_stderr(log_level)
    try:
        return body(out, **parameters) or int(out.lost)
    except (Exception, KeyboardInterrupt) as e:
        from cli.exits import before_job
        from protocol.errors import ActionStopped

        logging.getLogger(__name__).debug("the command failed", exc_info=True)
        out.error(ActionStopped() if isinstance(e, KeyboardInterrupt) else e)
        return before_job(e)


def stoppable(body: Callable[..., Awaitable[int | None]]) -> Body:
    """The asynchronous `body` as a command that a signal cancels; its imports come only then."""

    @functools.wraps(body)
    def wrapper(*arguments: Any, **parameters: Any) -> int | None:
        from cli.interrupt import run_stoppable

        return run_stoppable(functools.partial(body, *arguments, **parameters))

    return wrapper


def made_of(
    options: Mapping[str, tuple[Any, Any]], make: Callable[..., Any]
) -> Callable[[Callable[..., Any]], Body]:
    """The function of what `make` makes, after its Output, as one that has the options instead.

    options: annotation and default of each; `make` gets them by their names.
    """

    def decorate(body: Callable[..., Any]) -> Body:
        @functools.wraps(body)
        def wrapper(*arguments: Any, **parameters: Any) -> Any:
            out, *others = arguments
            given = {name: parameters.pop(name) for name in options}
            return body(out, make(**given), *others, **parameters)

        out, _, *own = inspect.signature(body, eval_str=True).parameters.values()
        added = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
            )
            for name, (annotation, default) in options.items()
        ]
        kept = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own]
        wrapper.__signature__ = inspect.Signature([out, *kept, *added])  # type: ignore[attr-defined]
        return wrapper

    return decorate
