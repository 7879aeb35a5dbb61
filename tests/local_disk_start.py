"""A start of a VM, as a hook has it done: one local disk is prepared without an agent.

It writes what it hears, one JSON object a line: `{"progress": text}`, at last `{"prepared": ...}`
or `{"error": ...}`.
"""

import json
import os
import signal
from pathlib import Path
from typing import Any, TextIO

import trio

from host.config_file import load
from host.local_disks import Prepared, PrepareRequest, in_foreground, prepared
from jobs.progress import Progress
from protocol.errors import ActionStopped, Error, to_rpc
from protocol.groups import telling

HARDWARE_ID = "00000000-0000-4000-8000-000000000001"


def run(config: str, request: dict[str, Any], environment: dict[str, str], told: str) -> None:
    """In a process of its own. environment: what it has besides. told: the file to write."""
    os.environ.update(environment)
    with open(told, "w", buffering=1, encoding="utf-8") as file:
        try:
            made = trio.run(_stoppable, config, request, file)
        except (Error, ExceptionGroup) as e:
            _tell(file, error=to_rpc(telling(e)))
        else:
            _tell(file, prepared=made.to_rpc())


async def _stoppable(config: str, request: dict[str, Any], file: TextIO) -> Prepared:
    """As hooks and the command: a signal cancels it. Raises ActionStopped."""
    made: Prepared | None = None
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            async def stop() -> None:
                async for _ in signals:
                    nursery.cancel_scope.cancel()

            nursery.start_soon(stop)
            made = await _start(config, request, file)
            nursery.cancel_scope.cancel()
    if made is None:
        raise ActionStopped
    return made


async def _start(config: str, request: dict[str, Any], file: TextIO) -> Prepared:
    here = await in_foreground(load(Path(config), {}, {}), HARDWARE_ID)

    def progress(new: Progress) -> None:
        _tell(file, progress=new.stage)

    return await prepared(here, PrepareRequest(**request), progress)


def _tell(file: TextIO, **message: object) -> None:
    file.write(json.dumps(message) + "\n")
