"""Named points of the verbs at which tests kill the process, to see that nothing is half made."""

import os
import signal

VARIABLE = "LEASEHOLD_DIE_AT"  # "verb:step"


def reached(verb: str, step: str) -> None:
    """`step` of `verb` was just done."""
    if os.environ.get(VARIABLE) == f"{verb}:{step}":
        os.kill(os.getpid(), signal.SIGKILL)
