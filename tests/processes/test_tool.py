"""Running a tool: gone when the body is left, dead when we are, bounded in all that it says."""

import ctypes
import errno
import json
import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trio

from processes import guard
from processes import tool as tool_module
from processes.tool import BACKGROUND, NO_LIMITS, NORMAL, PYTHON, Limits, Tool, run, spawned
from protocol.errors import (
    BadOutput,
    ConnectionLost,
    ImageInUse,
    InputOutputError,
    NoSpaceLeft,
    ToolFailed,
    ToolKilled,
    ToolMissing,
    ToolStalled,
)
from tests.servers import WAIT, ended, until, users

FOREVER = "1000000"  # seconds
STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
while True:
    signal.pause()
"""


def python(script: str, *arguments: object) -> list[str]:
    return [PYTHON, "-I", "-S", "-c", script, *map(str, arguments)]


def shell(script: str, *arguments: object) -> list[str]:
    return ["sh", "-c", script, "sh", *map(str, arguments)]


def reaped(pid: int) -> bool:
    """A zombie would still have its folder."""
    return not Path(f"/proc/{pid}").exists()


async def next_piece(tool: Tool) -> str | None:
    with trio.fail_after(WAIT):
        while (piece := await tool.piece(1)) == "":
            pass
    return piece


async def all_pieces(tool: Tool) -> list[str]:
    pieces = []
    while (piece := await next_piece(tool)) is not None:
        pieces.append(piece)
    return pieces


# --- output and end ---------------------------------------------------------------------------


async def test_the_output_of_a_tool_is_returned() -> None:
    assert await run(shell("printf 'a b\\n\\0c'")) == b"a b\n\0c"


async def test_standard_input_is_empty() -> None:
    assert await run(["cat"]) == b""


async def test_output_up_to_the_limit_is_taken_and_not_a_byte_more() -> None:
    argv = ["head", "-c", "100000", "/dev/zero"]
    assert len(await run(argv, output_limit=100_000)) == 100_000
    with pytest.raises(BadOutput, match="more than 99999 bytes"):
        await run(argv, output_limit=99_999)


async def test_endless_output_ends_the_tool(tmp_path: Path) -> None:
    with pytest.raises(BadOutput):
        await run(shell('exec cat /dev/zero 9>"$1"', tmp_path / "held"))
    assert users(tmp_path) == []


async def test_a_missing_tool_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match=r"qemu-img is not installed: install .* qemu-utils"):
        await run(["qemu-img", "--version"])
    with pytest.raises(ToolMissing, match=r"nbdcopy is not installed: install .* libnbd-bin"):
        await run(["nbdcopy", "--version"])


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("qemu-img: error while writing at byte 0: No space left on device", NoSpaceLeft),
        ("qemu-img: error while writing: Disk quota exceeded", NoSpaceLeft),
        ("nbdcopy: write at offset 0 failed: Input/output error", InputOutputError),
        ("Failed to connect to 'x': Connection refused", ConnectionLost),
        ("nbd_pread: recv: Connection reset by peer", ConnectionLost),
        ("nbd: server disconnected unexpectedly", ConnectionLost),
        ('Failed to get "write" lock\nIs another process using the image [x]?', ImageInUse),
        ("qemu-img: Could not open 'x': Permission denied", ToolFailed),
        ("", ToolFailed),
    ],
)
async def test_a_failure_is_classed_by_what_the_tool_said(
    text: str, error: type[ToolFailed]
) -> None:
    with pytest.raises(error) as caught:
        await run(shell('echo "$1" >&2; exit 3', text))
    assert type(caught.value) is error
    assert caught.value.status == 3
    assert caught.value.detail == text


async def test_a_tool_that_was_killed_is_told_by_its_signal() -> None:
    with pytest.raises(ToolKilled) as caught:
        await run(shell("echo 'Input/output error' >&2; kill -9 $$"))
    assert (caught.value.signal, caught.value.status) == (9, -9)


async def test_a_tool_that_gives_no_result_in_time_is_ended(tmp_path: Path) -> None:
    argv = shell('exec sleep "$1" 9>"$2"', FOREVER, tmp_path / "held")
    with pytest.raises(ToolStalled) as caught:
        await run(argv, limits=Limits(seconds=0.3))
    assert caught.value.seconds == 0.3
    assert users(tmp_path) == []


async def test_a_tool_that_closed_its_output_is_still_ended_in_time(tmp_path: Path) -> None:
    argv = shell('exec sleep "$1" 9>"$2" >&-', FOREVER, tmp_path / "held")
    with pytest.raises(ToolStalled):
        await run(argv, limits=Limits(seconds=0.3))
    assert users(tmp_path) == []


async def test_errors_without_end_neither_hang_the_tool_nor_fill_our_memory() -> None:
    flood = 'i=0; while [ $i -lt 9000 ]; do echo "complaint $i ........" >&2; i=$((i+1)); done'
    with trio.fail_after(WAIT), pytest.raises(ToolFailed) as caught:
        await run(shell(f"{flood}; exit 3"))
    assert caught.value.status == 3
    assert caught.value.detail.startswith("complaint 0 .")
    assert len(caught.value.detail) <= tool_module.TAIL_LIMIT


async def test_bytes_that_are_no_text_are_shown_all_the_same() -> None:
    with pytest.raises(ToolFailed, match="bad � byte"):
        await run(shell("printf 'bad \\377 byte' >&2; exit 1"))


# --- the end of the body ----------------------------------------------------------------------


async def test_a_tool_is_reaped_when_the_body_ends() -> None:
    async with spawned(["sleep", FOREVER]) as tool:
        assert not reaped(tool.pid)
    assert reaped(tool.pid)


async def test_a_tool_is_reaped_when_the_body_raises() -> None:
    tools: list[Tool] = []

    async def body() -> None:
        async with spawned(["sleep", FOREVER]) as tool:
            tools.append(tool)
            raise KeyError

    with pytest.raises(KeyError):
        await body()
    assert reaped(tools[0].pid)


async def test_a_tool_is_reaped_when_the_body_is_cancelled() -> None:
    with trio.CancelScope() as scope:
        async with spawned(["sleep", FOREVER]) as tool:
            scope.cancel()
            await tool.wait()
    assert scope.cancelled_caught
    assert reaped(tool.pid)


async def test_a_tool_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool_module, "TERM_WAIT", 0.1)
    with trio.CancelScope() as scope:
        async with spawned(python(STUBBORN)) as tool:
            assert await next_piece(tool) == "ready"
            scope.cancel()
            await trio.sleep_forever()
    assert reaped(tool.pid)
    assert await tool.wait() == -signal.SIGKILL


async def test_a_tool_may_clean_up_after_sigterm(tmp_path: Path) -> None:
    script = 'trap "echo > $1; exit 7" TERM; echo ready; while :; do sleep 0.01; done'
    async with spawned(shell(script, tmp_path / "cleaned")) as tool:
        assert await next_piece(tool) == "ready"
    assert (tmp_path / "cleaned").exists()
    assert await tool.wait() == 7


LEADER_GONE = """
import ctypes, os, sys, threading, time
def write():
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.01)
    os._exit(5)
