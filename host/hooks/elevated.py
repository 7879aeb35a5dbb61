"""What a hook wants done, by root: vdsm runs its hooks as a user who may not.

The hook reads and writes vdsm's files as that user; only what is to be done goes to the program of
root (host/hooks/as_root.py), and an answer comes back.
"""

import contextlib
import subprocess
import sys

from host.hooks import order as orders
from host.hooks.order import LIMIT, Answer, Order
from host.hooks.program import FAILED

SUDO = ("sudo", "-n", "/usr/local/bin/leasehold-hook-localdisk")


def done(order: Order) -> Answer:
    """Have root do it; what went wrong root has told already, and this process exits as it did.

    The pipe to it stays open until it has ended: so it knows when we die, and stops.
    """
    with subprocess.Popen(SUDO, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it says why
            program.stdin.write(orders.encoded(order))
            program.stdin.flush()
        line = program.stdout.readline(LIMIT)
        status = program.wait()
    if status:
        sys.exit(status if status > 0 else FAILED)
    return orders.read_answer(line)
