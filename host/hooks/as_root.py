"""The one program that vdsm's hooks may run as root: an order on standard input, an answer on
standard output, words on standard error. It takes no arguments and reads no file of its caller.
"""

import os
import sys

import trio

from host import config_file
from host.hooks import order as orders
from host.hooks.doing import worked
from host.hooks.order import LIMIT, Answer
from host.hooks.program import Refused, run
from host.hooks.work import stoppable
from processes import logs

STDIN, STDOUT = 0, 1


def main() -> None:
    """The entry point of `leasehold-hook-localdisk`."""
    run(_done)


def _done() -> None:
    if len(sys.argv) > 1:
        raise Refused("it takes no arguments: hooks of vdsm run it")
    logs.set_up(logs.Style("warning", "text"))
    order = orders.read_order(_line())
    config = config_file.load()

    async def until_given_up() -> Answer:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch, nursery.cancel_scope)
            answer = await worked(order, config)
            nursery.cancel_scope.cancel()
            return answer
        raise Refused("the hook that asked for it is gone")

    os.write(STDOUT, orders.encoded(stoppable(until_given_up)))


def _line() -> bytes:
    """Of standard input, and nothing after it, which nobody would see come."""
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(STDIN, LIMIT + 1 - len(line)) if len(line) <= LIMIT else b""
        if not part:
            raise Refused("there is no order on standard input")
        line += part
    return line


async def _watch(scope: trio.CancelScope) -> None:
    """Cancel when the hook is gone: standard input ends."""
    while True:
        await trio.lowlevel.wait_readable(STDIN)
        if not os.read(STDIN, LIMIT):
            scope.cancel()
            return
