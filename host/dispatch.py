"""A call becomes a verb. Whatever a client sends, it ends in a result or in an error."""

from collections.abc import Mapping
from typing import Any

import structlog
from structlog.contextvars import bound_contextvars

from host.this_host import ThisHost
from host.verbs.table import VERBS
from host.verbs.verb import Verb, decoded
from host.wire.call import Call
from protocol.errors import Error, to_rpc
from protocol.groups import telling
from protocol.jsonrpc import Forbidden, MethodNotFound
from protocol.reported import Reported

log = structlog.get_logger()


class Dispatcher:
    """Calls verbs of one host. It is the `dispatch` that the server wants."""

    def __init__(self, host: ThisHost, verbs: Mapping[str, Verb] = VERBS) -> None:
        self._host = host
        self._verbs = verbs

    async def __call__(self, call: Call) -> Any:
        """The result of the verb; true for nothing, because null crashes some clients.

        Raises nothing but protocol.errors.Error: MethodNotFound, Forbidden, BadParameter (1000),
        those of the verb, and code 100 for what nobody expected, which is logged.
        """
        with bound_contextvars(flow_id=call.flow_id, method=call.method, peer=call.peer.name):
            try:
                result = await self._called(call)
            except Error:
                raise
            except Exception as e:
                error = telling(e)
                if isinstance(error, Error):
                    raise error from None
                log.exception("a verb failed unexpectedly")
                raise Reported(to_rpc(error)) from None
        return True if result is None else result

    async def _called(self, call: Call) -> Any:
        verb = self._verbs.get(call.method)
        if verb is None:
            raise MethodNotFound(call.method)
        if call.peer.role != "engine" and not verb.reads:
            raise Forbidden(call.method, call.peer.role)
        params = decoded(verb, call.params)
        call.params.clear()  # what nobody knows may be large, and the verb may last long
        return await verb.handler(self._host, params, call.flow_id)