threading.Thread(target=write).start()
ctypes.CDLL(None).syscall(int(sys.argv[2]), 0)
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the number of exit(2) differs")
async def test_a_tool_has_not_ended_while_one_of_its_threads_lives(tmp_path: Path) -> None:
    """/proc shows the leader as a zombie although another thread may still write."""
    go = tmp_path / "go"
    async with spawned(python(LEADER_GONE, go, 60)) as tool:
        status = Path(f"/proc/{tool.pid}/stat")
        await until(lambda: status.read_text().rpartition(")")[2].split()[0] == "Z")
        with trio.move_on_after(0.2) as early:
            await tool.wait()
        assert early.cancelled_caught
        go.touch()
        assert await tool.wait() == 5


async def test_a_tool_that_cannot_be_watched_is_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def none_left(pid: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "pidfd_open", none_left)
    with pytest.raises(OSError, match="Too many open files"):
        async with spawned(shell('exec sleep "$1" 9>"$2"', FOREVER, tmp_path / "held")):
            pass
    assert users(tmp_path) == []


async def test_nothing_leaks() -> None:
    async def once(script: str) -> None:
        with suppress(ToolFailed):
            await run(shell(script))

    await once("exit 1")  # what is opened once and kept
    before = os.listdir("/proc/self/fd")
    for _ in range(25):
        await once("echo out; echo err >&2")
        await once("kill -9 $$")
    assert len(os.listdir("/proc/self/fd")) == len(before)


