"""Become a tool that dies with the process that started it.

Run as `python -I -S guard.py PARENT NICE IO_CLASS IO_LEVEL CPU MEMORY TOOL [ARG...]`; it replaces
itself by TOOL, so the process id stays. Imports nothing of ours: it must start in a few
milliseconds.

The order matters: first ask for the signal, then look whether the parent is still there. A
parent that died before the request is noticed by the look; one that dies after it, by the signal.
Source: prctl(2) PR_SET_PDEATHSIG (kept across execve), ioprio_set(2).
"""

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1
SYS_IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "ppc64le": 273, "s390x": 282}
IOPRIO_WHO_PROCESS = 1
IOPRIO_CLASS_SHIFT = 13
PARENT_GONE = 125
CANNOT_EXECUTE = 126


def main(argv: list[str]) -> int:
    parent, nice, io_class, io_level, cpu, memory = map(int, argv[1:7])
    tool = argv[7:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        print(f"prctl: {os.strerror(ctypes.get_errno())}", file=sys.stderr)
        return CANNOT_EXECUTE
    if os.getppid() != parent:
        return PARENT_GONE
    if nice:
        os.nice(nice)
    number = SYS_IOPRIO_SET.get(os.uname().machine)
    if io_class and number:  # a courtesy: the copy is right without it
        priority = (io_class << IOPRIO_CLASS_SHIFT) | io_level
        libc.syscall(number, IOPRIO_WHO_PROCESS, 0, priority)
    if cpu:
        resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    if memory:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    for number_ in (signal.SIGPIPE, signal.SIGXFSZ):  # the interpreter ignores them
        signal.signal(number_, signal.SIG_DFL)
    try:
        os.execv(tool[0], [os.path.basename(tool[0]), *tool[1:]])  # messages begin with it
    except OSError as e:
        print(f"{tool[0]}: {e.strerror}", file=sys.stderr)
    return CANNOT_EXECUTE


if __name__ == "__main__":
    sys.exit(main(sys.argv))
