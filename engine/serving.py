"""The engine as a service: its database, its hosts, its commands, its doors, from start to stop."""

import resource
from functools import partial
from importlib.metadata import version

import structlog
import trio
from starlette.requests import Request
from starlette.responses import Response

from engine import state_folder
from engine.config import Config
from engine.health import Health
from engine.metrics import Measured, keep_counted
from engine.rest.app import application, fault_response
from engine.rest.faults import fault_of
from engine.sse import Stream
from engine.tls import Certificate
from engine.webhooks import Webhooks
from engine.whole import Engine, engine
from processes import http_door
from processes.http_door import Bounds, Door
from processes.monitoring import serve_http
from processes.notify import Notifier
from processes.service import Signals, obey, signalled
from protocol.errors import BadParameter
from protocol.settings import split_address

log = structlog.get_logger()

HEADER_LIMIT = 32 << 10  # bytes of the request line and the headers
PATIENCE = 60.0  # seconds for a whole request, and between two of one connection
FAREWELL = 5.0  # seconds for requests that are under way when we are to stop
LOOPBACK = ("127.", "[::1]", "localhost")


async def serve(config: Config, notifier: Notifier) -> None:
    """Serve until a signal asks to stop; commands stop where they are, and go on at the next start.

    The first SIGTERM or SIGINT lets requests in flight be answered, a second one does not. SIGHUP
    has the certificate read again. Signals may have been blocked until now.
    Raises BadParameter (1000): a setting is no good here; EngineBusy (4408): another engine has the
    database; DatabaseGone (4407); WrongState (4403): the database is of a newer engine; OSError.
    """
    await signalled(partial(_served, config, notifier))


async def _served(config: Config, notifier: Notifier, signals: Signals) -> None:
    certificate = _certificate(config)
    _check_plain(config)
    await trio.to_thread.run_sync(state_folder.make, config)
    _raise_limit()
    async with trio.open_nursery() as nursery:
        stop = _Stop(nursery.cancel_scope)
        nursery.start_soon(
            partial(
                obey,
                signals,
                stop=stop.ask,
                read_again=partial(_read_again, certificate),
                scope=nursery.cancel_scope,
            )
        )
        nursery.start_soon(notifier.stay_alive)
        async with engine(config, version("leasehold")) as made:
            await _open(made, certificate, notifier, stop)
            notifier.stopping("Stopping; commands go on at the next start")
            log.info("stopping; commands go on at the next start")
        nursery.cancel_scope.cancel()


class _Stop:
    """Before the engine serves, whoever asks to stop ends it at once."""

    def __init__(self, scope: trio.CancelScope) -> None:
        self.asked = trio.Event()
        self.serving = False
        self._scope = scope

    def ask(self) -> None:
        self.asked.set()
        if not self.serving:
            self._scope.cancel()


async def _open(
    made: Engine, certificate: Certificate | None, notifier: Notifier, stop: _Stop
) -> None:
    """Let clients in until it is asked to stop, and for a moment after that."""
    config = made.config
    stream = Stream(made.database, made.bus, config.limits.listeners)
    made.metrics.streams.set_function(lambda: stream.listening)
    rest = Measured(application(made.api, more=[stream.route(_refused)]), made.metrics)
    door = Door(rest, Bounds(config.listen.connections, HEADER_LIMIT, PATIENCE))
    async with trio.open_nursery() as doors:
        async with trio.open_nursery() as nursery:
            pages = []
            if config.listen.metrics:
                health = Health(made)
                pages = await nursery.start(serve_http, config.listen.metrics, made.metrics, health)
                nursery.start_soon(keep_counted, made.metrics.standing, made.database)
            nursery.start_soon(Webhooks(made.database, made.bus, config.webhooks).run)
            names = await _listen(config, certificate, door, nursery, doors)
            stop.serving = True
            log.info("ready", doors=names, metrics=pages, hosts=len(made.fleet.views()))
            notifier.ready(f"Serving at {', '.join(names)}")
            await stop.asked.wait()
            nursery.cancel_scope.cancel()
        # Nobody comes in any more; who is in may finish.
        doors.cancel_scope.deadline = trio.current_time() + FAREWELL
        stream.over.set()
        await door.close()


async def _listen(
    config: Config,
    certificate: Certificate | None,
    door: Door,
    nursery: trio.Nursery,
    doors: trio.Nursery,
) -> list[str]:
    """The urls that are listened on. Raises BadParameter (1000)."""
    names = []
    for addresses, setting, secret in (
        (config.listen.tls, "listen.tls", certificate),
        (config.listen.plain, "listen.plain", None),
    ):
        for address in addresses:
            found = await http_door.listeners(address, setting)
            scheme = "http" if secret is None else "https"
            names += [f"{scheme}://{http_door.name(one)}" for one in found]
            enter = partial(_enter, door, secret)
            nursery.start_soon(partial(trio.serve_listeners, enter, found, handler_nursery=doors))
    if not names:
        raise BadParameter("listen", "nobody could come in: set listen.tls or listen.plain")
    return names


async def _enter(door: Door, certificate: Certificate | None, stream: trio.SocketStream) -> None:
    await door.enter(stream, None if certificate is None else certificate.context)


def _refused(error: Exception, request: Request) -> Response:
    return fault_response(fault_of(error), request)


def _read_again(certificate: Certificate | None) -> None:
    if certificate is None:
        return
    try:
        certificate.read_again()
        log.info("certificate read again")
    except BadParameter as e:
        log.error("certificate not read, the former one stays in use", reason=str(e))


def _certificate(config: Config) -> Certificate | None:
    """None: without TLS."""
    files = config.certificates
    if not config.listen.tls or not (files.certificate and files.key):
        return None
    return Certificate(files.certificate, files.key)


def _check_plain(config: Config) -> None:
    """Passwords and tokens do not travel without TLS."""
    for address in config.listen.plain:
        host, _ = split_address(address)
        if host is None or not (host == "::1" or host.startswith(LOOPBACK)):
            raise BadParameter("listen.plain", f"{address} is no loopback address")


def _raise_limit() -> None:
    """As many descriptors as we may have: a connection is one. Source: getrlimit(2)."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