async def test_a_tool_that_cannot_be_started_leaks_nothing(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ToolFailed) as caught:
        await run([str(broken)])
    assert caught.value.status == 127
    assert "not found" in caught.value.detail
    with pytest.raises(ValueError, match="null byte"):
        await run(["echo", "a\0b"])
    assert len(os.listdir("/proc/self/fd")) == len(before)


# --- what a tool gets from us -----------------------------------------------------------------

DESCRIPTORS = """
import json, os
def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
print(json.dumps([fd for fd in range(1024) if is_open(fd)]))
"""


async def test_exactly_the_chosen_descriptors_are_inherited(tmp_path: Path) -> None:
    chosen = os.open(tmp_path, os.O_RDONLY | os.O_CLOEXEC)
    other = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(other, True)
    try:
        assert json.loads(await run(python(DESCRIPTORS), inherit=[chosen])) == [0, 1, 2, chosen]
        assert json.loads(await run(python(DESCRIPTORS))) == [0, 1, 2]
        assert not os.get_inheritable(chosen)  # nor does another tool get it from now on
    finally:
        os.close(chosen)
        os.close(other)


async def test_arguments_arrive_untouched() -> None:
    arguments = ["", " ", "a b", "'", '"', "$HOME", "`id`", "a\nb", "-n", "--", "*", "é", "\\"]
    script = "import json, sys; print(json.dumps(sys.argv[1:]))"
    assert json.loads(await run(python(script, *arguments))) == arguments


async def test_the_environment_is_small_and_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CEPH_SECRET", "secret")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("LANGUAGE", "de")
    monkeypatch.setenv("LD_PRELOAD", "")
    lines = (await run(["env"])).decode().splitlines()
    environment = dict(line.split("=", 1) for line in lines)
    ours = {"PATH", "HOME", "TMPDIR", "SANLOCK_RUN_DIR", "LC_ALL"}
    assert set(environment) <= {*ours, "SHLVL"}  # bash keeps that in the environment
    assert environment["LC_ALL"] == "C.UTF-8"
    assert environment["PATH"] == os.environ["PATH"]


async def test_ctrl_c_at_the_terminal_does_not_reach_the_tool() -> None:
    async with spawned(["sleep", FOREVER]) as tool:
        assert os.getsid(tool.pid) == tool.pid
        assert os.getpgid(tool.pid) == tool.pid
        assert os.getsid(0) != tool.pid


def io_priority(pid: int) -> tuple[int, int]:
    """Class and level of a process. Source: ioprio_get(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    value = libc.syscall({"x86_64": 252, "aarch64": 31}[os.uname().machine], 1, pid)
    return value >> 13, value & 7


async def test_a_background_tool_gives_way_to_others() -> None:
    own = os.nice(0)
    argv = shell("echo ready; exec sleep 1000000")
    async with spawned(argv, priority=BACKGROUND) as tool:
        assert await next_piece(tool) == "ready"
        assert os.getpriority(os.PRIO_PROCESS, tool.pid) == min(19, own + 10)
        assert io_priority(tool.pid) == (2, 7)
    async with spawned(argv) as tool:
        assert await next_piece(tool) == "ready"
        assert os.getpriority(os.PRIO_PROCESS, tool.pid) == own
        assert io_priority(tool.pid) == io_priority(0)


async def test_the_limits_are_set_before_the_tool_runs() -> None:
    argv = shell("ulimit -t; ulimit -v")  # seconds, KiB
    limits = Limits(cpu=30, memory=1 << 30)
    assert (await run(argv, limits=limits)).split() == [b"30", b"1048576"]
    own = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_CPU, resource.RLIMIT_AS)]
    if own == [resource.RLIM_INFINITY] * 2:
        assert (await run(argv)).split() == [b"unlimited", b"unlimited"]


async def test_a_tool_that_burns_too_much_processor_time_is_killed() -> None:
    with pytest.raises(ToolKilled):
        await run(shell("while :; do :; done"), limits=Limits(cpu=1, seconds=60))


async def test_a_tool_that_takes_too_much_memory_fails() -> None:
    with pytest.raises(ToolFailed, match="MemoryError"):
        await run(python("bytearray(1 << 30)"), limits=Limits(memory=512 << 20))


async def test_the_bytes_that_a_tool_moved_can_be_seen(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(bytes(1 << 20))
    async with spawned(python(MOVED, tmp_path / "data")) as tool:
        assert await next_piece(tool) == "done"
        assert 1 << 20 <= tool.bytes_read() < 2 << 20
    assert tool.bytes_read() == 0  # it has ended


MOVED = """
import os, signal, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
while os.read(fd, 65536):
    pass
