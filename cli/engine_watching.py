"""Events of an engine are followed: server-sent events, through restarts of the engine."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import trio

from cli.engine_client import OURS, Engine, Session, read, told
from cli.engine_following import progress_of
from cli.engine_text import moment
from cli.output import Output
from cli.progress import line
from protocol.errors import CannotConnect, ConnectionLost

RETRY = 1.0  # seconds between two tries to connect
SILENCE = 60.0  # seconds; there is a heart-beat more often
LONGEST = 4 << 20  # characters of one line

AUDIT = "audit.added"

Event = dict[str, Any]


async def watched(engine: Engine, kinds: list[str], out: Output) -> None:
    """Print events until cancelled.

    Raises CannotConnect, ConnectionLost: the engine is gone for longer than an answer may take; and
    Reported.
    """
    last, met = "", False
    deadline: float | None = None
    while True:
        try:
            async with engine.connected() as session, _opened(session, kinds, last) as answer:
                if not met or deadline is not None:
                    out.note(f"following the events of {engine.url}")
                met, deadline = True, None
                async for event in events(answer.aiter_lines()):
                    last = event.get("id", last)
                    _print(event, out)
        except (CannotConnect, ConnectionLost) as e:
            if not met:
                raise
            now = trio.current_time()
            if deadline is None:
                deadline = now + engine.timeout
                out.note(f"{e}; trying again for {engine.timeout:g} s")
            if now >= deadline:
                raise
        await trio.sleep(RETRY)


@asynccontextmanager
async def _opened(
    session: Session, kinds: Iterable[str], last: str
) -> AsyncGenerator[httpx.Response]:
    """Raises as Session.get; in the body, too."""
    headers = {**session.headers(), "accept": "text/event-stream"}
    if last:
        headers["last-event-id"] = last
    params = {"kind": list(kinds)}
    with told(session.engine.url):
        async with session.client.stream(
            "GET",
            f"{OURS}/events",
            headers=headers,
            params=params,
            timeout=httpx.Timeout(session.engine.timeout, read=SILENCE),
        ) as answer:
            if not answer.is_success:
                await answer.aread()
                read(answer, session.engine.url)
            yield answer


async def events(lines: AsyncIterator[str]) -> AsyncIterator[Event]:
    """The events of a stream: kind, id where there is one, at, object, data.

    Source: HTML Living Standard, server-sent events.
    """
    fields: dict[str, str] = {}
    async for text in lines:
        if not text:
            if "data" in fields and (event := _event(fields)) is not None:
                yield event
            fields = {}
        elif not text.startswith(":") and len(text) <= LONGEST:
            name, _, value = text.partition(":")
            fields[name] = value.removeprefix(" ")


def _event(fields: Mapping[str, str]) -> Event | None:
    """None: it cannot be read."""
    try:
        body = msgspec.json.decode(fields["data"], type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError):
        return None
    number = {"id": fields["id"]} if "id" in fields else {}
    return {**body, "kind": fields.get("event", "message"), **number}


def _print(event: Event, out: Output) -> None:
    data = event.get("data")
    if not out.json and event["kind"] != AUDIT and isinstance(data, Mapping) and "text" in data:
        return  # the same stands in the audit log, which was just shown
    out.result(event, text_of(event))


def text_of(event: Event) -> str:
    """A line for people."""
    data = event.get("data")
    facts = data if isinstance(data, Mapping) else {}
    head = f"{moment(event.get('at'))}  {event['kind']}"
    if event["kind"] == "job.progress":
        return f"{head}  {event.get('object')}  {line(_progress(facts))}"
    if "text" in facts:
        return f"{head}  {facts['text']}"
    rest = ", ".join(f"{key}={value}" for key, value in facts.items() if value not in (None, ""))
    return f"{head}  {event.get('object')}  {rest}".rstrip()


def _progress(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {"status": str(facts.get("stage") or "running"), **progress_of(facts)}


def entry(row: Mapping[str, Any]) -> str:
    """A line for an event of oVirt's API; its time is in milliseconds."""
    at = row.get("time")
    when = moment(at / 1000) if isinstance(at, int | float) else ""
    user = row.get("user")
    who = user.get("user_name", "") if isinstance(user, Mapping) else ""
    return f"{when}  {row.get('severity')}  {who}  {row.get('description')}"
