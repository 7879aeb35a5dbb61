"""The agent of a host as a service: its jobs, its verbs, its doors, from start to stop."""

from functools import partial
from pathlib import Path

import structlog
import trio

from host import descriptors
from host.agent import agent
from host.config import Config
from host.dispatch import Dispatcher
from host.health import Health
from host.journal import Journal
from host.local_disk_start import look_after_start
from host.memberships import keep_joined
from host.metrics import Metrics, measured
from host.this_host import this_host
from host.wire.doors import Door, loopback_doors, tls_doors, unix_door
from host.wire.server import Server
from host.wire.tls import Certificates, Secrets
from processes.monitoring import serve_http
from processes.notify import Notifier
from processes.service import Signals, obey, signalled
from protocol.errors import BadParameter
from protocol.settings import split_address

log = structlog.get_logger()


async def serve(config: Config, hardware_id: str, notifier: Notifier) -> None:
    """Serve until a signal asks to stop; the workers of running jobs go on then.

    The first SIGTERM or SIGINT lets the calls in flight be answered, a second one does not. SIGHUP
    has the certificates read again. Signals may have been blocked until now. hardware_id: of this
    host, when the configuration names none.
    Raises BadParameter (1000): a setting is no good here; AcquireLockFailure (651): there is an
    agent with this journal already; OSError.
    """
    await signalled(partial(_served, config, hardware_id, notifier))


async def _served(config: Config, hardware_id: str, notifier: Notifier, signals: Signals) -> None:
    secrets = _secrets(config)
    await trio.to_thread.run_sync(_make_folders, config)
    journal = Journal(config.journal)
    jobs = config.jobs
    async with (
        agent(
            journal,
            concurrency=jobs.concurrency,
            total=jobs.rate,
            autodelete=jobs.autodelete,
        ) as made,
        this_host(made, journal, config, config.identity.hardware_id or hardware_id) as host,
        trio.open_nursery() as nursery,
    ):
        metrics = Metrics(host)
        pages = []
        if config.listen.metrics:
            pages = await nursery.start(serve_http, config.listen.metrics, metrics, Health(host))
        doors = await _doors(config, secrets)
        room = descriptors.limits(jobs.concurrency)
        dispatch = measured(Dispatcher(host), metrics)
        server = metrics.server = Server(
            dispatch, doors, events=made.registry.subscribe(), limits=room
        )
        nursery.start_soon(notifier.stay_alive)
        nursery.start_soon(
            partial(
                obey,
                signals,
                stop=server.stop,
                read_again=partial(_read_again, secrets),
                scope=nursery.cancel_scope,
            )
        )
        nursery.start_soon(keep_joined, host)
        nursery.start_soon(look_after_start, host)
        known = len(made.registry.list())
        log.info("ready", jobs=known, doors=[door.name for door in doors], metrics=pages)
        notifier.ready(f"{known} jobs known")
        await server.serve()
        notifier.stopping("Stopping; copies go on")
        log.info("stopping; copies go on", running=made.queue.running)
        nursery.cancel_scope.cancel()


def _read_again(secrets: Secrets | None) -> None:
    if secrets is None:
        return
    try:
        secrets.read_again()
        log.info("certificates read again")
    except BadParameter as e:
        log.error("certificates not read, the former ones stay in use", reason=str(e))


def _secrets(config: Config) -> Secrets | None:
    """None: without TLS."""
    files = config.certificates
    if not config.listen.tls or not (files.ca and files.certificate and files.key):
        return None
    return Secrets(Certificates(files.ca, files.certificate, files.key, files.names))


async def _doors(config: Config, secrets: Secrets | None) -> list[Door]:
    """All or none. Raises BadParameter; also when there is none to come in by."""
    listen = config.listen
    doors: list[Door] = []
    try:
        if listen.socket:
            doors.append(await unix_door(listen.socket, monitors=listen.monitor_group))
        if secrets is not None:
            for address in listen.tls:
                doors += await tls_doors(*split_address(address), secrets)
        for address in listen.plain:
            host, port = split_address(address)
            doors += await loopback_doors(host or "*", port)
        if not doors:
            raise BadParameter("listen", "nobody could come in: set listen.socket or listen.tls")
    except BaseException:
        for door in doors:
            door.close()
        raise
    return doors


def _make_folders(config: Config) -> None:
    """Those of the agent itself; nothing of theirs is for other users. Raises BadParameter."""
    socket = config.listen.socket
    folders = [config.folders.state, str(config.journal)]
    try:
        for folder in folders:
            Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        if socket:  # members of a group may come in there
            Path(socket).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as e:
        raise BadParameter("folders", f"{e.filename}: {e.strerror}") from None
