"""A request becomes a call, and its end an answer. No error of a verb goes further than this."""

import time
from collections.abc import Collection
from dataclasses import dataclass

import structlog
from structlog.contextvars import bound_contextvars

from host import subject
from host.wire.call import Call, Dispatch, Peer
from protocol import jsonrpc
from protocol.errors import Error
from protocol.jsonrpc import Forbidden, InternalError, Received, Refused, Request

log = structlog.stdlib.get_logger("host.wire")


@dataclass(frozen=True)
class Caller:
    """reading: the methods that a monitor may call. longest: bytes of an answer."""

    dispatch: Dispatch
    reading: Collection[str]
    longest: int

    async def answer(self, received: Received, peer: Peer, flow_id: str) -> bytes:
        """Run what was received, in its order; the body of the answer, empty for none."""
        replies = []
        for item in received.items:
            about = subject.of_call(item.params) if isinstance(item, Request) else {}
            with bound_contextvars(**about):
                reply = await self._one(item, peer, flow_id)
            if not item.notification:
                replies.append(reply)
        return jsonrpc.answer(replies, array=received.array)

    async def _one(self, item: Request | Refused, peer: Peer, flow_id: str) -> bytes:
        started = time.monotonic()
        method = item.method if isinstance(item, Request) else ""
        error: Exception | None = None
        try:
            reply = await self._result(item, peer, flow_id)
        except Exception as e:
            error = e
            reply = _failure(item.id, method, e)
        quiet = error is None and method in self.reading
        (log.debug if quiet else log.info)(
            "call",
            method=method,
            flow_id=flow_id,
            peer=peer.name,
            role=peer.role,
            milliseconds=round((time.monotonic() - started) * 1000, 1),
            code=0 if error is None else jsonrpc.error_object(error)["code"],
        )
        return reply

    async def _result(self, item: Request | Refused, peer: Peer, flow_id: str) -> bytes:
        if isinstance(item, Refused):
            raise item.error
        if peer.role != "engine" and item.method not in self.reading:
            raise Forbidden(item.method, peer.role)
        value = await self.dispatch(Call(item.method, item.params, flow_id, peer))
        try:
            reply = jsonrpc.result(item.id, value)
        except (TypeError, ValueError) as e:
            log.exception("the result of a verb is no JSON", method=item.method)
            raise InternalError(item.method, str(e)) from None
        if len(reply) > self.longest:
            raise InternalError(item.method, f"it has {len(reply)} bytes: ask for less")
        return reply


def _failure(id: jsonrpc.Id, method: str, error: Exception) -> bytes:
    if not isinstance(error, Error):
        log.error("a verb failed unexpectedly", method=method, exc_info=error)
    try:
        return jsonrpc.failure(id, error)
    except (TypeError, ValueError):
        log.error("an error of a verb is no JSON", method=method, exc_info=error)
        return jsonrpc.failure(id, InternalError(method, type(error).__name__))