print("done", flush=True)
signal.pause()
"""


# --- pieces of progress -----------------------------------------------------------------------


async def test_pieces_are_split_at_cr_and_lf() -> None:
    async with spawned(shell("printf 'a\\rb\\nc\\r\\n\\r\\n (1/100%%)\\r d'")) as tool:
        assert await all_pieces(tool) == ["a", "b", "c", " (1/100%)", " d"]
        assert await tool.piece(1) is None


async def test_pieces_do_not_depend_on_how_the_bytes_arrive() -> None:
    script = "import os, sys\nfor b in sys.argv[1].encode(): os.write(1, bytes([b]))"
    async with spawned(python(script, "äöü\r(1.00/100%)\rend")) as tool:
        assert await all_pieces(tool) == ["äöü", "(1.00/100%)", "end"]


async def test_a_piece_is_bounded_when_no_line_end_comes() -> None:
    async with spawned(["head", "-c", "3000000", "/dev/zero"]) as tool:
        pieces = await all_pieces(tool)
    assert len(pieces) == 1
    assert len(pieces[0]) <= tool_module.PIECE_LIMIT


async def test_silence_gives_empty_pieces() -> None:
    async with spawned(shell("echo one; exec sleep 1000000")) as tool:
        assert await next_piece(tool) == "one"
        with trio.fail_after(WAIT):
            assert [await tool.piece(0.01) for _ in range(3)] == ["", "", ""]


async def test_noise_without_a_line_end_gives_empty_pieces_too() -> None:
    async with spawned(["cat", "/dev/zero"]) as tool:
        with trio.fail_after(WAIT):
            assert [await tool.piece(0.05) for _ in range(3)] == ["", "", ""]
            assert len(tool._rest) <= tool_module.PIECE_LIMIT


# --- our own death ----------------------------------------------------------------------------

PARENT = """
import sys, trio
from processes.tool import spawned
async def main():
    async with spawned(sys.argv[1:]) as tool:
        while await tool.piece(1) != "ready":
            pass
        print(tool.pid, flush=True)
        await trio.sleep_forever()
trio.run(main)
"""


@contextmanager
def parent_of(*argv: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process of ours that runs a tool which said `ready`, and a pidfd of the tool."""
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, *argv], cwd=root, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        pidfd = os.pidfd_open(int(process.stdout.readline()))
        try:
            yield process, pidfd
        finally:
            os.close(pidfd)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_tool_dies_with_its_parent(tmp_path: Path) -> None:
    with parent_of("sh", "-c", f"echo ready; exec sleep {FOREVER} 9>{tmp_path}/held") as (
        parent,
        pidfd,
    ):
        assert not select.select([pidfd], [], [], 0)[0]
        parent.kill()
        assert select.select([pidfd], [], [], WAIT)[0]
    assert users(tmp_path) == []


def test_a_tool_that_ignores_every_other_signal_dies_with_its_parent() -> None:
    with parent_of(*python(STUBBORN)) as (parent, pidfd):
        parent.kill()
        assert select.select([pidfd], [], [], WAIT)[0]


def guarded(limits: Limits, parent: int, *argv: str | Path) -> list[str]:
    """The command, as if `parent` had started it."""
    command = guard._guard(limits, NORMAL)
    own = command.index(str(os.getpid()))
    return [*command[:own], str(parent), *command[own + 1 :], *map(str, argv)]


