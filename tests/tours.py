"""The tours of the documents: commands in `console` blocks, run as one session in one shell."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).parents[1]
SECONDS = 120.0
MARK = "@@ end of the output, status"
# What differs between two runs, by what it becomes. The first that matches wins its text.
VARIABLE = (
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"),
    (r"/\S*?/tmp\.\w+", "/tmp/tour"),
    (r"[0-9]{10}( \([0-9: -]+ UTC\))?", "TIME"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "TIME"),
    (r"-t none .*\)", "FLAGS)"),  # as the file system of the temporary folder and the target allow
    (r"-t writethrough .*\)", "FLAGS)"),
    (r"-t none .*", "FLAGS"),
    (r"[0-9.]+[KMGT]?/s", "RATE"),
    (r"in [0-9.]+ s", "in SECONDS"),
    (r"^ +\d+ s  ", "SECONDS "),
    (r"took: +[0-9.]+ s", "took: SECONDS"),
    (r"copying \d+%(, [0-9.]+[KMGT]?)?", "copying SOME"),
    (r"\d+:\d\d:\d\d left", "TIME left"),
)
# Lines of which there may be more, or fewer, on another machine.
PROGRESS = re.compile(
    r"(leasehold:|[0-9a-f-]{36}) ((copying|preparing|flushing|running)\b.*|[a-z: ]+ \d+%.*)"
)
# A shell that is not interactive tells so of a job of its own that was killed.
KILLED = re.compile(r".*: line \d+: +\d+ Killed .*")


@dataclass(frozen=True)
class Step:
    """A command of a tour and the lines that the document shows below it."""

    command: str
    shown: tuple[str, ...]


def tour(document: Path) -> list[Step]:
    """The steps of all `console` blocks of a document."""
    blocks = re.findall(r"^```console\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL)
    steps = []
    for block in blocks:
        assert re.match(r"[$#] ", block), "a console block begins with a command"
        for text in re.split(r"^[$#] ", block, flags=re.MULTILINE)[1:]:
            command, *shown = text.splitlines()
            steps.append(Step(command, tuple(shown)))
    return steps


def normalised(line: str) -> str:
    for pattern, name in VARIABLE:
        line = re.sub(pattern, name, line)
    return line.rstrip()


def essential(lines: Iterable[str]) -> list[str]:
    """The lines that every run prints, normalised."""
    return [
        normalised(line)
        for line in lines
        if line and not PROGRESS.fullmatch(line) and not KILLED.fullmatch(line)
    ]


def script(steps: Iterable[Step]) -> str:
    """The tour for one shell; after each command comes MARK with its exit status."""
    lines = ["exec 2>&1"]
    for step in steps:
        # The next command may ask for `$?`, so the status is given back.
        lines += [step.command, f"{{ s=$?; echo; echo '{MARK}' $s; (exit $s); }}"]
    return "\n".join([*lines, ""])


def run(
    steps: Sequence[Step],
    folder: Path,
    environment: Mapping[str, str],
    inside: Sequence[str] = (),
) -> list[tuple[int, list[str]]]:
    """Exit status and output of each step. inside: the command that runs the shell, somewhere."""
    file = folder / "tour.sh"
    file.write_text(script(steps))
    # Not a pipe: what the tour leaves in the background would keep it open.
    with (folder / "printed").open("w+b") as printed:
        shell = subprocess.Popen(
            [*inside, "bash", str(file)],
            cwd=TOP,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            start_new_session=True,
        )
        try:
            shell.wait(SECONDS)
        except BaseException:  # it was not reaped, so the group is still its own
            os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
            raise
        printed.seek(0)
        text = printed.read().decode()
    *parts, _ = re.split(rf"\n{re.escape(MARK)} (\d+)\n", text)
    return [
        (int(status), output.splitlines())
        for output, status in zip(parts[::2], parts[1::2], strict=True)
    ]


def run_here(steps: Sequence[Step]) -> list[tuple[int, list[str]]]:
    """As a user without any state, in a short folder for sockets; nothing is left of it."""
    folder = Path(tempfile.mkdtemp(prefix="lh-", dir="/tmp"))
    own = {"TMPDIR": str(folder), "LC_ALL": "C.UTF-8", "HOME": str(folder)}
    environment = {**os.environ, **own}
    environment.pop("LEASEHOLD_HOME", None)
    try:
        return run(steps, folder, environment)
    finally:
        for pid in _family(folder):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def check(steps: Sequence[Step], results: Sequence[tuple[int, list[str]]]) -> None:
    """Each step printed what the document shows, and succeeded unless it asks for its status."""
    for number, (step, (status, output)) in enumerate(zip(steps, results, strict=False)):
        printed, shown = essential(output), essential(step.shown)
        assert printed == shown, f"{step.command}\n{printed}\n{shown}"
        asked = [later.command for later in steps[number + 1 : number + 2]] == ["echo $?"]
        assert asked or status == 0, f"{step.command}: status {status}"
    assert len(results) == len(steps)


def _family(folder: Path) -> list[int]:
    """What still runs of a tour, by its TMPDIR. Source: proc(5)."""
    mark = b"TMPDIR=" + os.fsencode(folder) + b"\0"
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                if mark in Path(f"/proc/{name}/environ").read_bytes():
                    found.append(int(name))
    return found
