"""What can be set of the REST interface; the engine's configuration file fills it."""

from typing import Annotated

import msgspec

from engine.host_files import HostFiles
from engine.webhook_urls import Rules

MIB = 1 << 20
# `max` of a list that asks for more, and of one that asks for nothing.
LARGEST_PAGE = 10_000
PAGE = 1000

_Count = Annotated[int, msgspec.Meta(ge=1)]
_Seconds = Annotated[float, msgspec.Meta(gt=0)]


class RestSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of what one client can take, and how long things last."""

    body_limit: _Count = MIB  # bytes of one request
    depth: _Count = 32  # of elements in elements
    elements: _Count = 10_000  # of one request
    token_seconds: _Seconds = 12 * 3600.0
    # Failed logins of one address or one name within the window; more are not even tried.
    login_failures: _Count = 10
    login_window: _Seconds = 60.0
    rate: _Seconds = 500.0  # requests a second of one address, and of one token
    burst: _Count = 2000
    at_once: _Count = 4000  # requests; of more the next is refused (503)
    logins_at_once: _Count = 64  # that wait for their turn; two passwords are checked at a time
    body_seconds: _Seconds = 30.0  # until a request has arrived in full
    action_seconds: _Seconds = 600.0  # how long a call with async=false waits for its command
    hosts: HostFiles = HostFiles()
    webhooks: Rules = Rules()