@pytest.mark.parametrize("limits", [NO_LIMITS, Limits(cpu=60, memory=1 << 30)])
def test_a_tool_never_runs_when_its_parent_died_before_it_could_ask(
    tmp_path: Path, limits: Limits
) -> None:
    """Between fork and prctl no signal would come: the guard looks who its parent is."""
    sign = tmp_path / "ran"
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    touch = ("/usr/bin/touch", sign)
    assert subprocess.run(guarded(limits, gone.pid, *touch), check=False).returncode == 125
    assert not sign.exists()
    assert subprocess.run(guarded(limits, os.getpid(), *touch), check=False).returncode == 0
    assert sign.exists()


@pytest.mark.parametrize("limits", [NO_LIMITS, Limits(cpu=60, memory=1 << 30)])
async def test_signals_that_python_ignores_are_not_ignored_by_the_tool(limits: Limits) -> None:
    """Else a tool whose reader is gone would never learn of it."""
    line = await run(["grep", "SigIgn", "/proc/self/status"], limits=limits)
    ignored = int(line.split()[1], 16)
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT):
        assert not ignored & (1 << (number - 1))


@pytest.mark.parametrize("limits", [NO_LIMITS, Limits(cpu=60, memory=1 << 30)])
async def test_arguments_come_as_they_are_and_the_name_of_the_tool_is_short(limits: Limits) -> None:
    """Whatever starts it must not read them."""
    odd = ["", "-x", "--", "*", "a  b", "$(id)", "`id`", "'", '"', "\\", "\n", "\xff"]
    show = 'import sys; print(*map(ascii, sys.argv[1:]), sep="\\n")'
    lines = await run(["python3", "-c", show, *odd], limits=limits)
    assert lines.decode().splitlines() == [ascii(one) for one in odd]
    assert await run(["sh", "-c", "tr '\\0' '\\n' </proc/$$/cmdline"], limits=limits) == (
        b"sh\n-c\ntr '\\0' '\\n' </proc/$$/cmdline\n"
    )


async def test_nothing_in_the_environment_of_a_tool_is_run_by_what_starts_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "evil").write_text(f"touch {tmp_path}/ran\n")
    evil = {"BASH_ENV": f"{tmp_path}/evil", "ENV": f"{tmp_path}/evil"}
    evil |= {"BASH_FUNC_exec%%": f"() {{ touch {tmp_path}/ran; }}", "SHELLOPTS": "noexec"}
    assert await run(["echo", "fine"], environment=evil) == b"fine\n"
    assert not (tmp_path / "ran").exists()


async def test_a_glance_tells_what_was_printed_since_the_last_one(tmp_path: Path) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    async with spawned(shell(f"echo one; echo two; read _ <{go}; echo three; printf rest")) as tool:
        seen: list[str] = []
        while seen != ["one", "two"]:
            seen += await tool.glance(0.02) or []
        assert await tool.glance(0.02) == []
        go.write_text("\n")
        while (pieces := await tool.glance(0.02)) is not None:
            seen += pieces
        assert seen == ["one", "two", "three"]
        assert await tool.glance(0.02) is None
        await tool.check()


async def test_a_tool_that_prints_more_than_a_pipe_holds_comes_to_its_end() -> None:
    lines = 0
    async with spawned(shell("i=0; while [ $i -lt 50000 ]; do echo $i; i=$((i+1)); done")) as tool:
        while (pieces := await tool.glance(0.05)) is not None:
            lines += len(pieces)
        await tool.check()
    assert lines == 50000


async def test_a_tool_outlives_the_idle_worker_threads_of_trio() -> None:
    """The signal at the parent's death follows the *thread* that forked, and a worker thread of
    trio ends after ten idle seconds. So this waits longer than that, and cannot be faster."""

    async def threads() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(trio.to_thread.run_sync, lambda: None)

    await threads()  # a thread is there, whichever was to start the tool
    async with spawned(["sleep", FOREVER]) as tool:
        await threads()
        for _ in range(2):
            await trio.sleep(6.5)  # 13 s; then the threads of before are gone
        assert not ended(tool.pid, 0)
        await threads()
        assert not ended(tool.pid, 0)
