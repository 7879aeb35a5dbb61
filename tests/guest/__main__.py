"""Runs tests of `inside` in a guest: see tests/guest."""

import sys
import tempfile
from pathlib import Path

from tests.guest import suite
from tests.guest.reports import PREFIX


def main(arguments: list[str]) -> int:
    if arguments == ["--list"]:
        suite.write_list(suite.collected())
        return 0
    inside = Path(__file__).with_name("inside")
    words = [
        PREFIX + word if (inside / word.partition("::")[0]).is_file() else word
        for word in arguments
    ]
    if not any(word.startswith(PREFIX) for word in words):
        words.append(PREFIX)
    with tempfile.TemporaryDirectory(prefix="lh-guest-disks-", dir="/var/tmp") as folder:
        outcome = suite.run(Path(folder), "--durations=10", *words, seconds=suite.FULL_TIME)
    if outcome.ended is None:
        print("the guest has ended", outcome.console, sep="\n")
        return 1
    print(outcome.ended.text)
    return outcome.ended.status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
