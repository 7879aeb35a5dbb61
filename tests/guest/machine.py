"""Boots guests in QEMU, as processes of the test that asks: each is a host of its own.

Without hardware acceleration, which is not there in every container: a boot takes some six seconds.
Bounded everywhere; a guest ends with the body that it was booted for, or with its test's process.
"""

import json
import os
import selectors
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import SEARCH_PATH
from tests.guest import payload

BUILD_TIME = 900.0  # seconds; its packages come over the network
BOOT_TIME = 180.0  # on a machine that does much else
# A kernel whose timer the emulation has lost stands still for ever, which is no matter of ours. It
# happens while it boots, rarely, on a machine that does much else.
BOOTS = 3
STALLED = "rcu_preempt detected stalls"
END_TIME = 30.0
COMMAND_TIME = 120.0
CONSOLE_LINES = 60
CHUNK = 1 << 16
PYTHON = str(payload.ROOT / ".venv" / "bin" / "python")
LEASEHOLD = str(payload.ROOT / ".venv" / "bin" / "leasehold")


class GuestGone(Exception):
    """It has ended: was reset, powered off or killed."""


@dataclass(frozen=True)
class Disk:
    """A disk of a guest, /dev/guest/<name> there; its partitions are <name>1, <name>2 ...

    shared: several guests have it. cache: of QEMU; unsafe does not wait for this host's storage,
    and is as good for all that ends with the guest only.
    """

    name: str
    path: Path
    shared: bool = False
    cache: str = "unsafe"

    @classmethod
    def new(cls, folder: Path, name: str, size: int, *, shared: bool = False) -> "Disk":
        """An empty one of `size` bytes, sparse, in a folder of this host."""
        path = folder / f"{name}.disk"
        with path.open("xb") as file:
            file.truncate(size)
        return cls(name, path, shared)

    def options(self) -> list[str]:
        drive = f"file={self.path},if=none,id={self.name},format=raw,cache={self.cache}"
        device = f"virtio-blk-pci,drive={self.name},serial={self.name}"
        if self.shared:
            drive, device = f"{drive},file.locking=off", f"{device},share-rw=on"
        return ["-drive", f"{drive},discard=unmap", "-device", device]


@dataclass(frozen=True)
class Ended:
    """status: exit status of a command, or minus the signal. text: all that it printed."""

    status: int
    text: str

    def json(self) -> Any:
        """The one object that it printed, whatever other lines."""
        (line,) = [line for line in self.text.splitlines() if line.startswith("{")]
        return json.loads(line)


@dataclass
class Command:
    """A command that was started in a guest."""

    guest: "Guest"
    number: int
    argv: Sequence[str]
    text: str = ""
    status: int | None = None

    def wait(self, seconds: float = COMMAND_TIME) -> Ended:
        """Wait for its end. Raises GuestGone, AssertionError: it did not end."""
        self.guest.until(lambda: self.status is not None, seconds, f"end of {self.argv}", self)
        assert self.status is not None
        return Ended(self.status, self.text)

    def printed(self, text: str, seconds: float = COMMAND_TIME) -> None:
        """Wait until it has printed this."""

        def there() -> bool:
            assert self.status is None or text in self.text, f"{self.argv}: {self.text}"
            return text in self.text

        self.guest.until(there, seconds, f"{text!r} of {self.argv}", self)

    def signal(self, number: int) -> None:
        self.guest.send({"signal": number, "of": self.number})


