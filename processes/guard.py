"""Become a tool, unless the process that started it is gone.

Run as `setpriv --pdeathsig KILL ... python -I -S guard.py PARENT NICE CPU MEMORY TOOL [ARG...]`;
it replaces itself by TOOL, so the process id stays.

The order matters: setpriv has asked for the signal at the parent's death, now look whether the
parent is still there. One that died before the request is noticed by the look; one that dies
after it, by the signal. Source: prctl(2), PR_SET_PDEATHSIG, which is kept across execve.

It runs before every tool, so it imports nothing of ours and only what is built into the
interpreter: `signal` and `ctypes` would take as long again as all the rest.
"""

import os
import sys

# The private module on purpose: `signal` wraps it in enums, which takes 3 ms to import.
from _signal import SIG_DFL, SIGPIPE, SIGXFSZ, signal  # type: ignore[import-not-found]

PARENT_GONE = 125
CANNOT_EXECUTE = 126


def main(argv: list[str]) -> int:
    parent, nice, cpu, memory = map(int, argv[1:5])
    tool = argv[5:]
    if os.getppid() != parent:
        return PARENT_GONE
    if nice:
        os.nice(nice)
    if cpu or memory:
        limit(cpu, memory)
    for number in (SIGPIPE, SIGXFSZ):  # the interpreter ignores them
        signal(number, SIG_DFL)
    try:
        os.execv(tool[0], [os.path.basename(tool[0]), *tool[1:]])  # messages begin with it
    except OSError as e:
        print(f"{tool[0]}: {e.strerror}", file=sys.stderr)
    return CANNOT_EXECUTE


def limit(cpu: int, memory: int) -> None:
    import resource  # noqa: PLC0415 - most tools have no limits

    if cpu:
        resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    if memory:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


if __name__ == "__main__":
    sys.exit(main(sys.argv))