@dataclass
class Guest:
    """A guest that has booted. Not thread safe."""

    process: subprocess.Popen[bytes]
    folder: Path
    control: socket.socket
    _commands: dict[int, Command] = field(default_factory=dict)
    _ready: bool = False
    _rest: bytes = b""

    def start(
        self, *argv: object, stdin: str = "", env: Mapping[str, str] = {}, cwd: object = "/root"
    ) -> Command:
        """Start a command, without a shell."""
        number = len(self._commands) + 1
        words = [str(word) for word in argv]
        self._commands[number] = command = Command(self, number, words)
        self.send(
            {"start": number, "argv": words, "stdin": stdin, "env": dict(env), "cwd": str(cwd)}
        )
        return command

    def run(self, *argv: object, seconds: float = COMMAND_TIME, **options: Any) -> Ended:
        """Run a command to its end."""
        return self.start(*argv, **options).wait(seconds)

    def must(self, *argv: object, seconds: float = COMMAND_TIME, **options: Any) -> str:
        """Run a command that has to succeed; what it printed."""
        ended = self.run(*argv, seconds=seconds, **options)
        assert ended.status == 0, f"{argv} ended with {ended.status}: {ended.text}"
        return ended.text

    @property
    def report(self) -> Path:
        """What the guest wrote to its port "report", /dev/guest/report."""
        return self.folder / "report"

    def console(self) -> str:
        """The last lines of its console."""
        text = (self.folder / "console").read_text(errors="replace")
        return "\n".join(text.splitlines()[-CONSOLE_LINES:])

    @property
    def over(self) -> bool:
        """It has ended; a reset ends it, too."""
        return self.process.poll() is not None

    def kill(self) -> None:
        """As if its power were cut."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """Have it write what it still has to, and power off; killed when it does not."""
        try:
            self.send({"end": True})
            self.process.wait(END_TIME)
        except (GuestGone, subprocess.TimeoutExpired):
            pass
        finally:
            self.kill()

    def send(self, message: dict[str, Any]) -> None:
        try:
            self.control.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            raise GuestGone(self.console()) from None

    def until(
        self, condition: Any, seconds: float, what: str, command: Command | None = None
    ) -> None:
        """Read what the guest says until the condition holds."""
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.control, selectors.EVENT_READ)
            while not condition():
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    said = f"\nprinted: {command.text}" if command else ""
                    raise AssertionError(f"no {what} in {seconds} s{said}\n{self.console()}")
                self._read()

    def _read(self) -> None:
        try:
            chunk = self.control.recv(CHUNK)
        except OSError:
            chunk = b""
        if not chunk:
            raise GuestGone(self.console())
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for message in map(json.loads, lines):
            if "ready" in message:
                self._ready = True
                continue
            command = self._commands[message["of"]]
            command.text += message.get("out", "")
            command.status = message.get("status", command.status)


def built() -> Path:
    """The folder of kernel and root file system, which are built when they are not there.

    Raises AssertionError with the reason why they cannot be.
    """
    done = subprocess.run(
        [payload.ROOT / "scripts" / "guest"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILD_TIME,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@contextmanager
def booted(*disks: Disk, memory: int = 1024) -> Iterator[Guest]:
    """A guest for the body. memory: MiB."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="lh-guest-", dir="/var/tmp"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        payload.made(folder / "payload", folder / "tree")
        guest = _started(stack, folder, disks, memory)
        boots = 1
        while not _boots(guest):
            if boots == BOOTS or STALLED not in guest.console():
                raise AssertionError(f"no boot in {BOOT_TIME} s\n{guest.console()}")
            guest.kill()
            guest = _started(stack, folder, disks, memory)
            boots += 1
        yield guest
        guest.end()


def _started(stack: ExitStack, folder: Path, disks: Sequence[Disk], memory: int) -> Guest:
    """It boots; ended with the stack."""
    ours, its = socket.socketpair()
    stack.callback(ours.close)
    with its, (folder / "qemu").open("wb") as output:
        process = subprocess.Popen(
            _command(built(), folder, its.fileno(), disks, memory),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[its.fileno()],
            # Where QEMU writes what the guest changes of its root.
            env={**os.environ, "PATH": SEARCH_PATH, "TMPDIR": str(folder)},
            start_new_session=True,  # Ctrl-C is for the test, which ends it
        )
    guest = Guest(process, folder, ours)
    stack.callback(guest.kill)
    return guest


def _boots(guest: Guest) -> bool:
    """Wait until it has booted; False: it takes too long."""
    try:
        guest.until(lambda: guest._ready, BOOT_TIME, "boot")
    except GuestGone:
        said = (guest.folder / "qemu").read_text(errors="replace")
        raise AssertionError(f"it did not boot: {said}\n{guest.console()}") from None
    except AssertionError:
        return False
    return True


def _command(
    image: Path, folder: Path, control: int, disks: Sequence[Disk], memory: int
) -> list[str]:
    words = "console=ttyS0 root=/dev/nvme0n1 rootfstype=ext4 rw init=/sbin/vminit quiet panic=-1"
    append = f"{words} mitigations=off leasehold.root={payload.ROOT}"
    root = f"file={image / 'rootfs.ext4'},if=none,id=root,format=raw,snapshot=on,cache=unsafe"
    return [
        *("setpriv", "--pdeathsig", "KILL", "--"),
        *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-M", "q35"),
        *("-accel", "tcg,thread=multi", "-cpu", "qemu64", "-smp", "2", "-m", str(memory)),
        *("-display", "none", "-no-reboot", "-uuid", str(uuid.uuid4())),
        *("-chardev", f"file,id=console,path={folder / 'console'}", "-serial", "chardev:console"),
        *("-device", "virtio-serial-pci"),
        *("-chardev", f"socket,id=control,fd={control}"),
        *("-device", "virtserialport,chardev=control,name=control"),
        *("-chardev", f"file,id=report,path={folder / 'report'}"),
        *("-device", "virtserialport,chardev=report,name=report"),
        *("-kernel", str(image / "vmlinuz"), "-append", append),
        *("-drive", root, "-device", "nvme,drive=root,serial=root"),
        *Disk("payload", folder / "payload").options(),
        *(word for disk in disks for word in disk.options()),
    ]
